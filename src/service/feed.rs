//! The revocation feed: what ended early, signed and dated, for those who check tokens without asking.
//!
//! A page is read from the log itself (DESIGN 21), so no instance is behind another. The statement beside it is dated
//! before the page is read, and covers its bytes: whoever follows the feed need not trust the way it came, and knows how
//! old what it knows is. Not protected: a server that leaves out what is on record. The log's checkpoints show that.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::App;
use super::caller::{Caller, Context};
use super::error::Error;
use crate::audit;
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::Event;
use crate::model::revocation::{Ended, Revocation, RevocationPage, RevocationStatement, STATEMENT_TYPE};
use crate::store::events::EventRow;

/// No token lives longer (60 minutes); what ended one before that matters to nobody. With some minutes for clocks that
/// differ and for events that waited for their commit.
const WINDOW: Ttl = Ttl::from_mins(65);

/// Most revocations of one page.
const MOST: i64 = 1000;

/// How often a stream looks for news, and says that there are none.
const LOOK: Duration = Duration::from_millis(500);

/// Where to begin, and how much to read.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedAsk {
    /// After this place: the `next` of the page before. From the beginning if absent.
    pub after: Option<i64>,
    /// At most so many, 1 to 1000.
    pub limit: Option<i64>,
}

/// A page and what the log says about it.
pub struct SignedPage {
    /// The page as JSON, byte for byte as it was signed.
    pub body: String,
    /// SHA-256 of the body in base64url: the page's tag.
    pub digest: String,
    /// The statement, a compact JWS.
    pub statement: String,
    /// Where the next page begins.
    pub next: i64,
    /// Whether more is there already.
    pub has_more: bool,
}

/// One message of the feed as a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeedMessage {
    /// The page, as text: its bytes are what the statement is about.
    pub page: String,
    /// The statement.
    pub statement: String,
}

/// Refuses whom the feed is not for: it is for everybody enrolled.
///
/// # Errors
/// [`Error::SignatureRequired`], [`Error::Unauthenticated`].
pub fn may_read(context: &Context) -> Result<(), Error> {
    match &context.caller {
        Caller::Principal(_) => Ok(()),
        Caller::Anonymous => Err(Error::SignatureRequired),
        Caller::Key(_) | Caller::Wallet(_) => Err(Error::Unauthenticated),
    }
}

/// One page.
///
/// # Errors
/// As [`may_read`]; [`Error::Invalid`]; [`Error::Sealed`]; the store's.
pub async fn page(app: &App, context: &Context, ask: FeedAsk) -> Result<SignedPage, Error> {
    may_read(context)?;
    let after = ask.after.unwrap_or(0);
    if after < 0 {
        return Err(Error::invalid("/after", "a place on the chain is not negative"));
    }
    let limit = ask.limit.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::invalid("/limit", format!("read 1 to {MOST} at once")));
    }
    read(app, after, limit).await
}

async fn read(app: &App, after: i64, limit: i64) -> Result<SignedPage, Error> {
    let opened = app.opened()?;
    app.refuse_wrong_clock()?;
    // The date comes first: what ends while the page is read may be missing from it.
    let now = app.now();
    let mut tx = app.store.read().await?;
    let (head, _) = tx.chain_head().await?;
    // A place this database has not reached is one of another: begin anew.
    let after = if after > head { 0 } else { after };
    let rows = tx
        .revocations(after, now.minus(WINDOW), limit.saturating_add(1))
        .await?;
    tx.end().await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > most;
    let data: Vec<Revocation> = rows.iter().take(most).filter_map(revocation).collect();
    let next = rows.iter().take(most).next_back().map_or(after, |row| row.n);
    let page = RevocationPage {
        object: "revocations".to_owned(),
        instance: opened.instance.id,
        incarnation: opened.instance.incarnation,
        after,
        next,
        has_more,
        data,
    };
    let body = serde_json::to_string(&page).map_err(Error::internal)?;
    let digest = BASE64URL_NOPAD.encode(&Sha256::digest(body.as_bytes()));
    let statement = RevocationStatement {
        iss: opened.instance.id,
        iat: now.as_secs(),
        now: now.as_millis(),
        digest: digest.clone(),
    };
    let statement = audit::state(opened.published_key(now), STATEMENT_TYPE, &statement);
    Ok(SignedPage {
        body,
        digest,
        statement: statement.ok_or_else(|| Error::internal("a statement could not be written"))?,
        next,
        has_more,
    })
}

/// What an event ended. One that ended nothing anybody could hold is left out.
fn revocation(row: &EventRow) -> Option<Revocation> {
    let event: Event = serde_json::from_str(&row.body).ok()?;
    let text = |name: &str| event.data.get(name).and_then(Value::as_str);
    let kind = match event.kind.as_str() {
        "token.revoked" => Ended::Token,
        "grant.revoked" => Ended::Grant,
        "lease.revoked" => Ended::Lease,
        _ => return None,
    };
    let (id, until) = match kind {
        Ended::Token => (
            text("revocation_id")?.to_owned(),
            text("until").and_then(Timestamp::parse_rfc3339)?,
        ),
        Ended::Grant | Ended::Lease => (event.object.clone(), row.at.plus(WINDOW)),
    };
    Some(Revocation {
        n: row.n,
        kind,
        id,
        at: row.at,
        until,
    })
}

/// Follows the feed for a stream: what is there, then what comes, and every half second that nothing came.
pub struct Follower {
    app: App,
    after: i64,
    waits: bool,
}

impl Follower {
    /// Begins after `after`. The caller has passed [`may_read`].
    #[must_use]
    pub const fn new(app: App, after: i64) -> Self {
        Self {
            app,
            after,
            waits: false,
        }
    }

    /// The next page; `None` when the stream must end and its reader come back.
    pub async fn next(mut self) -> Option<(SignedPage, Self)> {
        if self.waits {
            tokio::time::sleep(LOOK).await;
        }
        match read(&self.app, self.after, MOST).await {
            Ok(page) => {
                self.after = page.next;
                self.waits = !page.has_more;
                Some((page, self))
            }
            Err(error) => {
                tracing::debug!(%error, "a stream of revocations ends");
                None
            }
        }
    }
}
