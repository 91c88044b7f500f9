//! Tokens: introspected, ended, and the feed of what ended.

use futures_util::stream;
use serde_json::json;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::stream::{Message, events};
use crate::model::revocation::STATEMENT_HEADER;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::feed::{self, FeedAsk, FeedMessage, Follower, SignedPage};
use crate::service::introspect::{self, TokenAsk};
use crate::service::revoke_token;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "introspectToken" => introspect(app, context, input).await,
        "revokeToken" => revoke(app, context, input).await,
        "listRevocations" => revocations(app, context, input).await,
        other => Err(unknown(other)),
    }
}

const FIELDS: &[&str] = &["token", "token_type_hint"];

pub(super) async fn introspect(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: TokenAsk = input.form_or_json(FIELDS)?;
    Answer::json(200, &introspect::introspect(app, context, &ask).await?)
}

/// The same answer whether there was such a token or not (RFC 7009 §2.2).
pub(super) async fn revoke(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: TokenAsk = input.form_or_json(FIELDS)?;
    revoke_token::revoke(app, context, &ask).await?;
    Ok(Answer::value(200, &json!({})))
}

/// The feed: a page with its tag and the statement about it, also when nothing changed (304); or a stream.
pub(super) async fn revocations(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let mut ask: FeedAsk = input.query(&["after", "limit"])?;
    if input.wants_events() {
        let came = input.header("last-event-id").pop();
        ask.after = came.and_then(|id| id.parse().ok()).or(ask.after);
        return stream_of(app, context, ask);
    }
    let page = feed::page(app, context, ask).await?;
    let tag = format!("\"{}\"", page.digest);
    let known = input.header("if-none-match").iter().any(|tags| has_tag(tags, &tag));
    let answer = if known {
        Answer::raw(304, Vec::new())
    } else {
        Answer::raw(200, page.body.into_bytes())
    };
    Ok(answer
        .with("etag", tag)
        .with(STATEMENT_HEADER, page.statement)
        .with("cache-control", "private, no-cache"))
}

/// Whether a list of tags has this one; `W/` before it does not matter here (RFC 9110 §13.1.2).
fn has_tag(tags: &str, tag: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

fn stream_of(app: &App, context: &Context, ask: FeedAsk) -> Result<Answer, Refused> {
    feed::may_read(context)?;
    let follower = Follower::new(app.clone(), ask.after.unwrap_or(0).max(0));
    let messages = stream::unfold(follower, |follower| async {
        let (page, follower) = follower.next().await?;
        Some((message(page), follower))
    });
    events(app, context, messages)
}

fn message(page: SignedPage) -> Message {
    let told = FeedMessage {
        page: page.body,
        statement: page.statement,
    };
    Message {
        id: page.next.to_string(),
        event: "revocations".to_owned(),
        data: serde_json::to_string(&told).unwrap_or_default(),
    }
}
