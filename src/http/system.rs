//! Health, seal and unseal, keys, problems.

use serde::Deserialize;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::{people, resolve};
use crate::base::secret::SecretText;
use crate::base::shares::Share;
use crate::base::time::Ttl;
use crate::metrics;
use crate::operations::texts;
use crate::problem::{self, Problem};
use crate::service::App;
use crate::service::backup;
use crate::service::caller::Context;
use crate::service::error::Error;
use crate::service::grant::EndAsk;
use crate::service::health;
use crate::service::incarnation::{compare, settle};
use crate::service::measure;
use crate::service::session;
use crate::service::shares;
use crate::service::status as verb;
use crate::service::unseal::{self as sealing, UnsealKey};

/// For how long anybody may keep the public keys. A new key is published long before it signs.
const KEYS_ARE_GOOD_FOR: &str = "public, max-age=300";

/// The type of a directory of keys that sign HTTP messages (draft-meunier-http-message-signatures-directory).
const DIRECTORY: &str = "application/http-message-signatures-directory+json";

pub(super) async fn readyz(app: &App, input: &Input) -> Answer {
    let readiness = if input.on_admin() {
        health::health(app).await
    } else {
        health::readiness(app).await
    };
    let status = if readiness.ready { 200 } else { 503 };
    Answer::value(status, &serde_json::to_value(&readiness).unwrap_or_default())
}

pub(super) fn problem(input: &Input) -> Result<Answer, Refused> {
    let name = input.text("code").replace('-', "_");
    let name = name.strip_suffix(".md").unwrap_or(&name);
    let code = problem::code(name).ok_or(Error::NotFound("problem"))?;
    Ok(Answer::markdown(problem::page(code)))
}

pub(super) fn public_keys(app: &App) -> Result<Answer, Refused> {
    Ok(Answer::json(200, &verb::public_keys(app)?)?.with("cache-control", KEYS_ARE_GOOD_FOR))
}

pub(super) fn key_set(app: &App) -> Result<Answer, Refused> {
    Ok(Answer::json(200, &verb::key_set(app)?)?.with("cache-control", KEYS_ARE_GOOD_FOR))
}

/// The directory of keys that sign HTTP messages.
pub(super) fn key_directory(app: &App) -> Result<Answer, Refused> {
    let set = serde_json::to_vec(&verb::key_directory(app)?).map_err(Error::internal)?;
    Ok(Answer::flow(200, DIRECTORY, axum::body::Body::from(set)).with("cache-control", KEYS_ARE_GOOD_FOR))
}

pub(super) fn seal_status(app: &App) -> Result<Answer, Refused> {
    Answer::json(200, &sealing::status(app))
}

pub(super) async fn status(app: &App, context: &Context) -> Result<Answer, Refused> {
    Answer::json(200, &verb::status(app, context).await?)
}

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "healthz" => Ok(Answer::text("ok")),
        "readyz" => Ok(readyz(app, input).await),
        "openapi" => Ok(Answer::value(200, &crate::operations::openapi::document())),
        "metrics" => Ok(Answer::typed(metrics::CONTENT_TYPE, measure::scrape(app).await)),
        "llms" => Ok(Answer::text(&texts::llms())),
        "llmsFull" => Ok(Answer::text(&texts::llms_full())),
        "skill" => Ok(Answer::markdown(texts::SKILL.to_owned())),
        "functions" => Ok(Answer::value(200, &texts::functions())),
        "problem" => problem(input),
        "publicKeys" | "wellKnownKeys" => public_keys(app),
        "keySet" => key_set(app),
        "keyDirectory" => key_directory(app),
        "sealStatus" => seal_status(app),
        "unseal" => unseal(app, input).await,
        "cancelUnseal" => cancel_unseal(app, input).await,
        "seal" => seal(app, context, input).await,
        "status" => status(app, context).await,
        "listBackups" => Answer::json(200, &backup::list(app, context)?),
        "createBackup" => Answer::json(201, &backup::create(app, context).await?),
        "verifyBackup" => Answer::json(200, &backup::verify(app, context, input.text("name")).await?),
        "reconcileStatus" => Answer::json(200, &compare::status(app, context)?),
        "compareVendors" => Answer::json(200, &compare::compare(app, context).await?),
        "adoptKeys" => Answer::json(200, &settle::adopt(app, context, &input.json()?).await?),
        "revokeUnknownKeys" => Answer::json(200, &settle::revoke_unknown(app, context, &input.json()?).await?),
        "endReconciling" => Answer::json(200, &settle::done(app, context, &input.json()?).await?),
        "openSession" => resolve::open_session(app, context, input).await,
        "closeSession" => Answer::json(200, &session::close(app, context, input.bearer()).await?),
        "whoami" => people::whoami(app, context),
        other => Err(unknown(other)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    passphrase: Option<String>,
    key: Option<String>,
    /// Enough shares at once, one a line, to announce or confirm them.
    shares: Option<String>,
    /// One share, to unseal with others.
    share: Option<String>,
}

/// The unseal key in a body.
pub(super) fn unseal_key(input: &Input) -> Result<UnsealKey, Refused> {
    match input.json()? {
        Body {
            passphrase: Some(passphrase),
            key: None,
            shares: None,
            share: None,
        } => Ok(UnsealKey::Passphrase(SecretText::new(passphrase))),
        Body {
            passphrase: None,
            key: Some(key),
            shares: None,
            share: None,
        } => UnsealKey::parse_key_file(&SecretText::new(key)).map_err(unfit),
        Body {
            passphrase: None,
            key: None,
            shares: Some(shares),
            share: None,
        } => UnsealKey::parse_shares(&SecretText::new(shares)).map_err(unfit),
        _ => Err(Error::invalid("", "give one of `passphrase`, `key` and `shares`").into()),
    }
}

fn unfit(error: impl std::fmt::Display) -> Refused {
    Problem::new(problem::UNSEAL_KEY_INVALID, error.to_string()).into()
}

/// The one share in a body, if there is one.
fn one_share(input: &Input) -> Result<Option<Share>, Refused> {
    match input.json()? {
        Body {
            passphrase: None,
            key: None,
            shares: None,
            share: Some(text),
        } => UnsealKey::parse_share(&SecretText::new(text)).map(Some).map_err(unfit),
        _ => Ok(None),
    }
}

pub(super) async fn unseal(app: &App, input: &Input) -> Result<Answer, Refused> {
    let outcome = match one_share(input)? {
        Some(share) => shares::share(app, share).await,
        None => sealing::unseal(app, unseal_key(input)?).await,
    };
    match outcome {
        Err(Error::UnsealKeyWrong) => Err(wrong_key(app).into()),
        Err(Error::RateLimited(pause)) => Err(paused(pause).into()),
        other => Answer::json(200, &other?),
    }
}

/// Forgets shares that were brought.
pub(super) async fn cancel_unseal(app: &App, input: &Input) -> Result<Answer, Refused> {
    let Some(share) = one_share(input)? else {
        return Err(Error::invalid("/share", "whoever forgets shares shows one of the set").into());
    };
    match shares::cancel(app, share).await {
        Err(Error::UnsealKeyWrong) => Err(wrong_key(app).into()),
        Err(Error::RateLimited(pause)) => Err(paused(pause).into()),
        other => Answer::json(200, &other?),
    }
}

/// Says how many tries are left: whoever holds two keys should not be surprised by the pause.
fn wrong_key(app: &App) -> Problem {
    let words = match sealing::tries_left(app) {
        4 => "There is a pause of 30 s now.".to_owned(),
        1 => "1 try is left before a pause of 30 s.".to_owned(),
        left => format!("{left} tries are left before a pause of 30 s."),
    };
    let vault = &app.instance.id;
    let words = format!("It is well formed, but it does not open this vault ({vault}). Nothing changed. {words}");
    Problem::new(problem::UNSEAL_KEY_INVALID, words)
}

fn paused(pause: Ttl) -> Problem {
    let words = "Four wrong unseal keys came in a row; none is looked at during the pause that follows.";
    Problem::new(problem::RATE_LIMITED, words)
        .fix("Look for the right key meanwhile: its file names the instance.")
        .retry_after(pause)
}

pub(super) async fn seal(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: EndAsk = input.json()?;
    Answer::json(200, &sealing::seal(app, context, ask.reason.as_deref()).await?)
}
