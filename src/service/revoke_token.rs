//! Ending one token (RFC 7009): the block it ends with, and so every token that was narrowed from it.
//!
//! Whoever has a token may end it: who found it in a log need not ask its owner. A prim ends with it no more than what
//! it was given, since its last block is the one that was added for the prim. The grant and its keys go on; ending those
//! is `POST /v1/grants/{id}/revoke`.

use serde_json::json;

use super::App;
use super::caller::{Caller, Context};
use super::decision::look_at;
use super::error::Error;
use super::introspect::TokenAsk;
use crate::base::time::Ttl;
use crate::model::claims::Claims;
use crate::model::policy::Rate;

/// Tokens of one grant that may be ended in a minute: each leaves a row, and narrowing makes as many as one likes.
const OF_A_GRANT: Rate = Rate {
    count: 60,
    per: Ttl::from_mins(1),
};

/// How much longer than the token its end is remembered: instances share no clock.
const CLOCKS_DIFFER: Ttl = Ttl::from_mins(1);

/// Ends a token now, on every instance: each release reads the ends in its own transaction. A token that is none, or is
/// over, is no error.
///
/// # Errors
/// [`Error::SignatureRequired`], [`Error::RateLimited`], [`Error::Busy`].
pub async fn revoke(app: &App, context: &Context, ask: &TokenAsk) -> Result<(), Error> {
    if matches!(context.caller, Caller::Anonymous) {
        return Err(Error::SignatureRequired);
    }
    let token = ask.token.clone();
    let claims = look_at(app, move |verifier| {
        verifier
            .parse(token.trim())
            .ok()
            .map(|verified| verified.claims().clone())
    });
    match claims.await? {
        Some(claims) if claims.expires > app.now() => end(app, context, &claims).await,
        _ => Ok(()),
    }
}

async fn end(app: &App, context: &Context, claims: &Claims) -> Result<(), Error> {
    let Some(id) = claims.revocation_ids.last() else {
        return Ok(());
    };
    let mut tx = app.store.begin().await?;
    if tx.token_revoked(&claims.revocation_ids).await?.is_some() {
        return Ok(());
    }
    let now = app.now();
    if let Some(wait) = tx
        .take_rate(&format!("revoke/{}", claims.grant), OF_A_GRANT, now)
        .await?
    {
        return Err(Error::RateLimited(wait));
    }
    context.claim_nonce(&mut tx).await?;
    let until = claims.expires.plus(CLOCKS_DIFFER);
    tx.revoke_token(id, until, now).await?;
    let data = json!({
        "grant": claims.grant,
        "revocation_id": id,
        "block": claims.revocation_ids.len().saturating_sub(1),
        "until": until,
    });
    let event = app.event(context, "token.revoked", &claims.grant, data);
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}
