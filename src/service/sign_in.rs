//! A wallet that signs in (x402 `sign-in-with-x`) gets back what it paid for: it lists, shows and ends those grants, has
//! fresh tokens of them, and pays by its credit. It is no principal: what else its owner may do needs the owner's key.

use url::Url;

use super::App;
use super::buy::{self, Bought, Presented};
use super::caller::{Caller, Context, Parts};
use super::error::Error;
use crate::model::grant::GrantState;
use crate::payment::{self, SIGN_IN_WITH_X};

/// The wallet that a request proves, CAIP-10. Its nonce is claimed here, whatever the request does: the signature says
/// for which path it is, not for which act, so it counts once. Nothing is kept for wallets that never paid here.
///
/// # Errors
/// [`Error::SignIn`] for a header that does not fit; [`Error::Unauthenticated`] for one that was used.
pub(super) async fn wallet(app: &App, parts: &Parts<'_>) -> Result<Option<String>, Error> {
    let mut values = parts.headers.get_all(SIGN_IN_WITH_X).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let Some((_, terms)) = app.rail.as_ref() else {
        return Ok(None);
    };
    let single = value.to_str().ok().filter(|_| values.next().is_none());
    let unverified = single.ok_or(Error::SignIn("it is not one header of plain text"))?;
    let own = Url::parse(&app.public_url).map_err(Error::internal)?;
    let signed =
        payment::sign_in(unverified, terms, &own, parts.path, app.now()).map_err(|error| Error::SignIn(error.0))?;
    let mut tx = app.store.read().await?;
    let paid = tx.has_paid(&signed.wallet).await?;
    let owner = tx.principal_by_wallet(&signed.wallet).await?;
    drop(tx);
    if owner.is_some_and(|owner| owner.unverified.disabled) {
        return Err(Error::Unauthenticated);
    }
    if paid {
        let mut tx = app.store.begin().await?;
        if !tx.claim_nonce(&signed.wallet, &signed.nonce, signed.until).await? {
            return Err(Error::Unauthenticated);
        }
        let _none = tx.commit(&[], &[]).await?;
    }
    Ok(Some(signed.wallet))
}

/// What the wallet paid for by this very request and still has, with a fresh token: nobody pays twice for it.
///
/// # Errors
/// As [`buy::again`].
pub(super) async fn bought_before(
    app: &App,
    context: &Context,
    presented: &Presented,
) -> Result<Option<Bought>, Error> {
    let Caller::Wallet(wallet) = &context.caller else {
        return Ok(None);
    };
    let mut tx = app.store.read().await?;
    let Some(stored) = tx.paid_by_request(wallet, presented.request()).await? else {
        return Ok(None);
    };
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    if grant.state != GrantState::Active || grant.expires <= app.now() {
        return Ok(None);
    }
    buy::again(app, context, grant.id, None).await.map(Some)
}
