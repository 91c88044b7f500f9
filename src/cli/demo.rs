//! `dekeys demo`: plays the eleven steps and stays up.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::value::RawValue;

use super::output;
use crate::setup::SetupError;
use crate::setup::demo::{Played, Step, play};

/// What `dekeys demo` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// End after the steps instead of staying up
    #[arg(long)]
    pub exit: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Keep everything here instead of in a new temporary directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The port to listen on; another one is taken when somebody has it
    #[arg(long, default_value_t = 8402)]
    pub port: u16,
}

/// Plays the demo. Answers whether every step went as it should.
///
/// # Errors
/// [`SetupError`] when a step could not be tried.
pub async fn run(args: &DemoArgs) -> Result<bool, SetupError> {
    let data_dir = args.data_dir.clone().unwrap_or_else(crate::setup::stage::temporary_dir);
    if !args.json {
        let version = env!("CARGO_PKG_VERSION");
        output::line(&format!(
            "dekeys {version} demo: test payments, demo vendor, nothing leaves this machine\n"
        ));
    }
    let mut tell = |step: &Step| {
        if !args.json {
            print(step);
        }
    };
    let played = play(data_dir, args.port, &mut tell).await?;
    let ok = played.ok();
    if args.json {
        output::line(&report(&played));
    } else {
        print_end(&played, ok);
    }
    if !args.exit {
        super::serve::until_stopped().await;
    }
    let kept = played.stage.data_dir.clone();
    played.stage.server.stop().await;
    if !args.json && !args.exit {
        output::note(&format!("stopped; everything is in {}", kept.display()));
    }
    Ok(ok)
}

fn print(step: &Step) {
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
        output::line(&format!("{head} {words:<66} {tail}{mark}"));
    }
}

fn print_end(played: &Played, ok: bool) {
    output::line("");
    output::line(played.receipt_words.trim_end());
    output::line(if ok {
        "  VALID\n"
    } else {
        "  the demo did NOT go as it should\n"
    });
    let receipt = played.receipt_file.display();
    let (url, key) = (&played.stage.server.url, played.stage.key_file("operator"));
    output::line(&format!("Server     {url}"));
    output::line(&format!("Next       dekeys receipt verify {receipt} --addr {url}"));
    output::line(&format!(
        "           dekeys audit tail --addr {url} --key-file {}",
        key.display()
    ));
    output::line("           dekeys help        press Ctrl-C to stop");
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
    serde_json::to_string(&report).unwrap_or_default()
}
