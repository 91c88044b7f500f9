//! Approving: signed verdicts over a digest, a quorum, and what then comes into force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::buy;
use super::caller::Context;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::gather::Gather;
use super::grant::{self, GrantView};
use crate::base::canonical::Digest;
use crate::base::id::{ApprovalId, GrantId, PrincipalId, ReviewId, base64url};
use crate::base::time::Timestamp;
use crate::httpsig;
use crate::model::approval::{Approval, ApprovalState, Review, Subject, Verdict, verdict_bytes};
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::policy::{PolicyState, PolicyVersion};
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::model::scope::Name;
use crate::policy::{self, Diff};
use crate::store::Tx;

/// An approval request as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ApprovalView {
    /// The id.
    pub id: ApprovalId,
    /// Always `approval`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Where it stands.
    pub state: ApprovalState,
    /// `policy` or `grant`.
    pub kind: String,
    /// What is asked for, in one line.
    pub summary: String,
    /// What a verdict must name.
    pub digest: Digest,
    /// Who asked.
    pub requester: PrincipalId,
    /// Why.
    pub reason: String,
    /// Whose verdicts count.
    pub approvers: Vec<Name>,
    /// How many must agree.
    pub quorum: i64,
    /// The verdicts so far.
    pub reviews: Vec<ReviewView>,
    /// The proposed file, for a policy.
    pub text: Option<String>,
    /// What changes, for a policy.
    pub diff: Option<Diff>,
    /// What would be granted, with its price, for a grant.
    pub grant: Option<GrantView>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends undecided.
    pub expires: Timestamp,
}

/// One verdict as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReviewView {
    /// Who.
    pub approver: Name,
    /// Yes or no.
    pub verdict: Verdict,
    /// Why.
    pub comment: String,
    /// The digest that was seen.
    pub digest: Digest,
    /// The key that signed.
    pub key: PublicKey,
    /// The signature, base64url.
    pub signature: String,
    /// When.
    pub created: Timestamp,
}

/// A verdict, signed by the approver's own key over approval, digest, verdict and comment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewAsk {
    /// Yes or no.
    pub verdict: Verdict,
    /// Why; a refusal needs it.
    #[serde(default)]
    pub comment: String,
    /// The digest the approver saw: 412 when the request is another by now.
    pub digest: Digest,
    /// Ed25519 over the verdict, base64url.
    pub signature: String,
}

/// People read every request, everybody else their own.
fn may_read(reader: &Principal, approval: &Approval) -> bool {
    reads_all(reader) || reader.id == approval.requester
}

const fn reads_all(reader: &Principal) -> bool {
    matches!(reader.kind, PrincipalKind::Human | PrincipalKind::Operator)
}

/// Requests, newest first: all for people, their own for others.
///
/// # Errors
/// [`Error::SignatureRequired`].
pub async fn list(
    app: &App,
    context: &Context,
    state: Option<ApprovalState>,
    page: &PageAsk,
) -> Result<List<ApprovalView>, Error> {
    let reader = context.caller.principal().ok_or(Error::SignatureRequired)?;
    let own = (!reads_all(reader)).then_some(reader.id);
    let mut found = Gather::page(page)?;
    while let Some(page) = found.next() {
        let mut tx = app.store.read().await?;
        let rows = tx.approvals(state, own, &page).await?;
        drop(tx);
        found.read(&page, &rows, |row| row.unverified.id.to_string());
        for row in rows {
            let entry = match app.authentic("approval", row).await {
                Ok(row) => view(app, row).await,
                Err(error) => Err(error),
            };
            found.add(entry)?;
        }
    }
    Ok(found.list())
}

/// One request, with the difference it would make.
///
/// # Errors
/// [`Error::NotFound`], [`Error::SignatureRequired`].
pub async fn show(app: &App, context: &Context, id: ApprovalId) -> Result<ApprovalView, Error> {
    let reader = context.caller.principal().ok_or(Error::SignatureRequired)?;
    let approval = load(app, id).await?;
    if !may_read(reader, &approval) {
        return Err(Error::NotFound("approval"));
    }
    view(app, approval).await
}

async fn load(app: &App, id: ApprovalId) -> Result<Approval, Error> {
    let mut tx = app.store.read().await?;
    let stored = tx.approval(id).await?.ok_or(Error::NotFound("approval"))?;
    drop(tx);
    app.authentic("approval", stored).await
}

/// Counts a verdict. The last one needed puts the subject in force in the same commit.
///
/// # Errors
/// [`Error::DigestMismatch`], [`Error::ApprovalClosed`], [`Error::SelfApproval`], [`Error::AlreadyVoted`],
/// [`Error::NotAllowed`], [`Error::Invalid`].
pub async fn review(app: &App, context: &Context, id: ApprovalId, ask: &ReviewAsk) -> Result<ApprovalView, Error> {
    let voter = context.caller.principal().ok_or(Error::SignatureRequired)?.clone();
    let approval = load(app, id).await?;
    let key = check(app, &approval, &voter, ask)?;
    let now = app.now();
    let review = Review {
        id: ReviewId::new(now, app.random.as_ref()),
        approval: id,
        principal: voter.id,
        name: voter.name.clone(),
        verdict: ask.verdict,
        comment: ask.comment.clone(),
        digest: ask.digest,
        key,
        signature: signature(ask)?,
        created: now,
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let current = tx.approval(id).await?.map(|stored| stored.unverified.state);
    if current != Some(ApprovalState::Pending) {
        return Err(Error::ApprovalClosed(current.unwrap_or(ApprovalState::Cancelled)));
    }
    if !tx.insert_review(&review).await? {
        return Err(Error::AlreadyVoted);
    }
    let data = json!({
        "approval": id, "by": voter.name, "verdict": ask.verdict, "comment": ask.comment,
        "digest": ask.digest, "key": review.key, "signature": ask.signature,
    });
    let events = vec![app.event(context, "approval.reviewed", &id, data)];
    count(app, context, tx, events, approval).await?;
    view(app, load(app, id).await?).await
}

fn check(app: &App, approval: &Approval, voter: &Principal, ask: &ReviewAsk) -> Result<PublicKey, Error> {
    if approval.state != ApprovalState::Pending || approval.expires <= app.now() {
        let state = if approval.state == ApprovalState::Pending {
            ApprovalState::Expired
        } else {
            approval.state
        };
        return Err(Error::ApprovalClosed(state));
    }
    if !voter.approver || !approval.approvers.contains(&voter.name) {
        return Err(Error::NotAllowed(format!(
            "`{}` is not among the approvers of this request",
            voter.name
        )));
    }
    if voter.id == approval.requester && !app.instance.solo {
        return Err(Error::SelfApproval);
    }
    let current = approval.subject.digest();
    if ask.digest != current {
        return Err(Error::DigestMismatch {
            given: ask.digest,
            current,
        });
    }
    if ask.comment.chars().count() > 2000 {
        return Err(Error::invalid("/comment", "a comment has at most 2000 characters"));
    }
    if ask.verdict == Verdict::Deny && ask.comment.trim().is_empty() {
        return Err(Error::invalid("/comment", "say why you deny it"));
    }
    let signature = signature(ask)?;
    let message = verdict_bytes(approval.id, ask.digest, ask.verdict, &ask.comment);
    let signed = voter
        .keys
        .iter()
        .find(|key| httpsig::verify_raw(key, &message, &signature));
    signed
        .copied()
        .ok_or_else(|| Error::invalid("/signature", "the signature is not yours over this verdict"))
}

fn signature(ask: &ReviewAsk) -> Result<Vec<u8>, Error> {
    data_encoding::BASE64URL_NOPAD
        .decode(ask.signature.as_bytes())
        .map_err(|_| Error::invalid("/signature", "a signature is base64url"))
}

/// What the verdicts so far come to. Every signature is checked again: the rows carry no MAC.
async fn count(
    app: &App,
    context: &Context,
    mut tx: Tx,
    mut events: Vec<Event>,
    mut approval: Approval,
) -> Result<(), Error> {
    let reviews = tx.reviews(approval.id).await?;
    let digest = approval.subject.digest();
    let mut yes = 0i64;
    let mut no = false;
    for review in &reviews {
        if !counts(app, &mut tx, &approval, review, digest).await? {
            continue;
        }
        match review.verdict {
            Verdict::Approve => yes = yes.saturating_add(1),
            Verdict::Deny => no = true,
        }
    }
    approval.state = match (no, yes >= approval.quorum) {
        (true, _) => ApprovalState::Denied,
        (false, true) => ApprovalState::Approved,
        (false, false) => {
            let _none = tx.commit(&events, &[]).await?;
            return Ok(());
        }
    };
    tx.update_approval(&app.stored(approval.clone())?).await?;
    let kind = if approval.state == ApprovalState::Approved {
        "approval.approved"
    } else {
        "approval.denied"
    };
    events.push(app.event(
        context,
        kind,
        &approval.id,
        json!({ "approval": approval.id, "digest": digest, "yes": yes }),
    ));
    decided(app, context, tx, events, approval).await
}

/// Whether a stored verdict is of an approver's present key over this digest.
async fn counts(app: &App, tx: &mut Tx, approval: &Approval, review: &Review, digest: Digest) -> Result<bool, Error> {
    let Some(stored) = tx.principal(review.principal).await? else {
        return Ok(false);
    };
    let Ok(principal) = app.authentic("principal", stored).await else {
        return Ok(false);
    };
    let message = verdict_bytes(approval.id, digest, review.verdict, &review.comment);
    let entitled = principal.approver && !principal.disabled && approval.approvers.contains(&principal.name);
    let own = app.instance.solo || principal.id != approval.requester;
    Ok(entitled
        && own
        && principal.keys.contains(&review.key)
        && httpsig::verify_raw(&review.key, &message, &review.signature))
}

async fn decided(
    app: &App,
    context: &Context,
    mut tx: Tx,
    mut events: Vec<Event>,
    approval: Approval,
) -> Result<(), Error> {
    let approved = approval.state == ApprovalState::Approved;
    match &approval.subject {
        Subject::Policy { .. } if approved => {
            events.push(activate(app, context, &mut tx, &approval).await?);
            let _none = tx.commit(&events, &[]).await?;
            app.control().forget_policies();
        }
        Subject::Grant { grant, terms, .. } if approved => {
            return approve_grant(app, context, tx, events, *grant, *terms).await;
        }
        Subject::Grant { .. } => {
            events.extend(let_go(app, &mut tx, &approval).await?);
            let _none = tx.commit(&events, &[]).await?;
        }
        Subject::Policy { .. } => {
            let _none = tx.commit(&events, &[]).await?;
        }
    }
    Ok(())
}

/// People said yes to a grant: a free one is made at once, a priced one waits for its payment.
async fn approve_grant(
    app: &App,
    context: &Context,
    mut tx: Tx,
    mut events: Vec<Event>,
    id: GrantId,
    terms: Digest,
) -> Result<(), Error> {
    let (stored, _) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    let mut row: Grant = app.authentic("grant", stored).await?;
    if row.state != GrantState::PendingApproval {
        return Err(Error::GrantOver(row.state));
    }
    let current = row.terms();
    let Some(asked) = row.asked.as_mut().filter(|_| current == terms) else {
        return Err(Error::DigestMismatch { given: terms, current });
    };
    let now = app.now();
    if asked.price.is_none() {
        row.expires = now.plus(asked.life);
        row.state = GrantState::Provisioning;
        tx.update_grant(&app.stored(row.clone())?).await?;
        return buy::provision_approved(app, context, tx, events, row).await;
    }
    row.expires = now.plus(app.payment_rules.pay_within);
    asked.pay_by = Some(row.expires);
    row.state = GrantState::PaymentRequired;
    tx.update_grant(&app.stored(row.clone())?).await?;
    let data = json!({ "grant": id, "price": row.price(), "pay_by": row.expires });
    events.push(app.event(context, "grant.payment_required", &id, data));
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(id);
    Ok(())
}

/// A policy version in force; the one before is replaced. Refused when prims' keys or the manifest changed since.
async fn activate(app: &App, context: &Context, tx: &mut Tx, approval: &Approval) -> Result<Event, Error> {
    let Subject::Policy {
        name,
        version,
        text,
        manifest,
        prim_keys,
    } = &approval.subject
    else {
        return Err(Error::internal("not a policy"));
    };
    let parsed = policy::parse(text, name.as_str()).map_err(|errors| Error::PolicyInvalid(Box::new(errors)))?;
    let pin = tx
        .manifest_pin(&parsed.vendor)
        .await?
        .map(|stored| stored.unverified.digest());
    let mut keys = Vec::with_capacity(prim_keys.len());
    for (prim, _) in prim_keys {
        let stored = tx.principal_by_name(prim).await?.ok_or(Error::NotFound("prim"))?;
        let principal = app.authentic("principal", stored).await?;
        keys.push((prim.clone(), principal.keys));
    }
    let now_digest = crate::model::policy::digest(name, *version, text, pin.unwrap_or(*manifest), &keys);
    if now_digest != approval.subject.digest() {
        return Err(Error::DigestMismatch {
            given: approval.subject.digest(),
            current: now_digest,
        });
    }
    let mut number = *version;
    if let Some(stored) = tx.active_policy(name).await? {
        let mut before = app.authentic("policy", stored).await?;
        if before.version >= number {
            number = before.version;
            return Err(Error::Conflict(format!(
                "version {number} of `{name}` is in force already; propose again"
            )));
        }
        before.state = PolicyState::Replaced;
        tx.update_policy(&app.stored(before)?).await?;
    }
    let row = PolicyVersion {
        name: name.clone(),
        version: number,
        text: text.clone(),
        manifest: *manifest,
        prim_keys: prim_keys.clone(),
        state: PolicyState::Active,
        approval: approval.id,
        activated: app.now(),
    };
    let digest = row.digest();
    tx.insert_policy(&app.stored(row)?).await?;
    Ok(app.event(
        context,
        "policy.activated",
        name,
        json!({ "policy": name, "version": number, "digest": digest, "approval": approval.id }),
    ))
}

/// Takes a request back; its requester may, and operators.
///
/// # Errors
/// [`Error::ApprovalClosed`], [`Error::NotAllowed`].
pub async fn cancel(app: &App, context: &Context, id: ApprovalId) -> Result<ApprovalView, Error> {
    let principal = context.caller.principal().ok_or(Error::SignatureRequired)?.clone();
    let mut approval = load(app, id).await?;
    if principal.id != approval.requester && principal.kind != PrincipalKind::Operator {
        return Err(Error::NotAllowed(
            "only its requester or an operator cancels a request".to_owned(),
        ));
    }
    if approval.state != ApprovalState::Pending {
        return Err(Error::ApprovalClosed(approval.state));
    }
    approval.state = ApprovalState::Cancelled;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let current = tx.approval(id).await?.map(|stored| stored.unverified.state);
    if current != Some(ApprovalState::Pending) {
        return Err(Error::ApprovalClosed(current.unwrap_or(ApprovalState::Cancelled)));
    }
    tx.update_approval(&app.stored(approval.clone())?).await?;
    let mut events = vec![app.event(context, "approval.cancelled", &id, json!({ "approval": id }))];
    events.extend(let_go(app, &mut tx, &approval).await?);
    let _none = tx.commit(&events, &[]).await?;
    view(app, approval).await
}

/// A request that ends without people's yes: what waited for it ends too.
pub(super) async fn let_go(app: &App, tx: &mut Tx, approval: &Approval) -> Result<Vec<Event>, Error> {
    let Subject::Grant { grant, .. } = &approval.subject else {
        return Ok(Vec::new());
    };
    let Some((stored, _)) = tx.grant(*grant).await? else {
        return Ok(Vec::new());
    };
    let mut row: Grant = app.vault.authenticate(stored).map_err(|_| Error::Forged("grant"))?;
    if row.state != GrantState::PendingApproval {
        return Ok(Vec::new());
    }
    row.state = GrantState::Failed;
    tx.update_grant(&app.stored(row)?).await?;
    app.control().forget_grant(*grant);
    Ok(vec![app.own_event("grant.failed", grant, json!({ "grant": grant }))])
}

async fn view(app: &App, approval: Approval) -> Result<ApprovalView, Error> {
    let mut tx = app.store.read().await?;
    let reviews = tx.reviews(approval.id).await?;
    let digest = approval.subject.digest();
    let mut shown = None;
    let (kind, summary, text, diff) = match &approval.subject {
        Subject::Grant { grant: id, summary, .. } => {
            if let Some((stored, resolves)) = tx.grant(*id).await? {
                let row = app.authentic("grant", stored).await?;
                shown = Some(grant::view(app, &row, resolves).await?);
            }
            ("grant", summary.clone(), None, None)
        }
        Subject::Policy {
            name, version, text, ..
        } => {
            let before = tx
                .policy_version(name, version.saturating_sub(1))
                .await?
                .map(|stored| stored.unverified.text);
            let diff = policy::diff(before.as_deref(), text);
            (
                "policy",
                format!("policy {name} version {version}"),
                Some(text.clone()),
                Some(diff),
            )
        }
    };
    drop(tx);
    Ok(ApprovalView {
        id: approval.id,
        object: "approval".to_owned(),
        livemode: app.livemode(),
        state: approval.state,
        kind: kind.to_owned(),
        summary,
        digest,
        requester: approval.requester,
        reason: approval.reason,
        approvers: approval.approvers,
        quorum: approval.quorum,
        reviews: reviews.into_iter().map(review_view).collect(),
        text,
        diff,
        grant: shown,
        created: approval.created,
        expires: approval.expires,
    })
}

fn review_view(review: Review) -> ReviewView {
    ReviewView {
        approver: review.name,
        verdict: review.verdict,
        comment: review.comment,
        digest: review.digest,
        key: review.key,
        signature: base64url(&review.signature),
        created: review.created,
    }
}
