//! `dekeys demo`: plays the eleven steps, tells each as it happens, and stays up.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::Format;
use crate::setup::demo::{Played, Step, play};
use crate::setup::server::until_stopped;
use crate::setup::stage::temporary_dir;

/// What `demo` takes.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Example: dekeys demo\nExample: dekeys demo --exit --json      for scripts")]
pub(crate) struct DemoArgs {
    /// End when the steps are done instead of staying up
    #[arg(long)]
    pub exit: bool,
    /// Keep its files here instead of in a new temporary folder
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Listen on this port of 127.0.0.1; a free one if it is taken
    #[arg(long, value_name = "PORT", default_value_t = 8402)]
    pub port: u16,
}

/// Runs the demonstration. It fails unless every step went as it should.
pub(crate) fn run(args: &DemoArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run_steps(args, context))
}

async fn run_steps(args: &DemoArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let text = context.style.format == Format::Text;
    let data_dir = args.data_dir.clone().unwrap_or_else(temporary_dir);
    if text {
        let version = env!("CARGO_PKG_VERSION");
        context.print(&format!(
            "dekeys {version} demo: test payments, demo vendor, nothing leaves this machine\n\n"
        ))?;
    }
    let mut unread = None;
    let mut tell = |step: &Step| {
        if text && unread.is_none() {
            unread = context.print(&lines(step)).err();
        }
    };
    let played = play(data_dir, args.port, &mut tell).await?;
    if let Some(unread) = unread {
        return Err(unread);
    }
    let ok = played.ok();
    let end = if text { end(&played, ok) } else { report(&played) };
    context.print(&end)?;
    if !args.exit {
        until_stopped().await;
    }
    let kept = played.stage.data_dir.display().to_string();
    played.stage.server.stop().await;
    if text && !args.exit {
        context.say(&format!("stopped; everything is in {kept}"))?;
    }
    if ok { Ok(()) } else { Err(Failure::Quiet(exit::FAILED)) }
}

fn lines(step: &Step) -> String {
    let mut text = String::new();
    for (row, words) in step.words.iter().enumerate() {
        let last = row + 1 == step.words.len();
        let head = if row == 0 {
            format!("{:>3} {:<9}", step.n, step.name)
        } else {
            " ".repeat(13)
        };
        let tail = if last {
            format!("{:>6.0} ms", step.ms)
        } else {
            String::new()
        };
        let mark = if step.ok || !last { "" } else { "   FAILED" };
        text.push_str(format!("{head} {words:<66} {tail}{mark}").trim_end());
        text.push('\n');
    }
    text
}

fn end(played: &Played, ok: bool) -> String {
    let verdict = if ok {
        "VALID"
    } else {
        "the demo did NOT go as it should"
    };
    let receipt = played.receipt_file.display();
    let keys = played.stage.data_dir.join("keys.json");
    let (url, key) = (&played.stage.server.url, played.stage.key_file("operator"));
    format!(
        "\n{}\n  {verdict}\n\nServer     {url}\nNext       dekeys receipt verify {receipt} --keys {}\n           \
         dekeys audit tail --addr {url} --key-file {}\n           dekeys help        press Ctrl-C to stop\n",
        played.receipt_words.trim_end(),
        keys.display(),
        key.display()
    )
}

/// The object of `--json`. The receipt stands in it byte for byte: written anew it would not verify.
#[derive(Serialize)]
struct Report<'a> {
    steps: &'a [Step],
    receipt: Option<&'a RawValue>,
    url: &'a str,
}

fn report(played: &Played) -> String {
    let receipt = played
        .receipt
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let report = Report {
        steps: &played.steps,
        receipt,
        url: &played.stage.server.url,
    };
    let json = serde_json::to_string(&report).unwrap_or_default();
    format!("{json}\n")
}
