//! `dekeys usage`: what was paid, sold and owed, and whether the ledger agrees with what it tells of.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::{rows, text};
use crate::base::time::{Timestamp, Ttl};
use crate::client::Request;

pub(crate) const EXAMPLE: &str = "Example: dekeys usage --by vendor --last 24h\nExample: dekeys usage --by wallet --csv > usage.csv\n\
                                  Example: dekeys usage --check";

/// What to sum, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// By what it is summed
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    /// Only so long back
    #[arg(long, value_name = "SPAN", conflicts_with = "since")]
    last: Option<Ttl>,
    /// Only from this time on, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only before this time, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// As comma-separated values with a head line, amounts in atomic units (millionths)
    #[arg(long)]
    csv: bool,
    /// Compare the ledger with payments and credit instead; fails when they do not agree
    #[arg(long, conflicts_with_all = ["by", "last", "since", "until", "csv"])]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Day,
    Principal,
    Grant,
    Wallet,
    Vendor,
    Lease,
}

const COLUMNS: &[Column] = &[
    Column("key", "/key", Kind::Plain),
    Column("payments", "/payments", Kind::Plain),
    Column("received", "/received", Kind::Plain),
    Column("taken back", "/taken_back", Kind::Plain),
    Column("sold", "/sold", Kind::Plain),
    Column("owed", "/owed", Kind::Plain),
    Column("redeemed", "/redeemed", Kind::Plain),
    Column("vendor cost", "/vendor_cost", Kind::Plain),
];

const CHECK: &[Column] = &[
    Column("agrees", "/agrees", Kind::Plain),
    Column("entries", "/entries", Kind::Plain),
    Column("received", "/received", Kind::Plain),
    Column("owed", "/owed", Kind::Plain),
];

/// The columns that are amounts.
const AMOUNTS: [&str; 6] = ["received", "taken_back", "sold", "owed", "redeemed", "vendor_cost"];

/// Runs it.
pub(crate) async fn run(args: &UsageArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.check {
        return check(context).await;
    }
    let since = args.last.map(|span| context.now().minus(span)).or(args.since);
    let by = args.by.to_possible_value();
    let request = Request::get(&["v1", "usage"])
        .query("by", by.as_ref().map(clap::builder::PossibleValue::get_name))
        .query("since", since.map(Timestamp::rfc3339))
        .query("until", args.until.map(Timestamp::rfc3339));
    if !args.csv {
        return context.page(&request, COLUMNS, "usage").await;
    }
    let answer = context.ask(&request).await?.json();
    let mut lines = vec![format!("key,payments,{}", AMOUNTS.join(","))];
    lines.extend(rows(&answer).iter().map(line));
    context.print(&lines.join("\n"))
}

/// No key holds a comma, a quote or a line end: they are days, ids, CAIP-10 accounts and names.
fn line(row: &Value) -> String {
    let amounts = AMOUNTS.map(|name| atomic(&text(row, &format!("/{name}"))));
    let payments = row.get("payments").map(Value::to_string).unwrap_or_default();
    format!("{},{payments},{}", text(row, "/key"), amounts.join(","))
}

fn atomic(amount: &str) -> String {
    let money = amount.parse::<crate::base::money::Money>();
    money.map(|money| money.atomic().to_string()).unwrap_or_default()
}

async fn check(context: &mut Context<'_>) -> Result<(), Failure> {
    let request = Request::get(&["v1", "usage", "check"]);
    let answer = context.ask_and_show(&request, CHECK).await?;
    if answer.get("agrees") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let differences = answer.get("differences").map(Value::to_string).unwrap_or_default();
    let what = format!("the ledger does not agree with what is on record: {differences}");
    let fix = "somebody may have changed the database: compare with `dekeys payment ls` and the chain, then run `dekeys audit verify`";
    Err(Failure::new("ledger_differs", exit::CONFLICT, what, fix))
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| format!("`{text}` is not a time such as 2026-12-01T00:00:00Z"))
}
