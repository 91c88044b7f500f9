//! `dekeys policy`: looked at, compared, proposed, explained. A policy is in force only after people approved it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::approval;
use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, visible, visible_lines};
use super::page::{list, rows, text};
use super::principal::nearest;
use crate::base::time::Ttl;
use crate::client::Request;
use crate::model::scope::{Name, Reference};

pub(crate) const EXAMPLE: &str = "Example: dekeys policy apply policies/openai-readers.toml --reason \"nightly index\"";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// The policies in force
    #[command(after_help = "Example: dekeys policy ls")]
    Ls,
    /// One policy
    #[command(after_help = "Example: dekeys policy show openai-readers --text > openai-readers.toml")]
    Show {
        /// The policy
        name: Name,
        /// This version instead of the one in force
        #[arg(long = "at", value_name = "VERSION")]
        at: Option<u32>,
        /// Print the file alone
        #[arg(long)]
        text: bool,
    },
    /// Check a file against its vendor, without keeping it
    #[command(after_help = "Example: dekeys policy validate openai-readers.toml")]
    Validate {
        /// The policy file; `-` is standard input
        file: PathBuf,
    },
    /// Say what a file would change
    #[command(after_help = "Example: dekeys policy diff openai-readers.toml")]
    Diff {
        /// The policy file; `-` is standard input
        file: PathBuf,
    },
    /// Propose a file: opens an approval request
    Apply(ApplyArgs),
    /// Say which rule of which policy would decide
    Explain(ExplainArgs),
    /// The versions that were in force, newest first
    #[command(after_help = "Example: dekeys policy history openai-readers")]
    History {
        /// The policy
        name: Name,
        /// How many
        #[arg(long, value_name = "NUMBER", default_value_t = 20)]
        limit: u32,
    },
    /// Propose the text of an earlier version again: opens an approval request
    #[command(after_help = "Example: dekeys policy rollback openai-readers --to 3 --reason \"v4 is too wide\"")]
    Rollback {
        /// The policy
        name: Name,
        /// The version to go back to
        #[arg(long, value_name = "VERSION")]
        to: u32,
        /// Why, for the approvers
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Wait this long for the decision
        #[arg(long, value_name = "SPAN")]
        wait: Option<Ttl>,
    },
}

/// What `apply` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ApplyArgs {
    /// The policy file; `-` is standard input
    file: PathBuf,
    /// Why, for the approvers
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait this long for the decision
    #[arg(long, value_name = "SPAN")]
    wait: Option<Ttl>,
}

/// What `explain` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys policy explain dk://openai/chat:write --principal crawler-7")]
pub(crate) struct ExplainArgs {
    /// What would be asked for
    reference: Reference,
    /// Who would ask; you if absent
    #[arg(long, value_name = "NAME")]
    principal: Option<Name>,
    /// Which wallet would pay, CAIP-10
    #[arg(long, value_name = "ACCOUNT")]
    wallet: Option<String>,
    /// For how long
    #[arg(long, value_name = "SPAN")]
    ttl: Option<Ttl>,
    /// How many resolves
    #[arg(long, value_name = "NUMBER")]
    max_resolves: Option<i64>,
}

const LIST: &[Column] = &[
    Column("policy", "/name", Kind::Plain),
    Column("version", "/version", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("since", "/activated", Kind::Time),
    Column("digest", "/digest", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("policy", "/name", Kind::Plain),
    Column("version", "/version", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("digest", "/digest", Kind::Plain),
    Column("approval", "/approval", Kind::Plain),
    Column("since", "/activated", Kind::Time),
];

const ANSWERS: &[Column] = &[
    Column("policy", "/policy", Kind::Plain),
    Column("version", "/version", Kind::Plain),
    Column("allowed", "/allowed", Kind::Plain),
    Column("rule", "/rule", Kind::Plain),
    Column("why", "/words", Kind::Plain),
    Column("change", "/change", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Policy, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Policy::Ls => {
            context
                .page(&Request::get(&["v1", "policies"]), LIST, "policies in force")
                .await
        }
        Policy::Show { name, at, text } => show(name, *at, *text, context).await,
        Policy::Validate { file } => {
            let proposal = look_at(file, context).await?;
            if context.style.format == Format::Text {
                let findings = findings(&proposal, file);
                findings.iter().try_for_each(|finding| context.print(finding))?;
                let name = text(&proposal, "/name");
                context.say(&format!("{name}: the file is good, {} findings", findings.len()))?;
                return Ok(());
            }
            context.show_value(&proposal, &[])
        }
        Policy::Diff { file } => {
            let proposal = look_at(file, context).await?;
            show_change(&proposal, context)
        }
        Policy::Apply(args) => apply(args, context).await,
        Policy::Explain(args) => explain(args, context).await,
        Policy::History { name, limit } => history(name, *limit, context).await,
        Policy::Rollback { name, to, reason, wait } => {
            let old = context.look_up(&at(name, *to)).await?.json();
            let reason = reason.clone().unwrap_or_else(|| format!("back to v{to}"));
            let shown = format!("{name} v{to}");
            propose(name.as_str(), &text(&old, "/text"), &reason, &shown, *wait, context).await
        }
    }
}

async fn show(name: &Name, at: Option<u32>, only_text: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    let request = Request::get(&["v1", "policies", name.as_str()]).query("version", at);
    let reply = match context.ask(&request).await {
        Ok(reply) => reply,
        Err(failure) if failure.code() == "not_found" => {
            let answer = context.ask(&Request::get(&["v1", "policies"])).await?.json();
            let near = nearest(name.as_str(), rows(&answer).iter().map(|row| text(row, "/name")));
            return Err(match near {
                Some(near) => failure.or_fix("not_found", || format!("did you mean `{near}`?")),
                None => failure,
            });
        }
        Err(failure) => return Err(failure),
    };
    let file = text(&reply.json(), "/text");
    if only_text {
        // Into a pipe the very bytes, so that they can be proposed again.
        let file = if context.style.terminal.stdout {
            visible_lines(&file)
        } else {
            file
        };
        return context.print(&file);
    }
    context.show(&reply, FULL)?;
    if context.for_people() {
        context.print(&format!("\n{}", visible_lines(&file)))?;
    }
    Ok(())
}

/// What the server makes of a file.
async fn look_at(file: &Path, context: &mut Context<'_>) -> Result<Value, Failure> {
    let text = context.read_text(file)?;
    let request = Request::post(&["v1", "policies", "validate"]).json(&json!({ "text": text }));
    let shown = file.display().to_string();
    let reply = context.ask(&request).await;
    reply
        .map(|reply| reply.json())
        .map_err(|failure| in_file(failure, &shown))
}

/// Positions say which file they are in: `/grant/max_tll: line 11, column 1: …` becomes `policy.toml:11:1: …`.
fn in_file(mut failure: Failure, file: &str) -> Failure {
    if let Failure::Told(told) = &mut failure
        && told.code == "policy_invalid"
    {
        for line in &mut told.why {
            if let Some(placed) = placed(line, file) {
                *line = placed;
            }
        }
    }
    failure
}

fn placed(line: &str, file: &str) -> Option<String> {
    let (_, position) = line.split_once(": line ")?;
    let (row, rest) = position.split_once(", column ")?;
    let (column, message) = rest.split_once(": ")?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (number(row) && number(column)).then(|| format!("{file}:{row}:{column}: {message}"))
}

fn findings(proposal: &Value, file: &Path) -> Vec<String> {
    list(proposal, "/findings")
        .iter()
        .map(|finding| {
            let place = match (finding.get("line"), finding.get("column")) {
                (Some(Value::Number(line)), Some(Value::Number(column))) => format!(":{line}:{column}"),
                _ => String::new(),
            };
            let (message, fix) = (text(finding, "/message"), text(finding, "/fix"));
            visible(&format!("{}{place}: {message} ({fix})", file.display()))
        })
        .collect()
}

fn show_change(proposal: &Value, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.style.format != Format::Text {
        return context.show_value(proposal, &[]);
    }
    let shown = change_words(proposal);
    context.print(if shown.is_empty() { "nothing changes" } else { &shown })
}

/// What changes, in words and then as a diff of the file.
pub(crate) fn change_words(value: &Value) -> String {
    let changes = list(value, "/diff/changes");
    let words: Vec<String> = changes
        .iter()
        .map(|change| {
            let effect = text(change, "/effect");
            let effect = if effect == "other" {
                String::new()
            } else {
                format!("  ({effect})")
            };
            visible(&format!("{}{effect}", text(change, "/words")))
        })
        .collect();
    let unified = visible_lines(&text(value, "/diff/unified"));
    [words.join("\n"), unified]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

async fn apply(args: &ApplyArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let file = context.read_text(&args.file)?;
    let shown = args.file.display().to_string();
    let looked = Request::post(&["v1", "policies", "validate"]).json(&json!({ "text": file }));
    let looked = context
        .look_up(&looked)
        .await
        .map_err(|failure| in_file(failure, &shown))?
        .json();
    propose(&text(&looked, "/name"), &file, &args.reason, &shown, args.wait, context).await
}

/// Proposes a text; `shown` is what mistakes in it are said to be in.
async fn propose(
    name: &str,
    file: &str,
    reason: &str,
    shown: &str,
    wait: Option<Ttl>,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let body = json!({ "text": file, "reason": reason });
    let request = Request::put(&["v1", "policies", name]).json(&body);
    let reply = context.ask(&request).await.map_err(|failure| in_file(failure, shown))?;
    let proposal = reply.json();
    let id = text(&proposal, "/approval");
    if context.style.format == Format::Text {
        context.print(&change_words(&proposal))?;
        let (name, version, digest) = (
            text(&proposal, "/name"),
            proposal.get("version").cloned().unwrap_or_default(),
            text(&proposal, "/digest"),
        );
        context.print(&format!("\nproposed {name} v{version}: {id}, digest {digest}"))?;
        context.say(&format!("approvers: dekeys approval show {id}"))?;
    } else {
        context.show(&reply, &[])?;
    }
    match wait {
        Some(wait) => approval::wait(&id, wait, context).await,
        None => Ok(()),
    }
}

/// One version of a policy.
fn at(name: &Name, version: u32) -> Request {
    Request::get(&["v1", "policies", name.as_str()]).query("version", Some(version))
}

/// Asks for each version, from the one in force down: a policy has few.
async fn history(name: &Name, limit: u32, context: &mut Context<'_>) -> Result<(), Failure> {
    let newest = context
        .ask(&Request::get(&["v1", "policies", name.as_str()]))
        .await?
        .json();
    let version = newest
        .get("version")
        .and_then(Value::as_u64)
        .and_then(|version| u32::try_from(version).ok());
    let mut versions = vec![newest];
    for older in (1..version.unwrap_or(1))
        .rev()
        .take(usize::try_from(limit).unwrap_or_default().saturating_sub(1))
    {
        match context.ask(&at(name, older)).await {
            Ok(reply) => versions.push(reply.json()),
            // It was proposed and never in force.
            Err(failure) if failure.code() == "not_found" => {}
            Err(failure) => return Err(failure),
        }
    }
    context.show_value(&json!({ "object": "list", "data": versions, "has_more": false }), LIST)
}

async fn explain(args: &ExplainArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let body = json!({
        "reference": args.reference, "ttl": args.ttl, "max_resolves": args.max_resolves,
        "principal": args.principal, "wallet": args.wallet,
    });
    let reply = context
        .ask(&Request::post(&["v1", "policies", "explain"]).json(&body))
        .await?;
    let answer = reply.json();
    if context.style.format == Format::Text {
        let rows = answer.get("answers").cloned().unwrap_or_default();
        context.show_value(&json!({ "object": "list", "data": rows, "has_more": false }), ANSWERS)?;
    } else {
        context.show(&reply, &[])?;
    }
    if answer.get("allowed") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    context.say(&format!("{} would be refused", args.reference))?;
    Err(Failure::Quiet(exit::APPROVAL))
}
