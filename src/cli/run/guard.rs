//! The guard: a second process of this program that ends what `run` opened when `run` is gone, however it went.
//!
//! `run` holds the writing end of a pipe and names on it what must be ended. When the pipe closes, by `run` itself or by
//! the kernel after a SIGKILL, the guard ends what was named, and tries again while dekeys cannot be reached. It lives in
//! a session of its own, so that a terminal's signals and a kill of the process group do not reach it.
//!
//! Not protected: both processes killed at once (a container that is removed, a service manager that kills the whole
//! control group). Then the narrowing of minutes, the lease and the grant run out at dekeys.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::exit;
use super::super::failure::Failure;
use crate::base::secret::SecretText;
use crate::client::{Client, ClientError, KeyFile, Request, secret};

/// How often and how long it tries: each wait is twice the one before, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
const TRIES: u32 = 64;

/// How long `run` waits for the guard's word at its own end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be ended: the path of an operation that revokes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// `grants` or `leases`.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// A line on the pipe to the guard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// End this when the pipe closes.
    End(Target),
    /// End nothing: what was named is somebody else's again.
    Forget,
}

/// What became of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Which.
    pub target: Target,
    /// `ended`, `unconfirmed` (the vendor has not said yet that the key is dead) or `failed`.
    pub state: String,
    /// Keys that were ended with it.
    pub keys: u64,
    /// Why it failed.
    pub why: Option<String>,
}

/// The side of the guard that `run` holds.
pub(crate) struct Guard {
    process: Child,
    orders: Option<ChildStdin>,
    words: Option<BufReader<ChildStdout>>,
    named: usize,
}

impl Guard {
    /// Starts it, and waits until it watches.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(address: &str, key: &KeyFile) -> Result<Self, Failure> {
        let failed = || {
            let fix = "check that the program file of dekeys is where it was and may be run";
            Failure::new(
                "guard",
                exit::FAILED,
                "the process that revokes at the end does not start",
                fix,
            )
        };
        let program = std::env::current_exe().map_err(|_| failed())?;
        let mut process = Command::new(program)
            .arg("run-guard")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| failed())?;
        let (mut orders, words) = (process.stdin.take(), process.stdout.take().map(BufReader::new));
        let (Some(pipe), Some(mut words)) = (orders.as_mut(), words) else {
            return Err(failed());
        };
        let mut line = secret::with_member(
            &serde_json::Map::from_iter([("address".to_owned(), json!(address))]),
            "key",
            &secret::json(&key.to_text()),
        );
        line.push(b'\n');
        pipe.write_all(&line).map_err(|_| failed())?;
        let mut ready = String::new();
        words.read_line(&mut ready).map_err(|_| failed())?;
        if ready != "ready\n" {
            return Err(failed());
        }
        Ok(Self {
            process,
            orders,
            words: Some(words),
            named: 0,
        })
    }

    /// Ends this, too, when the time has come.
    pub(crate) fn end(&mut self, kind: &str, id: &str) -> Result<(), Failure> {
        let target = Target {
            kind: kind.to_owned(),
            id: id.to_owned(),
        };
        self.named += 1;
        self.order(&Order::End(target))
    }

    /// How much is to be ended.
    pub(crate) const fn named(&self) -> usize {
        self.named
    }

    /// Ends nothing after all.
    pub(crate) fn forget(mut self) -> Result<(), Failure> {
        self.order(&Order::Forget)?;
        self.close();
        Ok(())
    }

    fn order(&mut self, order: &Order) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(order).unwrap_or_default();
        line.push(b'\n');
        match &mut self.orders {
            Some(pipe) => Ok(pipe.write_all(&line)?),
            None => Ok(()),
        }
    }

    /// The time has come: what became of each target. Fewer than were named when the guard still tries.
    pub(crate) async fn finish(mut self) -> Vec<Outcome> {
        self.close();
        let Some(words) = self.words.take() else {
            return Vec::new();
        };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        // A thread of its own: nothing waits for it when the guard takes longer.
        std::thread::spawn(move || {
            let read = |line: std::io::Result<String>| serde_json::from_str(&line.ok()?).ok();
            for outcome in words.lines().map_while(read) {
                if tell.send(outcome).is_err() {
                    break;
                }
            }
        });
        let mut outcomes = Vec::new();
        let all = async {
            while let Some(outcome) = told.recv().await {
                outcomes.push(outcome);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await.is_ok();
        if in_time {
            // It has said all and ends: nothing is left for the system to clean up.
            let _ended = self.process.wait();
        }
        outcomes
    }

    fn close(&mut self) {
        self.orders = None;
    }
}

#[derive(Deserialize)]
struct Beginning {
    address: String,
}

/// The guard itself: `dekeys run-guard`, started by `run` alone.
pub(crate) fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    super::hide_memory();
    // It may be a session's leader already: then it stays one.
    let _new = rustix::process::setsid();
    let (client, targets) = watch(context)?;
    if targets.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(end_all(&client, targets, context));
    Ok(())
}

/// Reads until the pipe closes.
fn watch(context: &mut Context<'_>) -> Result<(Client, Vec<Target>), Failure> {
    let first = secret::read_line(&mut context.world.stdin, "standard input")?;
    let (beginning, key) = secret::parsed::<Beginning>(&first, "/key").ok_or_else(|| {
        Failure::usage(
            "this is the part of `dekeys run` that revokes at the end",
            "use `dekeys run`",
        )
    })?;
    let address = super::super::context::parse_address(&beginning.address)?;
    let client = context.client_with(address, Some(KeyFile::parse(&key)?), None)?;
    context.print("ready")?;
    let mut targets = Vec::new();
    let mut text = String::new();
    context.world.stdin.read_to_string(&mut text)?;
    for order in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match order {
            Order::End(target) => targets.push(target),
            Order::Forget => targets.clear(),
        }
    }
    Ok((client, targets))
}

/// Ends all of them, each as soon as it can be.
async fn end_all(client: &Client, mut targets: Vec<Target>, context: &mut Context<'_>) {
    let mut wait = FIRST_WAIT;
    for last in (0..TRIES).rev() {
        let mut left = Vec::new();
        for target in targets {
            match end(client, &target).await {
                Ok(outcome) => tell(context, &outcome),
                Err(why) if last == 0 => tell(context, &failed(target, why)),
                Err(_) => left.push(target),
            }
        }
        if left.is_empty() {
            return;
        }
        targets = left;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// One try. An error is worth another one.
async fn end(client: &Client, target: &Target) -> Result<Outcome, String> {
    let request = Request::post(&["v1", &target.kind, &target.id, "revoke"]);
    let request = request.json(&json!({ "reason": "the program of `dekeys run` has ended" }));
    match client.send(&request).await {
        Ok(reply) => {
            let answer = reply.json();
            let confirmed = answer.get("confirmed") != Some(&Value::Bool(false));
            Ok(Outcome {
                target: target.clone(),
                state: if confirmed { "ended" } else { "unconfirmed" }.to_owned(),
                keys: answer.get("credentials").and_then(Value::as_u64).unwrap_or_default(),
                why: None,
            })
        }
        Err(ClientError::Refused(refused)) if matches!(refused.status, 400..=428) && refused.status != 408 => {
            Ok(failed(target.clone(), format!("{} ({})", refused.title, refused.code)))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn failed(target: Target, why: String) -> Outcome {
    Outcome {
        target,
        state: "failed".to_owned(),
        keys: 0,
        why: Some(why),
    }
}

/// Tells `run`, if it is still there.
fn tell(context: &mut Context<'_>, outcome: &Outcome) {
    let line = serde_json::to_string(outcome).unwrap_or_default();
    let _unread = context.print(&line);
}

/// A stand-in that cannot be guessed: 24 random bytes.
pub(crate) fn stand_in(random: &dyn crate::base::random::Random) -> SecretText {
    let bytes = crate::base::random::bytes::<24>(random);
    SecretText::new(format!("dkr_{}", crate::base::id::base64url(&bytes)))
}
