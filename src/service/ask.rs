//! Grants that people decide: asked for, found again by the same request, and, once people said yes, paid for. The
//! order is policy, people, quote, payment (DESIGN 12): a payment never stands in for people, nor people for a payment.

use serde_json::json;

use super::buy::{Bought, BuyAsk, IDEMPOTENCY_LIFE, Presented, again};
use super::caller::{Caller, Context};
use super::error::Error;
use super::offer::Deal;
use super::owner;
use super::propose::instance_approvers;
use super::purchase;
use super::{App, allowance};
use crate::base::id::{ApprovalId, GrantId, PrincipalId};
use crate::base::time::Ttl;
use crate::model::approval::{Approval, ApprovalState, Subject};
use crate::model::event::Event;
use crate::model::grant::{Asked, Grant, GrantState};
use crate::model::policy::GrantApproval;
use crate::model::scope::Name;
use crate::store::Tx;
use crate::store::nonces::IdempotencyOutcome;

/// How long a grant waits for people. Until they decide, its end is so much later than the life it will have.
const PATIENCE: Ttl = Ttl::from_mins(24 * 60);

/// Grants of one principal that may wait at once, so that nobody buries the approvers.
const MOST_WAITING: i64 = 20;

/// How long somebody waits who has too many open.
const LATER: Ttl = Ttl::from_secs(60);

/// What comes before any payment.
pub(super) enum Next {
    /// Nobody has to be asked.
    Unasked,
    /// People said yes; it is to be paid.
    Approved(Box<Grant>),
    /// The request was served before.
    Answered(Box<Bought>),
}

/// Sees to it that people have their say before anything is paid.
///
/// # Errors
/// [`Error::PendingApproval`] while they have not; [`Error::SignatureRequired`] when it is not known who asks.
pub(super) async fn people(
    app: &App,
    context: &Context,
    ask: &BuyAsk,
    deal: &Deal,
    presented: &Presented,
) -> Result<Next, Error> {
    if !deal.may_ask() {
        return Ok(Next::Unasked);
    }
    if matches!(context.caller, Caller::Anonymous) {
        return Err(Error::SignatureRequired);
    }
    let mut tx = app.store.begin().await?;
    let (principal, created) = owner::unpaid(app, &mut tx, context).await?;
    if let Some(id) = find(&mut tx, principal, presented).await? {
        drop(tx);
        return found(app, context, id).await;
    }
    if !asks(&mut tx, principal, deal).await? || purchase::was_tried(app, &mut tx, deal, presented).await? {
        return Ok(Next::Unasked);
    }
    if tx.grants_waiting(principal).await? >= MOST_WAITING {
        return Err(Error::RateLimited(LATER));
    }
    let events = created.into_iter().collect();
    Err(open(
        app,
        context,
        tx,
        events,
        &Question {
            ask,
            deal,
            presented,
            principal,
        },
    )
    .await?)
}

/// Whether people decide this for this principal.
async fn asks(tx: &mut Tx, principal: PrincipalId, deal: &Deal) -> Result<bool, Error> {
    for (item, approval) in deal.items.iter().zip(&deal.approvals) {
        let asks = match approval {
            GrantApproval::None => false,
            GrantApproval::Always => true,
            GrantApproval::First => !tx.granted_before(principal, &item.policy).await?,
        };
        if asks {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The grant that the same request asked for: by its idempotency key, or, without one, by its very content.
async fn find(tx: &mut Tx, principal: PrincipalId, presented: &Presented) -> Result<Option<GrantId>, Error> {
    let request = presented.request();
    let Some(key) = &presented.idempotency_key else {
        let found = tx.grant_by_request(principal, request).await?;
        return Ok(found.map(|stored| stored.unverified.id));
    };
    match tx.idempotency(&principal.to_string(), key).await? {
        None => Ok(None),
        Some((before, grant)) if before == request => Ok(Some(grant)),
        Some(_) => Err(Error::IdempotencyMismatch),
    }
}

async fn found(app: &App, context: &Context, id: GrantId) -> Result<Next, Error> {
    let mut tx = app.store.read().await?;
    let (stored, _) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    match grant.state {
        GrantState::PaymentRequired if grant.expires <= app.now() => Err(Error::GrantOver(GrantState::Expired)),
        GrantState::PaymentRequired => Ok(Next::Approved(Box::new(grant))),
        _ => Ok(Next::Answered(Box::new(again(app, context, id, None).await?))),
    }
}

/// What people are asked.
struct Question<'a> {
    ask: &'a BuyAsk,
    deal: &'a Deal,
    presented: &'a Presented,
    principal: PrincipalId,
}

impl Question<'_> {
    fn grant(&self, app: &App, context: &Context, approval: ApprovalId) -> Result<Grant, Error> {
        let now = app.now();
        Ok(Grant {
            id: GrantId::new(now, app.random.as_ref()),
            principal: self.principal,
            holder: self.ask.holder(context.key)?,
            payer: None,
            items: self.deal.items.clone(),
            audience: self.ask.audience.clone(),
            max_resolves: self.deal.max_resolves,
            state: GrantState::PendingApproval,
            created: now,
            expires: now.plus(PATIENCE).plus(self.deal.ttl),
            reason: self.ask.reason.chars().take(500).collect(),
            asked: Some(Asked {
                approval,
                life: self.deal.ttl,
                price: self.deal.price,
                request: self.presented.request(),
                pay_by: None,
            }),
        })
    }
}

/// Opens a request, with the caller's changes; answers what the requester is told.
async fn open(
    app: &App,
    context: &Context,
    mut tx: Tx,
    mut events: Vec<Event>,
    question: &Question<'_>,
) -> Result<Error, Error> {
    context.claim_nonce(&mut tx).await?;
    let now = app.now();
    let id = ApprovalId::new(now, app.random.as_ref());
    let grant = question.grant(app, context, id)?;
    let approval = Approval {
        id,
        subject: Subject::Grant {
            grant: grant.id,
            summary: summary(&grant),
            terms: grant.terms(),
        },
        requester: grant.principal,
        reason: grant.reason.clone(),
        approvers: approvers(app, &grant).await?,
        quorum: 1,
        state: ApprovalState::Pending,
        created: now,
        expires: now.plus(PATIENCE),
    };
    allowance::take(app, &mut tx, question.deal, &grant).await?;
    tx.insert_grant(&app.stored(grant.clone())?).await?;
    remember(&mut tx, app, &grant, question.presented).await?;
    tx.insert_approval(&app.stored(approval.clone())?).await?;
    let data = json!({
        "grant": grant.id, "summary": summary(&grant), "price": grant.price(), "approvers": approval.approvers,
        "reason": grant.reason,
    });
    events.push(app.event(context, "approval.requested", &approval.id, data));
    let _none = tx.commit(&events, &[]).await?;
    Ok(Error::PendingApproval {
        grant: grant.id,
        approval: approval.id,
    })
}

/// Lets the same request find the grant again.
async fn remember(tx: &mut Tx, app: &App, grant: &Grant, presented: &Presented) -> Result<(), Error> {
    let request = presented.request();
    let Some(key) = &presented.idempotency_key else {
        return Ok(tx.remember_request(grant.id, request).await?);
    };
    let (scope, until) = (grant.principal.to_string(), app.now().plus(IDEMPOTENCY_LIFE));
    match tx.remember_idempotency(&scope, key, request, grant.id, until).await? {
        IdempotencyOutcome::New => Ok(()),
        // Looked for in this very transaction, and not found.
        IdempotencyOutcome::Same(_) | IdempotencyOutcome::Other => Err(Error::IdempotencyMismatch),
    }
}

/// What it is, for how long, how often, for how much.
fn summary(grant: &Grant) -> String {
    let what: Vec<String> = grant
        .items
        .iter()
        .flat_map(|item| item.scopes.iter().map(|scope| format!("{}/{scope}", item.vendor)))
        .collect();
    let life = grant.asked.as_ref().map_or_else(Ttl::default, |asked| asked.life);
    let price = match grant.price() {
        Some(price) => format!("; the requester pays {price} once approved"),
        None => String::new(),
    };
    format!(
        "{} for {life}, up to {} resolves{price}",
        what.join(", "),
        grant.max_resolves
    )
}

/// Who decides a grant: those who approve for every policy in it that asks people.
async fn approvers(app: &App, grant: &Grant) -> Result<Vec<Name>, Error> {
    let mut names = instance_approvers(app).await?;
    for item in &grant.items {
        let in_force = app.policy_version(&item.policy, item.policy_version).await?;
        if in_force.policy.approval != GrantApproval::None {
            names.retain(|name| in_force.policy.approvers.from.contains(name));
        }
    }
    if names.is_empty() {
        return Err(Error::Conflict(
            "no one approver decides all of this; ask for each reference by itself".to_owned(),
        ));
    }
    Ok(names)
}

/// What a repeated request for a waiting grant is told.
pub(super) fn pending(grant: &Grant) -> Result<Error, Error> {
    let asked = grant.asked.as_ref().ok_or(Error::NotFound("approval"))?;
    Ok(Error::PendingApproval {
        grant: grant.id,
        approval: asked.approval,
    })
}

/// People's yes does not hold any more: what they agreed to is not what is there now. The same request asks them anew.
pub(super) async fn void(app: &App, mut grant: Grant) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let state = tx.grant(grant.id).await?.map(|(stored, _)| stored.unverified.state);
    if state != Some(GrantState::PaymentRequired) {
        return Ok(());
    }
    grant.state = GrantState::Failed;
    tx.update_grant(&app.stored(grant.clone())?).await?;
    let event = app.own_event("grant.failed", &grant.id, json!({ "grant": grant.id }));
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_grant(grant.id);
    Ok(())
}
