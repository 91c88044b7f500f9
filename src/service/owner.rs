//! Whom a grant belongs to, and whom a wallet may pay for. A signature says who asks. A payment says who pays: like cash
//! it proves nobody, unless its payer bound it to the request (`payment::Binding`).
//!
//! Not protected: an unbound payment of a wallet that nobody is on record with, stolen before it was claimed here.
//! Whoever shows it first has the one grant it pays for, and nothing else of that wallet's.

use serde_json::json;

use super::App;
use super::buy::Order;
use super::caller::{Caller, Context};
use super::error::Error;
use crate::base::canonical::Digest;
use crate::base::id::PrincipalId;
use crate::model::event::Event;
use crate::model::grant::Grant;
use crate::model::payment::Purchase;
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::store::Tx;

/// Whom the grant will belong to, known or not: who signed; unsigned, who pays.
pub(super) async fn of_order(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    order: &Order,
) -> Result<(PrincipalId, Option<Event>), Error> {
    let payer = payer(app, tx, context, order).await?;
    if context.key.is_none()
        && context.caller.principal().is_none()
        && let Some(wallet) = &order.wallet
    {
        return match payer {
            Some(payer) => Ok((payer.id, None)),
            None => stranger(app, tx, context, None, Some(wallet)).await,
        };
    }
    let proved = order.wallet.as_deref().filter(|_| order.bound && payer.is_none());
    of_signer(app, tx, context, proved).await
}

/// Whom a grant will belong to that is not paid yet: who signed.
pub(super) async fn unpaid(app: &App, tx: &mut Tx, context: &Context) -> Result<(PrincipalId, Option<Event>), Error> {
    of_signer(app, tx, context, None).await
}

/// `wallet` comes on record with a signer who is new.
async fn of_signer(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    wallet: Option<&str>,
) -> Result<(PrincipalId, Option<Event>), Error> {
    if let Caller::Principal(principal) = &context.caller {
        return Ok((principal.id, None));
    }
    let key = context.key.ok_or(Error::SignatureRequired)?;
    match tx.principal_by_key(&key).await? {
        None => stranger(app, tx, context, Some(key), wallet).await,
        Some(stored) => {
            let principal = app.authentic("principal", stored).await?;
            if principal.disabled {
                return Err(Error::Unauthenticated);
            }
            Ok((principal.id, None))
        }
    }
}

/// Who is on record with the wallet that pays. Whoever has keys pays for those alone, unless the payment is bound: its
/// signature does not say for whom it was meant.
///
/// # Errors
/// [`Error::PaymentConflict`] where it was not meant for this; [`Error::Unauthenticated`] when the payer is disabled.
pub(super) async fn payer(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    order: &Order,
) -> Result<Option<Principal>, Error> {
    let Some(wallet) = &order.wallet else { return Ok(None) };
    let Some(stored) = tx.principal_by_wallet(wallet).await? else {
        return Ok(None);
    };
    let payer = app.authentic("principal", stored).await?;
    if payer.disabled {
        return Err(Error::Unauthenticated);
    }
    let own = match &context.caller {
        Caller::Principal(principal) => principal.id == payer.id,
        Caller::Key(_) => false,
        Caller::Wallet(own) => own == wallet,
        Caller::Anonymous => order.ask.public_key.is_some_and(|key| payer.keys.contains(&key)),
    };
    if own || order.bound || payer.keys.is_empty() {
        Ok(Some(payer))
    } else {
        Err(Error::PaymentConflict)
    }
}

/// Whether a payment that came to nothing was for the same holder as now, and the same owner, or that holder signs.
/// Others may have seen it meanwhile, and a body that names no holder fits every signer.
pub(super) async fn same(
    tx: &mut Tx,
    before: &Purchase,
    now: &Grant,
    signer: Option<PublicKey>,
) -> Result<bool, Error> {
    let failed = tx.grant(before.grant).await?.map(|(stored, _)| stored.unverified);
    Ok(failed.is_some_and(|failed| {
        let holder_signs = signer.is_some() && signer == failed.holder;
        failed.holder == now.holder && (failed.principal == now.principal || holder_signs)
    }))
}

/// Somebody new. Only what was proved comes on record.
async fn stranger(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    key: Option<PublicKey>,
    wallet: Option<&str>,
) -> Result<(PrincipalId, Option<Event>), Error> {
    let now = app.now();
    let identity = key.map_or_else(|| wallet.unwrap_or_default().to_owned(), |key| key.to_string());
    let digest = Digest::of(identity.as_bytes()).to_string();
    let name = format!("agent-{}", digest.get(3..19).unwrap_or_default());
    let principal = Principal {
        id: PrincipalId::new(now, app.random.as_ref()),
        name: name.parse().map_err(Error::internal)?,
        kind: PrincipalKind::Agent,
        keys: key.into_iter().collect(),
        wallets: wallet.map(str::to_owned).into_iter().collect(),
        approver: false,
        disabled: false,
        created: now,
    };
    tx.insert_principal(&app.stored(principal.clone())?).await?;
    let data =
        json!({ "name": principal.name, "kind": "agent", "wallets": principal.wallets, "public_keys": principal.keys });
    let event = app.event(context, "principal.created", &principal.id, data);
    Ok((principal.id, Some(event)))
}
