//! Principals: enrolled by an operator, with keys made on their own side.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::error::Error;
use super::gather::Gather;
use crate::base::id::PrincipalId;
use crate::base::time::Timestamp;
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::model::scope::Name;
use crate::store::Page;

/// A principal as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PrincipalView {
    /// The id.
    pub id: PrincipalId,
    /// Always `principal`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// The unique name.
    pub name: Name,
    /// The kind.
    pub kind: PrincipalKind,
    /// Public keys.
    pub public_keys: Vec<PublicKey>,
    /// Wallets, CAIP-10.
    pub wallets: Vec<String>,
    /// May approve.
    pub approver: bool,
    /// `active` or `disabled`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A principal to be made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollAsk {
    /// The name it will have.
    pub name: Name,
    /// What it is. Operators and approvers are enrolled by `dekeys init`; humans here cannot approve.
    pub kind: PrincipalKind,
    /// Its public keys.
    pub public_keys: Vec<PublicKey>,
    /// Its wallets, CAIP-10.
    #[serde(default)]
    pub wallets: Vec<String>,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct List<T> {
    /// Always `list`.
    pub object: String,
    /// The entries, newest first.
    pub data: Vec<T>,
    /// Whether older ones follow.
    pub has_more: bool,
    /// How many are left out because their rows are not authentic: somebody wrote to the database, and the event
    /// `security.forged_row` tells of it. Absent when there are none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_none(omitted: &usize) -> bool {
    *omitted == 0
}

impl<T> List<T> {
    /// A page out of one entry more than wanted.
    #[must_use]
    pub fn page(mut data: Vec<T>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Self {
            object: "list".to_owned(),
            data,
            has_more,
            omitted: 0,
        }
    }

    /// A list that is told whole.
    #[must_use]
    pub fn whole(data: Vec<T>) -> Self {
        Self::page(data, i64::MAX)
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageAsk {
    /// 1 to 100; 20 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// The id after which to go on.
    pub starting_after: Option<String>,
}

impl PageAsk {
    /// How many the caller wants.
    ///
    /// # Errors
    /// [`Error::Invalid`] outside 1 to 100.
    pub fn limit(&self) -> Result<i64, Error> {
        let limit = self.limit.unwrap_or(20);
        if (1..=100).contains(&limit) {
            Ok(limit)
        } else {
            Err(Error::invalid("/limit", "limit is 1 to 100"))
        }
    }

    /// The store's page: one more than wanted, to learn whether more follow.
    ///
    /// # Errors
    /// As [`PageAsk::limit`].
    pub fn page(&self) -> Result<Page, Error> {
        Ok(Page {
            limit: self.limit()?.saturating_add(1),
            after: self.starting_after.clone(),
        })
    }
}

/// Makes a principal.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::Conflict`] for a name or key that exists.
pub async fn enroll(app: &App, context: &Context, ask: EnrollAsk) -> Result<PrincipalView, Error> {
    context.operator()?;
    if ask.public_keys.is_empty() && ask.wallets.is_empty() {
        return Err(Error::invalid(
            "/public_keys",
            "a principal needs a public key or a wallet",
        ));
    }
    let wallets = wallets(&ask.wallets)?;
    let now = app.now();
    let principal = Principal {
        id: PrincipalId::new(now, app.random.as_ref()),
        name: ask.name,
        kind: ask.kind,
        keys: ask.public_keys,
        wallets,
        approver: false,
        disabled: false,
        created: now,
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    refuse_taken(&mut tx, &principal).await?;
    tx.insert_principal(&app.stored(principal.clone())?).await?;
    let data = serde_json::json!({ "name": principal.name, "kind": principal.kind, "public_keys": principal.keys });
    let event = app.event(context, "principal.created", &principal.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_principals();
    Ok(view(app, &principal))
}

/// Wallets as payments name them: `eip155:CHAIN:0x…`, lower case. What is none would never match, unnoticed.
fn wallets(given: &[String]) -> Result<Vec<String>, Error> {
    let mut wallets = Vec::with_capacity(given.len());
    for (at, wallet) in given.iter().enumerate() {
        let wallet = wallet.to_lowercase();
        let mut parts = wallet.split(':');
        let digits =
            |part: &str| !part.is_empty() && part.len() <= 32 && part.bytes().all(|byte| byte.is_ascii_digit());
        let address = |part: &str| {
            part.strip_prefix("0x")
                .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        let good = parts.next() == Some("eip155")
            && parts.next().is_some_and(digits)
            && parts.next().is_some_and(address)
            && parts.next().is_none();
        if !good || wallets.contains(&wallet) {
            let why = "a wallet is `eip155:CHAIN:0x` and 40 hexadecimal digits, and stands here once";
            return Err(Error::invalid(&format!("/wallets/{at}"), why));
        }
        wallets.push(wallet);
    }
    Ok(wallets)
}

async fn refuse_taken(tx: &mut crate::store::Tx, principal: &Principal) -> Result<(), Error> {
    if tx.principal_by_name(&principal.name).await?.is_some() {
        return Err(Error::Conflict(format!(
            "there is a principal named `{}`",
            principal.name
        )));
    }
    for key in &principal.keys {
        if tx.principal_by_key(key).await?.is_some() {
            return Err(Error::Conflict(format!("key `{key}` belongs to another principal")));
        }
    }
    for wallet in &principal.wallets {
        if tx.principal_by_wallet(wallet).await?.is_some() {
            return Err(Error::Conflict(format!(
                "wallet `{wallet}` belongs to another principal"
            )));
        }
    }
    Ok(())
}

/// The principals, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators and humans.
pub async fn list(app: &App, context: &Context, page: &PageAsk) -> Result<List<PrincipalView>, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let mut found = Gather::page(page)?;
    while let Some(page) = found.next() {
        let mut tx = app.store.read().await?;
        let rows = tx.principals(None, &page).await?;
        drop(tx);
        found.read(&page, &rows, |row| row.unverified.id.to_string());
        for row in rows {
            found.add(app.authentic("principal", row).await.map(|row| view(app, &row)))?;
        }
    }
    Ok(found.list())
}

/// One principal.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn show(app: &App, context: &Context, id: PrincipalId) -> Result<PrincipalView, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    Ok(view(app, &app.principal(id).await?))
}

/// Who the caller is.
///
/// # Errors
/// [`Error::SignatureRequired`].
pub fn whoami(app: &App, context: &Context) -> Result<PrincipalView, Error> {
    let principal = context.caller.principal().ok_or(Error::SignatureRequired)?;
    Ok(view(app, principal))
}

/// Shuts a principal out: it proves nothing any more, its grants and leases end.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`]; [`Error::Conflict`] for the operator that asks.
pub async fn disable(
    app: &App,
    context: &Context,
    id: PrincipalId,
    reason: Option<&str>,
) -> Result<PrincipalView, Error> {
    let operator: &Arc<Principal> = context.operator()?;
    if operator.id == id {
        return Err(Error::Conflict("you cannot disable yourself".to_owned()));
    }
    let mut principal = app.principal(id).await?;
    if principal.disabled {
        // Again: what a first time could not end is ended now.
        super::grant::claim(app, context).await?;
        super::end::end_all_of(app, context, &principal).await?;
        return Ok(view(app, &principal));
    }
    principal.disabled = true;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    tx.update_principal(&app.stored(principal.clone())?).await?;
    let event = app.event(
        context,
        "principal.disabled",
        &id,
        serde_json::json!({ "name": principal.name, "reason": reason }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_principals();
    app.decisions().clear();
    super::end::end_all_of(app, context, &principal).await?;
    Ok(view(app, &principal))
}

pub(super) fn view(app: &App, principal: &Principal) -> PrincipalView {
    PrincipalView {
        id: principal.id,
        object: "principal".to_owned(),
        livemode: app.livemode(),
        name: principal.name.clone(),
        kind: principal.kind,
        public_keys: principal.keys.clone(),
        wallets: principal.wallets.clone(),
        approver: principal.approver,
        state: if principal.disabled { "disabled" } else { "active" }.to_owned(),
        created: principal.created,
    }
}
