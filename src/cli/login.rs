//! `dekeys login`, `logout` and `whoami`.

use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::principal;
use crate::base::time::Timestamp;
use crate::client::{Request, secret};

/// Signs in with the key file, and keeps the token in this user's files (mode 0600).
pub(crate) async fn login(context: &mut Context<'_>) -> Result<(), Failure> {
    context.key()?;
    let path = context.login_file()?;
    let reply = context
        .ask(&Request::post(&["v1", "sessions"]).json(&json!({ "use": "login" })))
        .await?;
    let answer = reply.json();
    let token = secret::at(&answer, "/secret").ok_or_else(|| {
        Failure::new(
            "not_dekeys",
            exit::FAILED,
            "the answer holds no token",
            "check the address: --addr",
        )
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    secret::write_over(&path, &token, context.world.random.as_ref())?;
    let expires = answer.get("expires").and_then(Value::as_str).unwrap_or_default();
    let when = Timestamp::parse_rfc3339(expires).map(|at| super::output::relative(at, context.now()));
    let when = when.unwrap_or_else(|| expires.to_owned());
    context.say(&format!(
        "signed in; ends {when}, or when the server restarts. Kept in {}",
        path.display()
    ))
}

/// Ends the kept login: at the server, so that a copy of the token is worth nothing, and in this user's files.
pub(crate) async fn logout(context: &mut Context<'_>) -> Result<(), Failure> {
    let path = context.login_file()?;
    if !path.exists() {
        return context.say("there is no login to end");
    }
    let login = secret::read_file(&path)?;
    let client = context.with_login(login)?;
    let ended = context
        .send(&client, &Request::post(&["v1", "sessions", "close"]))
        .await;
    match ended {
        Ok(_) => {}
        // It was over already.
        Err(failure) if failure.exit() == exit::UNAUTHENTICATED => {}
        Err(failure) if failure.exit() == exit::LATER || failure.exit() == exit::SEALED => {
            let warning = "the server could not be told; without it the token ends by itself within 8 hours";
            context.say(&format!("warning: {warning}"))?;
        }
        Err(failure) => return Err(failure),
    }
    std::fs::remove_file(&path)?;
    context.say("signed out")
}

/// Who the server takes the caller for.
pub(crate) async fn whoami(context: &mut Context<'_>) -> Result<(), Failure> {
    context
        .ask_and_show(&Request::get(&["v1", "whoami"]), principal::FULL)
        .await?;
    Ok(())
}
