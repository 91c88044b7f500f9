//! `dekeys approval`: people decide. A verdict is signed here, by the approver's own key, over the digest of what was
//! seen; the server only counts it.
//!
//! Not protected: an approver whose server shows one text and another text's digest. Compare the digest with the
//! requester's `dekeys policy apply` when it matters.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, relative, visible, visible_lines};
use super::page::{Page, list, text};
use super::policy::change_words;
use crate::base::canonical::Digest;
use crate::base::id::ApprovalId;
use crate::base::time::{Timestamp, Ttl};
use crate::client::{Request, approval};
use crate::model::approval::Verdict;

pub(crate) const EXAMPLE: &str = "Example: dekeys approval ls --state pending";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Approval {
    /// The newest requests
    #[command(after_help = EXAMPLE)]
    Ls {
        /// Only those that stand so
        #[arg(long, value_name = "STATE")]
        state: Option<State>,
        #[command(flatten)]
        page: Page,
    },
    /// One request, with what would change
    #[command(after_help = "Example: dekeys approval show apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The request
        id: ApprovalId,
    },
    /// Say yes, signed with your key file
    #[command(
        after_help = "Example: dekeys approval approve apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --key-file ada.key -c \"fine\""
    )]
    Approve(VerdictArgs),
    /// Say no, signed with your key file; needs a comment
    #[command(
        after_help = "Example: dekeys approval deny apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --key-file ada.key -c \"too wide\""
    )]
    Deny(VerdictArgs),
    /// Take a request back
    #[command(after_help = "Example: dekeys approval cancel apr_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --yes")]
    Cancel {
        /// The request
        id: ApprovalId,
    },
}

/// What a verdict takes.
#[derive(Debug, Args)]
pub(crate) struct VerdictArgs {
    /// The request
    id: ApprovalId,
    /// The digest that you saw, in full: refused if the request is another by now. Without it you are shown and asked
    #[arg(long, value_name = "DIGEST")]
    digest: Option<Digest>,
    /// Why
    #[arg(long, short, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// Where a request can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Waits for verdicts.
    Pending,
    /// The quorum agreed.
    Approved,
    /// One approver said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// Taken back.
    Cancelled,
}

const LIST: &[Column] = &[
    Column("approval", "/id", Kind::Plain),
    Column("what", "/summary", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("asked", "/created", Kind::Time),
    Column("expires", "/expires", Kind::Time),
];

const FULL: &[Column] = &[
    Column("approval", "/id", Kind::Plain),
    Column("what", "/summary", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("asked by", "/requester", Kind::Plain),
    Column("because", "/reason", Kind::Plain),
    Column("approvers", "/approvers", Kind::Plain),
    Column("quorum", "/quorum", Kind::Plain),
    Column("asked", "/created", Kind::Time),
    Column("expires", "/expires", Kind::Time),
    Column("digest", "/digest", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Approval, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Approval::Ls { state, page } => {
            let state = state.and_then(|state| state.to_possible_value());
            let request = page
                .of(&["v1", "approvals"])
                .query("state", state.map(|state| state.get_name().to_owned()));
            context.page(&request, LIST, "requests").await
        }
        Approval::Show { id } => {
            let reply = context
                .ask(&Request::get(&["v1", "approvals", &id.to_string()]))
                .await?;
            let seen = context.show(&reply, FULL)?;
            if context.style.format == Format::Text {
                let rest = details(&seen, context.now());
                context.print(&rest)?;
            }
            Ok(())
        }
        Approval::Approve(args) => decide(args, Verdict::Approve, context).await,
        Approval::Deny(args) => decide(args, Verdict::Deny, context).await,
        Approval::Cancel { id } => {
            context.confirm(&format!("Take {id} back?"))?;
            let request = Request::post(&["v1", "approvals", &id.to_string(), "cancel"]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
    }
}

/// Votes and what would change.
fn details(seen: &Value, now: Timestamp) -> String {
    let reviews = list(seen, "/reviews");
    let votes = reviews.iter().map(|review| {
        let when = Timestamp::parse_rfc3339(&text(review, "/created")).map(|at| relative(at, now));
        let (who, verdict, comment) = (
            text(review, "/approver"),
            text(review, "/verdict"),
            text(review, "/comment"),
        );
        visible(&format!(
            "vote: {who} {verdict} {} \"{comment}\"",
            when.unwrap_or_default()
        ))
    });
    let mut parts: Vec<String> = votes.collect();
    let changes = change_words(seen);
    if !changes.is_empty() {
        parts.push(format!("\n{changes}"));
    } else if let Some(file) = seen.get("text").and_then(Value::as_str) {
        parts.push(format!("\n{}", visible_lines(file)));
    }
    parts.join("\n")
}

async fn decide(args: &VerdictArgs, verdict: Verdict, context: &mut Context<'_>) -> Result<(), Failure> {
    if verdict == Verdict::Deny && args.comment.trim().is_empty() {
        return Err(Failure::usage("a refusal needs a comment", "say why: -c \"…\""));
    }
    let key = context.key()?;
    let segments = ["v1", "approvals", &args.id.to_string()];
    let seen = context.look_up(&Request::get(&segments)).await?.json();
    let current: Option<Digest> = text(&seen, "/digest").parse().ok();
    let digest = match (args.digest, current) {
        (Some(digest), Some(current)) if digest != current => return Err(changed(args.id, digest, current)),
        (Some(digest), _) => digest,
        (None, Some(current)) => {
            context.may_ask("--digest")?;
            let shown = details(&seen, context.now());
            context.say(&format!("{}\n{shown}\n\ndigest {current}", text(&seen, "/summary")))?;
            let question = format!("{} {}, signed as {}?", word(verdict), args.id, key.public());
            context.confirm(&question)?;
            current
        }
        (None, None) => return Err(Failure::usage("the request has no digest", "dekeys approval show ID")),
    };
    let body = approval::review(&key, args.id, digest, verdict, &args.comment);
    let [version, noun, id] = segments;
    let request = Request::post(&[version, noun, id, "reviews"]).json(&body);
    let counted = context.ask_and_show(&request, FULL).await?;
    context.say(&format!("counted; the request is {}", text(&counted, "/state")))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Approve => "Approve",
        Verdict::Deny => "Deny",
    }
}

fn changed(id: ApprovalId, seen: Digest, current: Digest) -> Failure {
    let what = "the request changed while you were reading";
    let failure = Failure::new(
        "digest_mismatch",
        exit::CONFLICT,
        what,
        format!("dekeys approval show {id}"),
    );
    failure.because(format!(
        "You saw {seen}, it is now {current}. Your vote was not counted."
    ))
}

/// Waits for a decision; anything but a yes is a failure.
pub(crate) async fn wait(id: &str, patience: Ttl, context: &mut Context<'_>) -> Result<(), Failure> {
    let until = context.now().plus(patience);
    loop {
        let seen = context.ask(&Request::get(&["v1", "approvals", id])).await?.json();
        let state = text(&seen, "/state");
        match state.as_str() {
            "approved" => return context.say("approved; in force now"),
            "pending" if context.now() < until => context.pause("people are deciding", context.world.pace).await,
            "pending" => {
                let fix = format!("wait on: dekeys approval show {id}");
                return Err(Failure::new(
                    "approval_pending",
                    exit::APPROVAL,
                    "nobody has decided yet",
                    fix,
                ));
            }
            _ => {
                let fix = format!("see why: dekeys approval show {id}");
                return Err(Failure::new(
                    "approval_ended",
                    exit::APPROVAL,
                    format!("the request is {state}"),
                    fix,
                ));
            }
        }
    }
}
