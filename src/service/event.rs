//! Events as they are told to others. List, stream and webhook have one envelope. Operators and humans are told
//! everything; others hear of their own grants, leases, payments and requests, and no more of those than they can see
//! elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::App;
use super::caller::{Caller, Context};
use super::error::Error;
use super::grant::managed_by;
use crate::base::id::{ApprovalId, EventId, GrantId, LeaseId, RequestId};
use crate::base::time::Timestamp;
use crate::model::event::Event;
use crate::model::principal::PrincipalKind;
use crate::store::events::EventRow;

/// An event as others are told.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventNotice {
    /// The id: the same wherever and however often it is told.
    pub id: EventId,
    /// What happened: `lease.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub timestamp: Timestamp,
    /// Whether this instance is live.
    pub livemode: bool,
    /// The thing it happened to as `id` and `object`, and facts. Never a secret.
    pub data: Map<String, Value>,
    /// Who did it: a principal's id, a wallet or `dekeys`. Absent where that is somebody else's affair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The request that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Its place in the log, from 1 without gaps: its leaf in the tree, and one. Others see only theirs.
    pub sequence: i64,
}

/// Facts that whoever owns the thing may be told. What is not here (keys at the vendor, root credentials, people's
/// comments) is for operators and humans.
const OWN_FACTS: [&str; 24] = [
    "amount",
    "approval",
    "asset",
    "budget",
    "code",
    "credential",
    "expires",
    "grant",
    "item",
    "items",
    "lease",
    "limit",
    "network",
    "policy",
    "prim",
    "purchase",
    "reason",
    "state",
    "summary",
    "transaction",
    "unchanged",
    "used",
    "vendor",
    "version",
];

/// Nouns whose events concern somebody besides operators and humans.
const OWN_NOUNS: [&str; 7] = ["grant", "lease", "payment", "receipt", "token", "approval", "budget"];

/// Reads a row of the log as what is told of it.
///
/// # Errors
/// [`Error::Internal`] for a row that is no event.
pub fn notice(row: &EventRow) -> Result<EventNotice, Error> {
    let event: Event = serde_json::from_str(&row.body).map_err(Error::internal)?;
    let mut data = Map::new();
    data.insert("id".to_owned(), Value::String(event.object.clone()));
    data.insert("object".to_owned(), Value::from(noun(&event)));
    if let Value::Object(facts) = event.data {
        data.extend(facts);
    }
    Ok(EventNotice {
        id: event.id,
        kind: event.kind,
        timestamp: event.timestamp,
        livemode: event.livemode,
        data,
        actor: Some(event.actor),
        request_id: event.request_id,
        sequence: row.n,
    })
}

/// What the thing is, by its id.
fn noun(event: &Event) -> String {
    let prefix = event.object.split_once('_').map_or("", |(prefix, _)| prefix);
    match prefix {
        "apr" => "approval",
        "cred" => "credential",
        "grt" => "grant",
        "ins" => "instance",
        "lea" => "lease",
        "pri" => "principal",
        "pur" => "payment",
        "rcp" => "receipt",
        "root" => "root_credential",
        "whe" => "webhook",
        _ => event.kind.split('.').next().unwrap_or_default(),
    }
    .to_owned()
}

/// What a caller may be told.
#[derive(Clone)]
pub struct Sight {
    context: Context,
    all: bool,
}

impl Sight {
    /// The caller's.
    ///
    /// # Errors
    /// [`Error::SignatureRequired`] for strangers.
    pub fn of(context: &Context) -> Result<Self, Error> {
        let all = match &context.caller {
            Caller::Anonymous => return Err(Error::SignatureRequired),
            Caller::Key(_) | Caller::Wallet(_) => false,
            Caller::Principal(principal) => {
                matches!(principal.kind, PrincipalKind::Operator | PrincipalKind::Human)
            }
        };
        Ok(Self {
            context: context.clone(),
            all,
        })
    }

    /// What the caller is told of an event; `None` when it is none of theirs.
    ///
    /// # Errors
    /// The store's; [`Error::Sealed`].
    pub async fn told(&self, app: &App, row: &EventRow) -> Result<Option<EventNotice>, Error> {
        let notice = notice(row)?;
        if self.all {
            return Ok(Some(notice));
        }
        Ok(self.concerns(app, &notice).await?.then(|| self.reduced(notice)))
    }

    async fn concerns(&self, app: &App, notice: &EventNotice) -> Result<bool, Error> {
        let noun = notice.kind.split('.').next().unwrap_or_default();
        let own_id = self
            .context
            .caller
            .principal()
            .map(|principal| principal.id.to_string());
        if noun == "principal" {
            return Ok(own_id.as_deref() == text(notice, "id"));
        }
        if !OWN_NOUNS.contains(&noun) {
            return Ok(false);
        }
        if notice.actor.as_deref() == Some(self.context.caller.actor().as_str()) {
            return Ok(true);
        }
        if own_id.is_some() && (own_id.as_deref() == text(notice, "prim") || self.holds_lease(app, notice).await?) {
            return Ok(true);
        }
        if noun == "approval" && self.asked(app, notice).await? {
            return Ok(true);
        }
        self.owns_grant(app, notice).await
    }

    async fn owns_grant(&self, app: &App, notice: &EventNotice) -> Result<bool, Error> {
        let Some(id) = id::<GrantId>(notice, "grant") else {
            return Ok(false);
        };
        match app.grant(id).await {
            Ok(grant) => Ok(managed_by(&self.context, &grant)),
            Err(Error::NotFound(_) | Error::Forged(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn holds_lease(&self, app: &App, notice: &EventNotice) -> Result<bool, Error> {
        let principal = self.context.caller.principal();
        let Some(prim) = principal.filter(|principal| principal.kind == PrincipalKind::Prim) else {
            return Ok(false);
        };
        let Some(id) = id::<LeaseId>(notice, "lease") else {
            return Ok(false);
        };
        let mut tx = app.store.read().await?;
        Ok(tx.lease(id).await?.is_some_and(|lease| lease.prim == prim.id))
    }

    async fn asked(&self, app: &App, notice: &EventNotice) -> Result<bool, Error> {
        let (Some(principal), Some(id)) = (self.context.caller.principal(), id::<ApprovalId>(notice, "approval"))
        else {
            return Ok(false);
        };
        let mut tx = app.store.read().await?;
        let row = tx.approval(id).await?;
        drop(tx);
        match row {
            None => Ok(false),
            Some(stored) => match app.authentic("approval", stored).await {
                Ok(approval) => Ok(approval.requester == principal.id),
                Err(Error::Forged(_)) => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Only what the owner may be told, and nobody else's name.
    fn reduced(&self, mut notice: EventNotice) -> EventNotice {
        let known = |name: &str| name == "id" || name == "object" || OWN_FACTS.contains(&name);
        notice.data.retain(|name, _| known(name));
        let own = self.context.caller.actor();
        notice.actor = notice
            .actor
            .filter(|actor| *actor == own || actor == super::record::SELF);
        if notice.actor.as_deref() != Some(own.as_str()) {
            notice.request_id = None;
        }
        notice
    }
}

fn text<'a>(notice: &'a EventNotice, name: &str) -> Option<&'a str> {
    notice.data.get(name).and_then(Value::as_str)
}

/// An id of this kind: the thing itself, or the fact of this name.
fn id<T: std::str::FromStr>(notice: &EventNotice, name: &str) -> Option<T> {
    let parsed = |text: &str| text.parse().ok();
    text(notice, "id")
        .and_then(parsed)
        .or_else(|| text(notice, name).and_then(parsed))
}
