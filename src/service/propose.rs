//! Policies: proposed as a file, shown with what would change, in force only after approval (DESIGN 11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::control::in_force;
use super::enroll::List;
use super::error::Error;
use super::gather::Gather;
use crate::base::canonical::Digest;
use crate::base::id::ApprovalId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::approval::{Approval, ApprovalState, Subject};
use crate::model::policy::{Policy, PolicyState, PolicyVersion};
use crate::model::principal::{PrincipalKind, PublicKey};
use crate::model::scope::{Name, Reference};
use crate::policy::{self, Ask, Diff, Explanation, VendorFacts};
use crate::store::Page;
use crate::vendor::Manifest;

/// How long a proposal waits for verdicts.
const PATIENCE: Ttl = Ttl::from_mins(7 * 24 * 60);

/// A policy as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PolicyView {
    /// Always `policy`.
    pub object: String,
    /// The name.
    pub name: Name,
    /// The version.
    pub version: i64,
    /// What approvers signed.
    pub digest: Digest,
    /// Whether it is in force.
    pub state: PolicyState,
    /// The vendor.
    pub vendor: Name,
    /// The file.
    pub text: String,
    /// The approval that put it in force.
    pub approval: ApprovalId,
    /// When.
    pub activated: Timestamp,
}

/// A file to look at or to propose.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposeAsk {
    /// The policy file, TOML.
    pub text: String,
    /// Why, for the approvers.
    #[serde(default)]
    pub reason: String,
}

/// What a proposal would change, and whether it could be made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Proposal {
    /// Always `policy_proposal`.
    pub object: String,
    /// The policy.
    pub name: Name,
    /// The version it would become.
    pub version: i64,
    /// What approvers will sign.
    pub digest: Digest,
    /// What changes.
    pub diff: Diff,
    /// What stands against it, or should be known.
    pub findings: Vec<policy::Finding>,
    /// The approval request, once proposed.
    pub approval: Option<ApprovalId>,
}

struct Drafted {
    policy: Policy,
    version: i64,
    manifest: Digest,
    prim_keys: Vec<(Name, Vec<PublicKey>)>,
    approvers: Vec<Name>,
    quorum: i64,
    diff: Diff,
    findings: Vec<policy::Finding>,
    /// Manifest and prims' keys are those of the version in force.
    unmoved: bool,
}

/// Looks at a file without keeping it.
///
/// # Errors
/// [`Error::PolicyInvalid`] with exact positions.
pub async fn validate(app: &App, context: &Context, ask: &ProposeAsk) -> Result<Proposal, Error> {
    context.require(&[
        PrincipalKind::Operator,
        PrincipalKind::Human,
        PrincipalKind::Agent,
        PrincipalKind::Prim,
    ])?;
    let draft = draft(app, &ask.text).await?;
    Ok(proposal(&draft, &ask.text, None))
}

/// Proposes a file: opens an approval request.
///
/// # Errors
/// [`Error::PolicyInvalid`], [`Error::PolicyUnfit`], [`Error::VendorNotConnected`], [`Error::Conflict`] for a prim or
/// approver that does not exist, or an unchanged file.
pub async fn propose(app: &App, context: &Context, ask: &ProposeAsk) -> Result<Proposal, Error> {
    let requester = context.require(&[
        PrincipalKind::Operator,
        PrincipalKind::Human,
        PrincipalKind::Agent,
        PrincipalKind::Prim,
    ])?;
    let draft = draft(app, &ask.text).await?;
    if !draft.findings.is_empty() {
        return Err(Error::PolicyUnfit(draft.findings));
    }
    if draft.unmoved && draft.diff.changes.is_empty() && draft.diff.unified.is_empty() {
        return Err(Error::Conflict(format!(
            "policy `{}` is in force with this very text",
            draft.policy.name
        )));
    }
    let now = app.now();
    let subject = Subject::Policy {
        name: draft.policy.name.clone(),
        version: draft.version,
        text: ask.text.clone(),
        manifest: draft.manifest,
        prim_keys: draft.prim_keys.clone(),
    };
    let approval = Approval {
        id: ApprovalId::new(now, app.random.as_ref()),
        subject,
        requester: requester.id,
        reason: ask.reason.chars().take(500).collect(),
        approvers: draft.approvers.clone(),
        quorum: draft.quorum,
        state: ApprovalState::Pending,
        created: now,
        expires: now.plus(PATIENCE),
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    tx.insert_approval(&app.stored(approval.clone())?).await?;
    let data = json!({
        "policy": draft.policy.name, "version": draft.version, "digest": approval.subject.digest(),
        "by": requester.name, "reason": approval.reason, "approvers": approval.approvers, "quorum": approval.quorum,
    });
    let event = app.event(context, "approval.requested", &approval.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    Ok(proposal(&draft, &ask.text, Some(approval.id)))
}

fn proposal(draft: &Drafted, text: &str, approval: Option<ApprovalId>) -> Proposal {
    let digest = crate::model::policy::digest(
        &draft.policy.name,
        draft.version,
        text,
        draft.manifest,
        &draft.prim_keys,
    );
    Proposal {
        object: "policy_proposal".to_owned(),
        name: draft.policy.name.clone(),
        version: draft.version,
        digest,
        diff: draft.diff.clone(),
        findings: draft.findings.clone(),
        approval,
    }
}

async fn draft(app: &App, text: &str) -> Result<Drafted, Error> {
    let policy = policy::parse(text, "policy.toml").map_err(|errors| Error::PolicyInvalid(Box::new(errors)))?;
    let (manifest, digest) = app.manifest(&policy.vendor).await?;
    let findings = policy::validate(&policy, &facts(&manifest));
    let mut tx = app.store.read().await?;
    let versions = tx.policy_versions(&policy.name).await?;
    drop(tx);
    let version = versions
        .iter()
        .map(|stored| stored.unverified.version)
        .max()
        .unwrap_or(0)
        .saturating_add(1);
    let mut current: Option<PolicyVersion> = None;
    for stored in versions
        .into_iter()
        .filter(|stored| stored.unverified.state == PolicyState::Active)
    {
        current = Some(app.authentic("policy", stored).await?);
    }
    let prim_keys = prim_keys(app, &policy).await?;
    check_approvers(app, &policy).await?;
    let basis = (digest, prim_keys.as_slice());
    let (approvers, quorum) = judges(app, current.as_ref(), &policy, basis).await?;
    let diff = policy::diff(current.as_ref().map(|version| version.text.as_str()), text);
    let unmoved = current
        .as_ref()
        .is_some_and(|version| version.manifest == digest && version.prim_keys == prim_keys);
    Ok(Drafted {
        unmoved,
        policy,
        version,
        manifest: digest,
        prim_keys,
        approvers,
        quorum,
        diff,
        findings,
    })
}

/// What the policy engine needs to know of a vendor.
pub(super) fn facts(manifest: &Manifest) -> VendorFacts {
    let facts = manifest.facts();
    let vendor_expiry = facts.vendor_expiry();
    VendorFacts {
        scopes: facts.scopes,
        class: facts.class,
        can_mint: facts.can_mint,
        is_static: facts.is_static,
        resale_forbidden: facts.resale == crate::vendor::Resale::Forbidden,
        adequate_evidence: facts.evidence != crate::vendor::Evidence::Draft,
        vendor_expiry,
        has_cap: facts.has_cap,
    }
}

async fn prim_keys(app: &App, policy: &Policy) -> Result<Vec<(Name, Vec<PublicKey>)>, Error> {
    let mut all = Vec::new();
    for name in policy.reveal.iter().flat_map(|reveal| &reveal.prims) {
        let principal = app.principal_named(name).await?;
        let prim = principal.filter(|principal| principal.kind == PrincipalKind::Prim && !principal.disabled);
        let prim = prim.ok_or_else(|| Error::Conflict(format!("there is no prim named `{name}`; enroll it first")))?;
        all.push((name.clone(), prim.keys));
    }
    Ok(all)
}

async fn check_approvers(app: &App, policy: &Policy) -> Result<(), Error> {
    for name in &policy.approvers.from {
        let found = app
            .principal_named(name)
            .await?
            .filter(|principal| principal.approver && !principal.disabled);
        if found.is_none() {
            return Err(Error::Conflict(format!("`{name}` is not an approver of this instance")));
        }
    }
    Ok(())
}

/// Who judges: the approvers of the version in force; the instance's for a first version and for changes of the
/// approvers themselves, of prims or their keys, and of the vendor or its manifest (DESIGN 11).
async fn judges(
    app: &App,
    current: Option<&PolicyVersion>,
    next: &Policy,
    (manifest, prim_keys): (Digest, &[(Name, Vec<PublicKey>)]),
) -> Result<(Vec<Name>, i64), Error> {
    let unmoved = |version: &&PolicyVersion| version.manifest == manifest && version.prim_keys == prim_keys;
    if let Some(version) = current.filter(unmoved) {
        let policy = policy::parse(&version.text, version.name.as_str())
            .map_err(|errors| Error::PolicyInvalid(Box::new(errors)))?;
        if policy.approvers == next.approvers && policy.vendor == next.vendor {
            return Ok((policy.approvers.from, policy.approvers.quorum));
        }
    }
    Ok((instance_approvers(app).await?, app.instance.quorum))
}

/// Everybody who may approve in this instance.
pub(super) async fn instance_approvers(app: &App) -> Result<Vec<Name>, Error> {
    let mut tx = app.store.read().await?;
    let rows = tx
        .principals(
            None,
            &Page {
                limit: 1000,
                after: None,
            },
        )
        .await?;
    drop(tx);
    let mut names = Vec::new();
    for row in rows
        .into_iter()
        .filter(|row| row.unverified.approver && !row.unverified.disabled)
    {
        names.push(app.authentic("principal", row).await?.name);
    }
    names.sort();
    Ok(names)
}

/// The name a policy file gives itself.
///
/// # Errors
/// [`Error::PolicyInvalid`].
pub fn name_of(text: &str) -> Result<Name, Error> {
    policy::parse(text, "policy.toml")
        .map(|policy| policy.name)
        .map_err(|errors| Error::PolicyInvalid(Box::new(errors)))
}

/// The policies in force.
///
/// # Errors
/// [`Error::NotAllowed`] for strangers.
pub async fn list(app: &App, context: &Context) -> Result<List<PolicyView>, Error> {
    known(context)?;
    let mut tx = app.store.read().await?;
    let rows = tx.active_policies().await?;
    drop(tx);
    let mut found = Gather::whole();
    for row in rows {
        let version = app.authentic("policy", row).await.and_then(in_force);
        found.add(version.map(|in_force| view(&in_force.version, &in_force.policy)))?;
    }
    Ok(found.list())
}

/// A policy: the version in force, or a given one.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn show(app: &App, context: &Context, name: &Name, version: Option<i64>) -> Result<PolicyView, Error> {
    known(context)?;
    if let Some(version) = version {
        let in_force = app.policy_version(name, version).await?;
        return Ok(view(&in_force.version, &in_force.policy));
    }
    let policies = app.policies().await?;
    let found = policies
        .iter()
        .find(|in_force| in_force.policy.name == *name)
        .ok_or(Error::NotFound("policy"))?;
    Ok(view(&found.version, &found.policy))
}

fn known(context: &Context) -> Result<(), Error> {
    context.caller.principal().map(drop).ok_or(Error::SignatureRequired)
}

fn view(version: &PolicyVersion, policy: &Policy) -> PolicyView {
    PolicyView {
        object: "policy".to_owned(),
        name: version.name.clone(),
        version: version.version,
        digest: version.digest(),
        state: version.state,
        vendor: policy.vendor.clone(),
        text: version.text.clone(),
        approval: version.approval,
        activated: version.activated,
    }
}

/// Whom and what to explain.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainAsk {
    /// What would be asked for.
    pub reference: Reference,
    /// For how long; 15 minutes if absent.
    pub ttl: Option<Ttl>,
    /// How many resolves; 1 if absent.
    pub max_resolves: Option<i64>,
    /// Which principal would ask; the caller if absent.
    pub principal: Option<Name>,
    /// Which wallet would pay, CAIP-10.
    pub wallet: Option<String>,
}

/// Says which rule of which policy would decide a request.
///
/// # Errors
/// [`Error::NotFound`] for an unknown principal, [`Error::SignatureRequired`].
pub async fn explain(app: &App, context: &Context, ask: &ExplainAsk) -> Result<Explanation, Error> {
    let caller = context.caller.principal().ok_or(Error::SignatureRequired)?;
    let principal = match &ask.principal {
        None => caller.as_ref().clone(),
        Some(name) => app.principal_named(name).await?.ok_or(Error::NotFound("principal"))?,
    };
    let policies = app.policies().await?;
    let of_vendor: Vec<_> = policies
        .iter()
        .filter(|in_force| in_force.policy.vendor == ask.reference.vendor)
        .map(|in_force| (in_force.policy.clone(), in_force.version.version))
        .collect();
    let mut wallets = principal.wallets.clone();
    wallets.extend(ask.wallet.clone());
    Ok(policy::explain(
        &of_vendor,
        &Ask {
            kind: principal.kind,
            name: Some(&principal.name),
            known: true,
            wallets: &wallets,
            vendor: &ask.reference.vendor,
            scope: &ask.reference.scope,
            ttl: ask.ttl.unwrap_or(Ttl::from_mins(15)),
            max_resolves: ask.max_resolves.unwrap_or(1),
            audience: &[],
        },
    ))
}
