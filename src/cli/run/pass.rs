//! The token that goes with each request of the program: narrowed to vendors, paths and minutes, and made anew from the
//! holder's own before it ends. It never reaches the program.

use std::sync::Arc;

use crate::base::id::GrantId;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::cli::failure::Failure;
use crate::client::token::{Narrowing, attenuate, inspect};
use crate::client::{Client, Request, secret};

/// Between two tries to get a fresh token.
const AGAIN: Ttl = Ttl::from_secs(15);

/// Makes tokens for one program.
pub(crate) struct Pass {
    narrowing: Narrowing,
    /// How long a narrowed token is good.
    span: Ttl,
    grant: GrantId,
    /// The token that was given carries no block of somebody's: a fresh one of its grant allows no more than it.
    renewable: bool,
    kept: tokio::sync::Mutex<Kept>,
}

struct Kept {
    base: SecretText,
    base_until: Timestamp,
    /// When the next fresh token is asked for.
    renew_at: Timestamp,
    narrow: Arc<SecretText>,
    narrow_until: Timestamp,
}

impl Pass {
    /// A pass that narrows `token` as `narrowing` says, for `span` at a time.
    ///
    /// # Errors
    /// A token that cannot be read or narrowed.
    pub(crate) fn new(token: SecretText, narrowing: Narrowing, span: Ttl, now: Timestamp) -> Result<Self, Failure> {
        let about = inspect(&token, None)?;
        let (narrow, narrow_until) = narrowed(&token, about.until, &narrowing, span, now)?;
        Ok(Self {
            narrowing,
            span,
            grant: about.grant,
            renewable: about.blocks.len() == 1 && about.holder.is_some(),
            kept: tokio::sync::Mutex::new(Kept {
                renew_at: halfway(now, about.until),
                base: token,
                base_until: about.until,
                narrow: Arc::new(narrow),
                narrow_until,
            }),
        })
    }

    /// The token to send now. `client` signs as the holder.
    ///
    /// # Errors
    /// The token cannot be narrowed. That no fresh one is to be had is no error while the old one is good.
    pub(crate) async fn token(&self, client: &Client, now: Timestamp) -> Result<Arc<SecretText>, Failure> {
        let mut kept = self.kept.lock().await;
        if self.renewable && now >= kept.renew_at {
            self.renew(&mut kept, client, now).await;
        }
        if kept.narrow_until.minus(halved(self.span)) <= now {
            self.narrow(&mut kept, now)?;
        }
        Ok(Arc::clone(&kept.narrow))
    }

    /// Another token than `refused`, after dekeys did not take that one; `None` when there is none.
    pub(crate) async fn another(
        &self,
        refused: &Arc<SecretText>,
        client: &Client,
        now: Timestamp,
    ) -> Option<Arc<SecretText>> {
        let mut kept = self.kept.lock().await;
        if Arc::ptr_eq(refused, &kept.narrow) {
            let renewed = self.renewable && self.renew(&mut kept, client, now).await;
            if !renewed || self.narrow(&mut kept, now).is_err() {
                return None;
            }
        }
        Some(Arc::clone(&kept.narrow))
    }

    fn narrow(&self, kept: &mut Kept, now: Timestamp) -> Result<(), Failure> {
        let (narrow, until) = narrowed(&kept.base, kept.base_until, &self.narrowing, self.span, now)?;
        kept.narrow = Arc::new(narrow);
        kept.narrow_until = until;
        Ok(())
    }

    /// Gets a fresh token; answers whether there is one.
    async fn renew(&self, kept: &mut Kept, client: &Client, now: Timestamp) -> bool {
        kept.renew_at = now.plus(AGAIN);
        let request = Request::post(&["v1", "grants", &self.grant.to_string(), "tokens"]);
        let Ok(reply) = client.send(&request).await else {
            return false;
        };
        let Some(token) = secret::at(&reply.json(), "/token") else {
            return false;
        };
        let Ok(about) = inspect(&token, None) else { return false };
        kept.base = token;
        kept.base_until = about.until;
        kept.renew_at = halfway(now, about.until).max(now.plus(AGAIN));
        kept.narrow_until = now;
        true
    }
}

fn narrowed(
    base: &SecretText,
    base_until: Timestamp,
    narrowing: &Narrowing,
    span: Ttl,
    now: Timestamp,
) -> Result<(SecretText, Timestamp), Failure> {
    let until = now.plus(span).min(base_until);
    let narrowing = Narrowing {
        until: Some(until),
        ..narrowing.clone()
    };
    Ok((attenuate(base, &narrowing)?, until))
}

fn halfway(now: Timestamp, until: Timestamp) -> Timestamp {
    now.plus(halved(until.since(now)))
}

fn halved(span: Ttl) -> Ttl {
    Ttl::from_millis(span.as_millis() / 2)
}
