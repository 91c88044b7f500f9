//! Grants: seen, renewed, revoked, and fresh tokens for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::{Caller, Context};
use super::end;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::gather::Gather;
use super::{receipt, unspent};
use crate::base::id::{GrantId, PrincipalId, ReceiptId};
use crate::base::money::Money;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::Stored;
use crate::model::grant::{Grant, GrantItem, GrantState};
use crate::model::policy::GrantApproval;
use crate::model::principal::{PrincipalKind, PublicKey};
use crate::model::scope::Name;
use crate::store::grants::GrantFilter;
use crate::token::{self, MintAsk};

/// The longest life of a token; a fresh one is free.
const TOKEN_LIFE: Ttl = Ttl::from_mins(60);

/// A grant as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GrantView {
    /// The id.
    pub id: GrantId,
    /// Always `grant`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Where it stands.
    pub state: GrantState,
    /// Whom it belongs to.
    pub principal: PrincipalId,
    /// The key its holder signs with.
    pub holder: Option<PublicKey>,
    /// `holder` or `bearer`: what its tokens promise.
    pub class: String,
    /// That promise, in words.
    pub promise: String,
    /// What it allows.
    pub items: Vec<GrantItem>,
    /// Prims its tokens are for.
    pub audience: Vec<Name>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; while it waits for its payment, when that comes too late.
    pub expires: Timestamp,
    /// Its limits.
    pub limits: GrantLimits,
    /// What it costs, where people decide it first.
    pub price: Option<Money>,
    /// The receipt of its purchase.
    pub receipt: Option<ReceiptId>,
}

/// The limits of a grant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GrantLimits {
    /// Most resolves.
    pub max_resolves: i64,
    /// What is left of them.
    pub remaining_resolves: i64,
}

/// A token, to be written into an answer once.
pub struct Minted {
    /// The token.
    pub token: SecretText,
    /// When it ends.
    pub expires: Timestamp,
}

/// Mints a token for a live grant.
///
/// # Errors
/// [`Error::GrantOver`], [`Error::Sealed`].
pub fn mint(app: &App, grant: &Grant) -> Result<Minted, Error> {
    let opened = app.opened()?;
    let now = app.now();
    if grant.state != GrantState::Active {
        return Err(Error::GrantOver(grant.state));
    }
    // Tokens know whole seconds: one of less than a second would be over before it is read.
    if grant.expires.as_secs() <= now.as_secs() {
        return Err(Error::GrantOver(GrantState::Expired));
    }
    let expires = grant.expires.min(now.plus(TOKEN_LIFE));
    let rights: Vec<_> = grant
        .items
        .iter()
        .flat_map(|item| item.scopes.iter().map(|scope| (item.vendor.clone(), scope.clone())))
        .collect();
    let ask = MintAsk {
        instance: opened.instance.id,
        mode: opened.instance.mode,
        grant: grant.id,
        principal: grant.principal,
        holder: grant.holder,
        rights: &rights,
        audience: &grant.audience,
        now,
        expires,
    };
    let token = token::mint(&opened.roots, &ask).map_err(Error::internal)?;
    Ok(Minted { token, expires })
}

/// Whether the caller may manage a grant: its holder's key, its owner, or an operator. Others learn nothing.
pub(super) fn managed_by(context: &Context, grant: &Grant) -> bool {
    let holder = context.key.is_some() && context.key == grant.holder;
    let principal = context.caller.principal();
    let paid = matches!(&context.caller, Caller::Wallet(wallet) if grant.payer.as_ref() == Some(wallet));
    holder
        || paid
        || principal
            .is_some_and(|principal| principal.id == grant.principal || principal.kind == PrincipalKind::Operator)
}

/// Whether the caller is who a grant's tokens are for: its holder's key, its owner where it names no holder, or the wallet
/// that paid it: a token that names a holder is of use to that one alone. An
/// operator may end a grant, not use it.
pub(super) fn held_by(context: &Context, grant: &Grant) -> bool {
    if let Caller::Wallet(wallet) = &context.caller {
        return grant.payer.as_ref() == Some(wallet);
    }
    match grant.holder {
        Some(_) => context.key == grant.holder,
        None => context
            .caller
            .principal()
            .is_some_and(|principal| principal.id == grant.principal),
    }
}

/// A grant the caller may manage, read anew.
pub(super) async fn managed(app: &App, context: &Context, id: GrantId) -> Result<(Grant, i64), Error> {
    if matches!(context.caller, Caller::Anonymous) {
        return Err(Error::SignatureRequired);
    }
    let mut tx = app.store.read().await?;
    let (stored, resolves) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    if managed_by(context, &grant) {
        Ok((grant, resolves))
    } else {
        Err(Error::NotFound("grant"))
    }
}

/// One grant.
///
/// # Errors
/// [`Error::NotFound`] also for somebody else's.
pub async fn show(app: &App, context: &Context, id: GrantId) -> Result<GrantView, Error> {
    let (grant, resolves) = managed(app, context, id).await?;
    view(app, &grant, resolves).await
}

/// The caller's grants, newest first: those of a principal, those a key holds, all for an operator.
///
/// # Errors
/// [`Error::SignatureRequired`].
pub async fn list(app: &App, context: &Context, page: &PageAsk) -> Result<List<GrantView>, Error> {
    let filter = match &context.caller {
        Caller::Anonymous => return Err(Error::SignatureRequired),
        Caller::Key(key) => GrantFilter {
            holder: Some(*key),
            ..GrantFilter::default()
        },
        Caller::Wallet(wallet) => GrantFilter {
            payer: Some(wallet.clone()),
            ..GrantFilter::default()
        },
        Caller::Principal(principal) if principal.kind == PrincipalKind::Operator => GrantFilter::default(),
        Caller::Principal(principal) => GrantFilter {
            principal: Some(principal.id),
            ..GrantFilter::default()
        },
    };
    let mut found = Gather::page(page)?;
    while let Some(page) = found.next() {
        let mut tx = app.store.read().await?;
        let rows = tx.grants(&filter, &page).await?;
        drop(tx);
        found.read(&page, &rows, |row| row.unverified.id.to_string());
        for row in rows {
            found.add(listed(app, row).await)?;
        }
    }
    Ok(found.list())
}

async fn listed(app: &App, stored: Stored<Grant>) -> Result<GrantView, Error> {
    let grant = app.authentic("grant", stored).await?;
    let resolves = resolves(app, grant.id).await?;
    view(app, &grant, resolves).await
}

async fn resolves(app: &App, id: GrantId) -> Result<i64, Error> {
    let mut tx = app.store.read().await?;
    Ok(tx.grant(id).await?.map_or(0, |(_, resolves)| resolves))
}

pub(super) async fn view(app: &App, grant: &Grant, resolves: i64) -> Result<GrantView, Error> {
    let mut tx = app.store.read().await?;
    let receipt = tx
        .receipt_of_grant(grant.id)
        .await?
        .and_then(|json| receipt::id_of(&json));
    drop(tx);
    let over = grant.state == GrantState::Active && grant.expires <= app.now();
    Ok(GrantView {
        id: grant.id,
        object: "grant".to_owned(),
        livemode: app.livemode(),
        state: if over { GrantState::Expired } else { grant.state },
        principal: grant.principal,
        holder: grant.holder,
        class: if grant.holder.is_some() { "holder" } else { "bearer" }.to_owned(),
        promise: promise(grant).to_owned(),
        items: grant.items.clone(),
        audience: grant.audience.clone(),
        created: grant.created,
        expires: grant.expires,
        limits: GrantLimits {
            max_resolves: grant.max_resolves,
            remaining_resolves: grant.max_resolves.saturating_sub(resolves).max(0),
        },
        price: grant.price(),
        receipt,
    })
}

/// What the tokens of a grant are worth to a thief: said wherever one is given.
const fn promise(grant: &Grant) -> &'static str {
    match grant.holder {
        Some(_) => "A token of this grant is of use only with signatures by its holder's key.",
        None => {
            "Whoever has a token of this grant can use it, without any key, through the proxy where its policy says \
                 `bearer`. It counts its uses, ends soon, and is refused everywhere else."
        }
    }
}

/// A fresh token for a live grant, free of charge; its holder signs.
///
/// # Errors
/// [`Error::NotFound`], [`Error::GrantOver`], [`Error::SignatureRequired`]; [`Error::NotAllowed`] for an owner or
/// operator without the holder's key.
pub async fn fresh_token(app: &App, context: &Context, id: GrantId) -> Result<(GrantView, Minted), Error> {
    let (grant, resolves) = managed(app, context, id).await?;
    if !held_by(context, &grant) {
        return Err(Error::NotAllowed(
            "a token is minted for the grant's holder alone; sign with the holder's key".to_owned(),
        ));
    }
    app.refuse_while_reconciling()?;
    app.refuse_wrong_clock()?;
    let minted = mint(app, &grant)?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let event = app.event(
        context,
        "token.minted",
        &grant.id,
        json!({ "grant": grant.id, "expires": minted.expires }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    Ok((view(app, &grant, resolves).await?, minted))
}

/// Ends a grant: no token of it works any more, its keys are ended at their vendors.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// What was ended: a grant's or lease's id.
    pub id: String,
    /// `grant` or `lease`.
    pub object: String,
    /// `revoked`, or `revoking` while a vendor has still to confirm.
    pub state: String,
    /// How many keys it had.
    pub credentials: usize,
    /// Whether every key is dead at its vendor.
    pub confirmed: bool,
}

/// Why something is ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndAsk {
    /// For the record.
    pub reason: Option<String>,
}

/// Ends a grant now.
///
/// # Errors
/// [`Error::NotFound`], [`Error::GrantOver`] when it ended before.
pub async fn revoke(app: &App, context: &Context, id: GrantId, ask: &EndAsk) -> Result<Ended, Error> {
    let (grant, _) = managed(app, context, id).await?;
    if grant.state == GrantState::Revoked {
        unspent::settle(app, id).await;
        let mut tx = app.store.read().await?;
        let keys = tx.credentials_of_grant(id).await?;
        return Ok(ended(
            id.to_string(),
            "grant",
            0,
            keys.iter().all(|key| key.state.is_final()),
        ));
    }
    if !grant.state.may_become(GrantState::Revoked) {
        return Err(Error::GrantOver(grant.state));
    }
    claim(app, context).await?;
    let credentials = end::revoke_grant(app, context, id, ask.reason.as_deref()).await?;
    let confirmed = end::end_now(app, &credentials).await;
    Ok(ended(id.to_string(), "grant", credentials.len(), confirmed))
}

pub(super) fn ended(id: String, object: &str, credentials: usize, confirmed: bool) -> Ended {
    let state = if confirmed { "revoked" } else { "revoking" }.to_owned();
    Ended {
        id,
        object: object.to_owned(),
        state,
        credentials,
        confirmed,
    }
}

/// Claims the nonce of an act whose effect goes through the writer's reserved lane.
pub(super) async fn claim(app: &App, context: &Context) -> Result<(), Error> {
    if context.nonce.is_none() {
        return Ok(());
    }
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// How much longer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewAsk {
    /// The new life, counted from now; the policy's longest if absent.
    pub ttl: Option<Ttl>,
}

/// Prolongs a free grant within what its policy now allows. A priced one is bought anew.
///
/// # Errors
/// [`Error::GrantOver`], [`Error::PolicyNotApproved`], [`Error::Conflict`] for a priced grant.
pub async fn renew(app: &App, context: &Context, id: GrantId, ask: &RenewAsk) -> Result<GrantView, Error> {
    let (mut grant, resolves) = managed(app, context, id).await?;
    if grant.state != GrantState::Active || grant.expires <= app.now() {
        return Err(Error::GrantOver(if grant.state == GrantState::Active {
            GrantState::Expired
        } else {
            grant.state
        }));
    }
    let references: Vec<_> = grant
        .items
        .iter()
        .flat_map(|item| {
            let vendor = item.vendor.clone();
            item.scopes.iter().map(move |scope| crate::model::scope::Reference {
                vendor: vendor.clone(),
                scope: scope.clone(),
            })
        })
        .collect();
    let wanted = super::offer::Wanted {
        references: &references,
        ttl: ask.ttl,
        max_resolves: Some(grant.max_resolves),
        audience: &grant.audience,
        wallet: grant.payer.as_deref(),
    };
    let deal = super::offer::deal(app, context, &wanted).await?;
    if let Some(price) = deal.price {
        return Err(Error::Conflict(format!(
            "renewing costs {price}; buy a new grant with POST /v1/grants"
        )));
    }
    if deal.approvals.contains(&GrantApproval::Always) {
        return Err(Error::Conflict(
            "people decide each grant under this policy; ask for a new one with POST /v1/grants".to_owned(),
        ));
    }
    let same = |item: &GrantItem| grant.items.iter().any(|own| own.policy == item.policy);
    if !deal.items.iter().all(same) {
        return Err(Error::Conflict(
            "another policy would allow this now; ask for a new grant with POST /v1/grants".to_owned(),
        ));
    }
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    // Between the look and here it may have ended, or been prolonged further.
    let (stored, _) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    grant = app.vault.authenticate(stored).map_err(|_| Error::Forged("grant"))?;
    if grant.state != GrantState::Active {
        return Err(Error::GrantOver(grant.state));
    }
    grant.expires = grant.expires.max(app.now().plus(deal.ttl));
    tx.update_grant(&app.stored(grant.clone())?).await?;
    let event = app.event(
        context,
        "grant.renewed",
        &id,
        json!({ "grant": id, "expires": grant.expires }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_grant(id);
    app.decisions().forget_grant(id);
    view(app, &grant, resolves).await
}
