//! `dekeys status`: how the instance is, at a glance. In figures to those it knows, in checks to others.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind, relative, visible};
use super::page::{list, text};
use super::unseal::SEAL;
use crate::base::time::{Timestamp, span_words};
use crate::client::{Reply, Request};

const STATUS: &[Column] = &[
    Column("version", "/version", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
    Column("mode", "/mode", Kind::Plain),
    Column("sealed", "/sealed", Kind::Plain),
    Column("reconciling", "/reconciling", Kind::Plain),
    Column("database", "/database", Kind::Plain),
    Column("grants", "/active_grants", Kind::Plain),
    Column("leases", "/live_leases", Kind::Plain),
    Column("revocation failed", "/revocation_failed", Kind::Plain),
    Column("approvals pending", "/pending_approvals", Kind::Plain),
    Column("payments unknown", "/unknown_payments", Kind::Plain),
    Column("events", "/events", Kind::Plain),
    Column("leaves signed", "/leaves", Kind::Plain),
    Column("solo", "/solo", Kind::Plain),
    Column("started", "/started", Kind::Time),
    Column("unsealed since", "/unsealed_since", Kind::Time),
    Column("database bytes", "/database_bytes", Kind::Plain),
    Column("migrations", "/migrations", Kind::Plain),
    Column("leases ending", "/leases_ending", Kind::Plain),
    Column("oldest approval", "/oldest_approval", Kind::Time),
    Column("checkpoint signed", "/checkpoint_signed", Kind::Time),
];

const CHECKS: &[Column] = &[
    Column("check", "/name", Kind::Plain),
    Column("ok", "/ok", Kind::Plain),
    Column("detail", "/detail", Kind::Plain),
];

/// Shows it. Fails when the instance cannot serve.
pub(crate) async fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    let sealed = context
        .send(&client, &Request::get(&["v1", "sys", "seal-status"]))
        .await?;
    if sealed.json().get("sealed") == Some(&Value::Bool(true)) {
        if !context.globals.quiet {
            context.show(&sealed, SEAL)?;
        }
        let fix = "dekeys unseal          at start: --unseal-key-file, or LoadCredential=unseal-key of systemd";
        let failure = Failure::new("vault_sealed", exit::SEALED, "the vault is sealed", fix);
        return Err(failure.because("Stored keys cannot be used until somebody unseals it."));
    }
    let ready = context.exchange(&client, &Request::get(&["readyz"])).await??;
    if client.is_known() {
        let figures = context.send(&client, &Request::get(&["v1", "sys", "status"])).await?;
        show(&client.address().to_string(), &figures, context)?;
    } else {
        checks(context, &ready)?;
    }
    if ready.status == 200 {
        return Ok(());
    }
    let failed = Failure::new("not_ready", exit::LATER, "it cannot serve now", "dekeys doctor");
    Err(troubles(&ready).into_iter().fold(failed, Failure::because))
}

/// With `--quiet` the exit code says it all.
fn show(address: &str, figures: &Reply, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.globals.quiet {
        return Ok(());
    }
    if !context.for_people() {
        return context.show(figures, STATUS).map(drop);
    }
    let words = page(&figures.json(), address, context.now());
    context.print(&words)
}

/// The figures as people read them.
fn page(status: &Value, address: &str, now: Timestamp) -> String {
    let time = |pointer: &str| Timestamp::parse_rfc3339(&text(status, pointer));
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let up = time("/started").map_or_else(String::new, |at| format!("      up {}", span_words(now.since(at))));
    let mut page = format!(
        "dekeys {} at {address}{up}      {} mode\n",
        text(status, "/version"),
        text(status, "/mode")
    );
    let mut line = |name: &str, words: String| {
        // Writing to a text cannot fail.
        let _ = writeln!(page, "  {name:<11} {}", visible(&words));
    };
    let ago = |pointer: &str| time(pointer).map(|at| relative(at, now));
    let since = time("/unsealed_since").map_or_else(String::new, |at| format!(" since {at}"));
    line("vault", format!("unsealed{since}"));
    if status.get("reconciling") == Some(&Value::Bool(true)) {
        line(
            "history",
            "being reconciled: nothing is released, made or ended before `dekeys reconcile`".to_owned(),
        );
    }
    let (has, knows) = (number("/migrations"), number("/migrations_known"));
    let size = number("/database_bytes") / (1024 * 1024);
    line(
        "database",
        format!("{} {size} MiB, {has}/{knows} migrations", text(status, "/database")),
    );
    line("grants", format!("{} active", number("/active_grants")));
    let (live, ending, failed) = (
        number("/live_leases"),
        number("/leases_ending"),
        number("/revocation_failed"),
    );
    line(
        "leases",
        format!("{live} active, {ending} expire within 5 min, {failed} could not be revoked"),
    );
    let (revoking, orphans) = (number("/revoking"), number("/orphans"));
    if revoking + orphans > 0 {
        line(
            "keys",
            format!("{revoking} being ended at their vendors, {orphans} orphans: dekeys credential orphans"),
        );
    }
    let oldest = ago("/oldest_approval").map_or_else(String::new, |ago| format!(", oldest {ago}"));
    line("approvals", format!("{} pending{oldest}", number("/pending_approvals")));
    line(
        "payments",
        format!("{} with an outcome that is not known", number("/unknown_payments")),
    );
    let signed = ago("/checkpoint_signed").map_or_else(String::new, |ago| format!(" signed {ago}"));
    line(
        "audit",
        format!("{} events, checkpoint {}{signed}", number("/events"), number("/leaves")),
    );
    if status.get("solo") == Some(&Value::Bool(true)) {
        line("solo", "one person may approve their own requests".to_owned());
    }
    page
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
