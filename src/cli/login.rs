//! `dekeys login` and `whoami`.

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

/// Who the server takes the caller for.
pub(crate) async fn whoami(context: &mut Context<'_>) -> Result<(), Failure> {
    context
        .ask_and_show(&Request::get(&["v1", "whoami"]), principal::FULL)
        .await?;
    Ok(())
}
