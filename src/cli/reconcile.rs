//! `dekeys reconcile`: a copy, a rolled back or a restored database against the vendors' own lists of keys.

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind};
use super::page::{list, text};
use crate::base::time::Ttl;
use crate::client::Request;
use crate::model::scope::Name;

/// What `reconcile` takes. Without an order it only looks.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("order").args(["adopt", "revoke_unknown", "done"]),
    after_help = "Example: dekeys reconcile                       ask the vendors, and show the difference\n\
        Example: dekeys reconcile --revoke-unknown      end keys that nobody here knows, now\n\
        Example: dekeys reconcile --adopt --keep 30m    or let their holders finish first\n\
        Example: dekeys reconcile --done                then go on\n\n\
        If the original still runs, stop it first: keys that are unknown here may be its."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct ReconcileArgs {
    /// Put unknown keys on record and end them later
    #[arg(long)]
    adopt: bool,
    /// End unknown keys at their vendors now
    #[arg(long)]
    revoke_unknown: bool,
    /// Say that the database agrees with the vendors; work goes on
    #[arg(long)]
    done: bool,
    /// When adopted keys are ended [default: 1h]
    #[arg(long, value_name = "SPAN", requires = "adopt")]
    keep: Option<Ttl>,
    /// At this vendor only
    #[arg(long, value_name = "VENDOR", conflicts_with = "done")]
    vendor: Option<Name>,
    /// Go on although a vendor could not be listed: keys there stay unknown
    #[arg(long, requires = "done")]
    accept_unreachable: bool,
}

const STATUS: &[Column] = &[
    Column("reconciling", "/reconciling", Kind::Plain),
    Column("cause", "/cause", Kind::Plain),
    Column("begun", "/begun", Kind::Time),
    Column("incarnation", "/incarnation", Kind::Plain),
    Column("payments from", "/payments_from", Kind::Time),
];

const VENDORS: &[Column] = &[
    Column("vendor", "/vendor", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("matching", "/matching", Kind::Plain),
    Column("gone there", "/gone", Kind::Plain),
    Column("unknown here", "/unknown", Kind::Plain),
    Column("of others", "/foreign", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
];

/// Looks, or does what was ordered.
pub(crate) async fn run(args: &ReconcileArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.done {
        return done(args, context).await;
    }
    let body = json!({ "vendor": args.vendor, "keep": args.keep });
    let verb = match (args.adopt, args.revoke_unknown) {
        (true, _) => "adopt",
        (_, true) => {
            context.confirm("End every key that is unknown here, at its vendor, now?")?;
            "revoke-unknown"
        }
        _ => "compare",
    };
    let request = Request::post(&["v1", "sys", "reconcile", verb]);
    let request = if verb == "compare" {
        request
    } else {
        request.json(&body)
    };
    let reply = context.ask(&request).await?;
    let compared = reply.json();
    if context.style.format != Format::Text {
        return context.show(&reply, VENDORS).map(drop);
    }
    differences(&compared, context)?;
    next(&compared, context)
}

async fn done(args: &ReconcileArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let body = json!({ "accept_unreachable": args.accept_unreachable });
    let request = Request::post(&["v1", "sys", "reconcile", "done"]).json(&body);
    context.ask_and_show(&request, STATUS).await?;
    context.say("done: keys are released, made and ended again. Agents fetch fresh tokens; the ones before are dead")
}

/// A line for each vendor, then each key that differs.
fn differences(compared: &Value, context: &mut Context<'_>) -> Result<(), Failure> {
    let rows: Vec<Value> = list(compared, "/data")
        .iter()
        .map(|row| {
            let mut row = row.clone();
            let counts = ["gone", "unknown"].map(|name| (name, list(&row, &format!("/{name}")).len()));
            if let Some(fields) = row.as_object_mut() {
                fields.extend(counts.map(|(name, count)| (name.to_owned(), json!(count))));
            }
            row
        })
        .collect();
    context.show_value(&json!({ "object": "list", "data": rows, "has_more": false }), VENDORS)?;
    for row in list(compared, "/data") {
        let vendor = text(row, "/vendor");
        for key in list(row, "/unknown") {
            let words = format!(
                "{vendor}: unknown here: {} {}",
                text(key, "/vendor_key_id"),
                text(key, "/name")
            );
            context.say(&words)?;
        }
        for key in list(row, "/gone") {
            let words = format!(
                "{vendor}: gone there: {} {}",
                text(key, "/vendor_key_id"),
                text(key, "/credential")
            );
            context.say(&words)?;
        }
    }
    Ok(())
}

/// What is to be done next; fails while there is something to decide.
fn next(compared: &Value, context: &mut Context<'_>) -> Result<(), Failure> {
    if compared.get("reconciling") != Some(&Value::Bool(true)) {
        return context.say("this database is not being reconciled; nothing needs to be decided");
    }
    let any = |name: &str| {
        let rows = list(compared, "/data");
        rows.iter().any(|row| !list(row, name).is_empty())
    };
    let unreachable = list(compared, "/data")
        .iter()
        .any(|row| text(row, "/state") == "unreachable");
    let (what, fix) = if any("/unknown") {
        (
            "keys live that nobody here knows",
            "dekeys reconcile --revoke-unknown      or --adopt, if their holders may finish",
        )
    } else if unreachable {
        (
            "a vendor could not be listed",
            "dekeys vendor test VENDOR, then again      or dekeys reconcile --done --accept-unreachable",
        )
    } else {
        return context.say("no key is unknown: dekeys reconcile --done");
    };
    Err(Failure::new("reconciling", exit::SEALED, what, fix))
}
