//! `dekeys unseal`, `seal` and `status`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::{list, text};
use crate::client::{Reply, Request, secret};

/// What `unseal` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys unseal                       asks for the passphrase\n\
    Example: dekeys unseal --unseal-key-file unseal.key\n\
    Example: pass show unseal | dekeys unseal --passphrase-file -"
)]
pub(crate) struct UnsealArgs {
    /// The key file that `init` made; `-` is standard input
    #[arg(long, value_name = "FILE")]
    unseal_key_file: Option<PathBuf>,
    /// A file with the passphrase; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    passphrase_file: Option<PathBuf>,
}

/// What `seal` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys seal --reason \"kernel update\"")]
pub(crate) struct SealArgs {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

const SEAL: &[Column] = &[
    Column("sealed", "/sealed", Kind::Plain),
    Column("mode", "/mode", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
];

const STATUS: &[Column] = &[
    Column("version", "/version", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
    Column("mode", "/mode", Kind::Plain),
    Column("sealed", "/sealed", Kind::Plain),
    Column("database", "/database", Kind::Plain),
    Column("grants", "/active_grants", Kind::Plain),
    Column("leases", "/live_leases", Kind::Plain),
    Column("revocation failed", "/revocation_failed", Kind::Plain),
    Column("approvals pending", "/pending_approvals", Kind::Plain),
    Column("payments unknown", "/unknown_payments", Kind::Plain),
    Column("events", "/events", Kind::Plain),
    Column("leaves signed", "/leaves", Kind::Plain),
    Column("solo", "/solo", Kind::Plain),
];

const CHECKS: &[Column] = &[
    Column("check", "/name", Kind::Plain),
    Column("ok", "/ok", Kind::Plain),
    Column("detail", "/detail", Kind::Plain),
];

/// Opens the vault.
pub(crate) async fn unseal(args: &UnsealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let (name, key) = match (&args.unseal_key_file, &args.passphrase_file) {
        (Some(path), _) => ("key", context.read_secret(path)?),
        (None, Some(path)) => ("passphrase", context.read_secret(path)?),
        (None, None) => {
            let flag = "--unseal-key-file or --passphrase-file";
            ("passphrase", context.type_secret("Unseal passphrase", flag)?)
        }
    };
    let client = context.admin()?;
    let request = Request::post(&["v1", "sys", "unseal"]).bytes(secret::object(&[(name, &key)]));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SEAL)?;
    Ok(())
}

/// Drops the keys.
pub(crate) async fn seal(args: &SealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    context.confirm("Seal the vault? Nothing that needs a key works until somebody unseals it.")?;
    let client = context.admin()?;
    let request = Request::post(&["v1", "sys", "seal"]).json(&json!({ "reason": args.reason }));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SEAL)?;
    Ok(())
}

/// Shows how the instance is: in figures to those it knows, in checks to others. Fails when it cannot serve.
pub(crate) async fn status(context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    let sealed = context
        .send(&client, &Request::get(&["v1", "sys", "seal-status"]))
        .await?;
    if sealed.json().get("sealed") == Some(&Value::Bool(true)) {
        show(context, &sealed, SEAL)?;
        let fix = "dekeys unseal          at start: --unseal-key-file, or LoadCredential=unseal-key of systemd";
        let failure = Failure::new("vault_sealed", exit::SEALED, "the vault is sealed", fix);
        return Err(failure.because("Stored keys cannot be used until somebody unseals it."));
    }
    let ready = context.exchange(&client, &Request::get(&["readyz"])).await??;
    if client.is_known() {
        let figures = context.send(&client, &Request::get(&["v1", "sys", "status"])).await?;
        show(context, &figures, STATUS)?;
    } else {
        checks(context, &ready)?;
    }
    if ready.status == 200 {
        return Ok(());
    }
    let failed = Failure::new("not_ready", exit::LATER, "it cannot serve now", "look at its log");
    Err(troubles(&ready).into_iter().fold(failed, Failure::because))
}

/// With `--quiet` the exit code says it all.
fn show(context: &mut Context<'_>, reply: &Reply, columns: &[Column]) -> Result<(), Failure> {
    if context.globals.quiet {
        return Ok(());
    }
    context.show(reply, columns).map(drop)
}

fn checks(context: &mut Context<'_>, ready: &Reply) -> Result<(), Failure> {
    if context.globals.quiet {
        return Ok(());
    }
    let checks = ready.json().get("checks").cloned().unwrap_or_default();
    context.show_value(&json!({ "object": "list", "data": checks, "has_more": false }), CHECKS)
}

fn troubles(ready: &Reply) -> Vec<String> {
    let answer = ready.json();
    let failed = list(&answer, "/checks")
        .iter()
        .filter(|check| check.get("ok") == Some(&Value::Bool(false)));
    failed
        .map(|check| format!("{}: {}", text(check, "/name"), text(check, "/detail")))
        .collect()
}
