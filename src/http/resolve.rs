//! Answers that carry a secret: keys of leases, tokens, sessions. The one place of this surface that exposes them.
//!
//! Not protected: the copies in the HTTP library's buffers and the kernel's.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Answer, Refused};
use super::input::Input;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::problem::Problem;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::error::Error;
use crate::service::grant::{GrantView, Minted};
use crate::service::resolve::{self as verb, Resolution, ResolveItem, ResolveRequest};
use crate::service::session;
use crate::service::webhook::WithSecret;

/// Swaps tokens for keys: one item answers as itself, several answer as a list in which each stands alone.
pub(super) async fn resolve(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let request: ResolveRequest = input.json()?;
    if request.items.is_empty() || request.items.len() > 20 {
        return Err(Error::invalid("/items", "resolve 1 to 20 items at once").into());
    }
    let same = |one: &ResolveItem, other: &ResolveItem| one.reference == other.reference && one.token == other.token;
    let twice = (0..)
        .zip(&request.items)
        .find(|(at, item)| request.items.iter().take(*at).any(|one| same(one, item)));
    if let Some((at, _)) = twice {
        return Err(Error::invalid(&format!("/items/{at}"), "the same token and reference stand here twice").into());
    }
    let mut entries = Vec::with_capacity(request.items.len());
    for item in &request.items {
        match verb::resolve(app, context, input.bearer(), item).await {
            Ok(resolution) => entries.push(entry(&resolution)?),
            Err(error) if request.items.len() == 1 => return Err(error.into()),
            Err(error) => {
                let refused = Refused::from(error);
                let problem: &Problem = refused.problem();
                app.metrics().refused(problem.code.code);
                let problem = problem.to_json(Some(context.request), &app.public_url);
                entries
                    .push(json!({ "object": "problem", "reference": item.reference, "problem": problem }).to_string());
            }
        }
    }
    let body = format!(r#"{{"object":"list","has_more":false,"data":[{}]}}"#, entries.join(","));
    Ok(Answer::raw(200, body.into_bytes()))
}

#[derive(Serialize)]
struct Entry<'a> {
    object: &'static str,
    reference: &'a crate::model::scope::Reference,
    lease_id: crate::base::id::LeaseId,
    lease_duration: i64,
    expires: Timestamp,
    renewable: bool,
    event: crate::base::id::EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<Credential<'a>>,
}

#[derive(Serialize)]
struct Credential<'a> {
    kind: &'static str,
    version: i64,
    fields: Fields<'a>,
    inject: &'a verb::Injection,
}

/// The key: under one name, or under the vendor's several.
#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    One { api_key: &'a str },
    Several(&'a RawValue),
}

impl<'a> Fields<'a> {
    fn of(key: &'a str, inject: &verb::Injection) -> Result<Self, Error> {
        if inject.fields.is_empty() {
            return Ok(Self::One { api_key: key });
        }
        let several = serde_json::from_str(key).map_err(|_| Error::internal("a key of several fields has none"))?;
        Ok(Self::Several(several))
    }
}

fn entry(resolution: &Resolution) -> Result<String, Error> {
    let key = match &resolution.secret {
        None => None,
        Some(secret) => Some(std::str::from_utf8(secret.expose()).map_err(|_| Error::internal("a key is not text"))?),
    };
    let entry = Entry {
        object: "resolution",
        reference: &resolution.reference,
        lease_id: resolution.lease,
        lease_duration: resolution.lease_duration,
        expires: resolution.expires,
        renewable: false,
        event: resolution.event,
        unchanged: key.is_none().then_some(true),
        credential: match key {
            None => None,
            Some(key) => Some(Credential {
                kind: "api_key",
                version: resolution.version,
                fields: Fields::of(key, &resolution.inject)?,
                inject: &resolution.inject,
            }),
        },
    };
    serde_json::to_string(&entry).map_err(Error::internal)
}

/// A grant with its token, if there is one to give.
pub(super) fn grant(app: &App, status: u16, view: &GrantView, minted: Option<&Minted>) -> Result<Answer, Refused> {
    let mut value = serde_json::to_value(view).map_err(Error::internal)?;
    if let (Some(minted), Some(fields)) = (minted, value.as_object_mut()) {
        fields.insert("token".to_owned(), Value::from(minted.token.expose()));
        fields.insert("token_type".to_owned(), Value::from("Bearer"));
        fields.insert(
            "expires_in".to_owned(),
            Value::from(minted.expires.since(app.now()).as_secs()),
        );
    }
    if let Some(fields) = value.as_object_mut() {
        let next = json!({ "resolve": "POST /v1/resolve", "revoke": format!("POST /v1/grants/{}/revoke", view.id) });
        fields.insert("next".to_owned(), next);
    }
    Ok(Answer::value(status, &value))
}

/// A new session, its secret shown once.
pub(super) async fn open_session(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let session = session::open(app, context, &input.json()?).await?;
    let secret: &SecretText = &session.secret;
    Ok(Answer::value(
        201,
        &json!({ "object": "session", "session_id": session.id, "secret": secret.expose(), "expires": session.expires }),
    ))
}

/// A webhook with its secret, shown once.
pub(super) fn webhook(status: u16, made: &WithSecret) -> Result<Answer, Refused> {
    let mut value = serde_json::to_value(&made.view).map_err(Error::internal)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("secret".to_owned(), Value::from(made.secret.expose()));
    }
    Ok(Answer::value(status, &value))
}
