//! A prim's program: the keys themselves stand in its environment, and die with it.
//!
//! Whoever may look at the program's environment sees them; that is what a prim is trusted with, and an agent is not.

use std::path::Path;

use serde_json::json;

use super::child::{self, Program, Running, Set};
use super::guard::Guard;
use super::{RunArgs, end, masks, talk, until};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::cli::context::Context;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, relative};
use crate::cli::wanted::{Asked, Found, Wanted, find};
use crate::client::{Client, KeyFile, Request};
use crate::model::scope::Name;
use rustix::process::Signal;
use serde_json::Value;

/// Between two looks whether a lease still lives.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// One line of the file.
struct Line {
    name: String,
    value: What,
}

enum What {
    Plain(String),
    Key(Wanted),
}

/// Runs the program with the file's variables.
pub(super) async fn run(
    args: &RunArgs,
    file: &Path,
    key: Option<KeyFile>,
    prim: Option<&Name>,
    context: &mut Context<'_>,
) -> Result<u8, Failure> {
    let lines = read(file, context)?;
    let wanted: Vec<Wanted> = lines.iter().filter_map(|line| line.value.wanted().cloned()).collect();
    if wanted.is_empty() {
        let what = format!("`{}` names no key", file.display());
        return Err(Failure::usage(
            what,
            "write NAME=dk://vendor/scope for each; or leave --env-file out",
        ));
    }
    let (Some(key), Some(prim)) = (key, prim) else {
        return Err(refused());
    };
    let asked = Asked {
        prim: prim.clone(),
        token: args.agent_token.clone(),
    };
    let found = find(&asked, &wanted, context).await?;
    let mut guard = Guard::start(&context.client()?.address().to_string(), &key)?;
    name_leases(&found, &mut guard)?;
    announce(&found, args.watch, context);
    let signals = child::signals()?;
    let running = launch(args, &lines, &found, context)?;
    let mut turn = Turn {
        args,
        lines: &lines,
        wanted: &wanted,
        asked: &asked,
        found,
        guard,
    };
    let (running, status) = turn.follow(running, signals, context).await?;
    end(Some(turn.guard), context).await;
    running.drain().await;
    Ok(child::exit_code(status))
}

/// An agent's program never has a vendor key in its environment.
fn refused() -> Failure {
    let fix = "leave --env-file out: the program reaches the vendor through <VENDOR>_BASE_URL; or run it as a prim, with \
               the prim's --key-file";
    let what = "only a prim's program may have vendor keys in its environment";
    Failure::new("not_allowed", exit::FORBIDDEN, what, fix).because("The key file is not that of a prim.")
}

impl What {
    const fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Plain(_) => None,
            Self::Key(wanted) => Some(wanted),
        }
    }
}

/// Reads the file as dotenv programs do: `NAME=value`, quotes, comments, `export`.
fn read(file: &Path, context: &mut Context<'_>) -> Result<Vec<Line>, Failure> {
    let text = context.read_text(file)?;
    let shown = file.display();
    let mut lines = Vec::new();
    for line in dotenvy::from_read_iter(text.as_bytes()) {
        let (name, value) = line.map_err(|_| {
            let what = format!("`{shown}` has a line that is not `NAME=value`");
            Failure::new(
                "file",
                exit::FAILED,
                what,
                "write NAME=value, and quotes around a value with spaces",
            )
        })?;
        let value = if value.starts_with("dk://") {
            What::Key(value.parse().map_err(|error| {
                Failure::usage(
                    format!("{name} in `{shown}`: {error}"),
                    "write dk://vendor/scope, or dk://vendor/scope#field",
                )
            })?)
        } else {
            What::Plain(value)
        };
        lines.push(Line { name, value });
    }
    Ok(lines)
}

fn name_leases(found: &[Found], guard: &mut Guard) -> Result<(), Failure> {
    found.iter().try_for_each(|one| guard.end("leases", &one.lease))
}

fn announce(found: &[Found], watch: bool, context: &mut Context<'_>) {
    let leases: Vec<&str> = found.iter().map(|one| one.lease.as_str()).collect();
    let first = found.iter().map(|one| one.expires).min().unwrap_or_default();
    if context.style.format != Format::Text {
        let facts = json!({ "object": "run", "leases": leases, "expires": first, "watch": watch });
        return talk(context, &facts.to_string());
    }
    let count = match leases.len() {
        1 => "1 reference is".to_owned(),
        more => format!("{more} references are"),
    };
    let after = if watch {
        "then the program starts again with a new key"
    } else {
        "then it is dead (--watch starts the program again with a new one)"
    };
    let (leases, when) = (leases.join(", "), relative(first, context.now()));
    let text = format!(
        "dekeys: {count} resolved ({leases}), revoked when the program ends. The first key ends {when}; {after}"
    );
    talk(context, &text);
}

fn launch(args: &RunArgs, lines: &[Line], found: &[Found], context: &Context<'_>) -> Result<Running, Failure> {
    let mut set = Vec::with_capacity(lines.len());
    for line in lines {
        set.push(match &line.value {
            What::Plain(value) => Set::Plain(line.name.clone(), value.clone()),
            What::Key(wanted) => Set::Secret(line.name.clone(), wanted.of(found)?),
        });
    }
    let secrets: Vec<&SecretText> = found.iter().flat_map(Found::secrets).collect();
    let masks = masks(args, &secrets, true, context);
    let command = &args.command;
    Program { command, set, masks }.start()
}

/// A program with its keys, and what is needed for the next ones.
struct Turn<'a> {
    args: &'a RunArgs,
    lines: &'a [Line],
    wanted: &'a [Wanted],
    asked: &'a Asked,
    found: Vec<Found>,
    guard: Guard,
}

impl Turn<'_> {
    /// Passes signals on until the program ends; with `--watch` starts it again when a key changed.
    async fn follow(
        &mut self,
        mut running: Running,
        mut signals: tokio::sync::mpsc::UnboundedReceiver<Signal>,
        context: &mut Context<'_>,
    ) -> Result<(Running, std::process::ExitStatus), Failure> {
        let client = context.client()?;
        let mut stopping = None;
        loop {
            tokio::select! {
                status = running.wait() => return Ok((running, status?)),
                Some(signal) = signals.recv() => {
                    if signal == Signal::TERM {
                        stopping.get_or_insert_with(|| tokio::time::Instant::now() + child::GRACE);
                    }
                    if !child::came_from_terminal(signal, context.style.terminal) {
                        running.signal(signal);
                    }
                }
                () = until(stopping) => {
                    running.signal(Signal::KILL);
                    stopping = None;
                }
                () = key_is_over(&client, &self.found, context.world.clock.as_ref()), if self.args.watch && stopping.is_none() => {
                    if let Some(next) = self.again(&mut running, context).await? {
                        running.drain().await;
                        running = next;
                    }
                }
            }
        }
    }

    /// Gets the new keys and starts the program with them. Without new keys it goes on as it is.
    async fn again(&mut self, running: &mut Running, context: &mut Context<'_>) -> Result<Option<Running>, Failure> {
        let found = match find(self.asked, self.wanted, context).await {
            Ok(found) => found,
            Err(failure) => {
                let why = failure.words();
                talk(context, &format!("dekeys: warning: no new key: {why}; trying again"));
                tokio::time::sleep(LOOK).await;
                return Ok(None);
            }
        };
        name_leases(&found, &mut self.guard)?;
        self.found = found;
        talk(context, "dekeys: a key changed, the program is started again");
        running.stop().await?;
        launch(self.args, self.lines, &self.found, context).map(Some)
    }
}

/// Waits until a lease has ended: by its time, or because it was revoked.
async fn key_is_over(client: &Client, found: &[Found], clock: &dyn crate::base::time::Clock) {
    loop {
        let now = clock.now();
        let first = found
            .iter()
            .map(|one| one.expires)
            .min()
            .unwrap_or_else(Timestamp::default);
        if first <= now {
            return;
        }
        tokio::time::sleep(LOOK.min(first.since(now).to_std())).await;
        for one in found {
            let Ok(reply) = client.send(&Request::get(&["v1", "leases", &one.lease])).await else {
                continue;
            };
            if !matches!(
                reply.json().get("state").and_then(Value::as_str),
                Some("active" | "pending") | None
            ) {
                return;
            }
        }
    }
}
