//! A backlog: an instance with so many live leases, a part of them due while nobody served; then the server starts. How
//! long until it is ready, how much memory it holds, how quickly leases end and keys are revoked, and how long others
//! wait for their keys meanwhile.
//!
//! `cargo bench --bench backlog -- [--leases 200000] [--due 50000] [--seconds 60] [--growth]`. `--growth` measures the
//! end of all leases from 1,000 to 1,000,000 instead. Leases and credentials are written into the database directly, each
//! with the two events it has from its life before; the vendor is a process of its own that knows only what was made
//! through dekeys, and answers for the others that they are not there, which counts as ended.

mod prepare;
mod serve;

use std::process::ExitCode;
use std::time::Duration;

use serve::{Served, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A benchmark has nobody to tell but who started it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let seconds = Duration::from_secs(number(arguments, "--seconds")?.unwrap_or(60));
    runtime.block_on(async {
        if arguments.iter().any(|word| word == "--growth") {
            return growth(number(arguments, "--most")?.unwrap_or(1_000_000)).await;
        }
        let leases = number(arguments, "--leases")?.unwrap_or(200_000);
        let due = number(arguments, "--due")?.unwrap_or(50_000);
        backlog(leases, due, seconds).await
    })
}

fn number(arguments: &[String], name: &str) -> Outcome<Option<u64>> {
    let mut after = arguments.iter().skip_while(|word| *word != name).skip(1);
    Ok(after.next().map(|text| text.parse()).transpose()?)
}

async fn backlog(leases: u64, due: u64, seconds: Duration) -> Outcome<()> {
    let world = World::new().await?;
    world.fill(leases, due, true).await?;
    let served = world.serve(seconds).await?;
    say(&format!(
        "{leases} leases, {due} of them due at the start, {} s after it",
        seconds.as_secs()
    ));
    say("| | |\n|---|---|");
    tell(&served, due);
    Ok(())
}

fn tell(served: &Served, due: u64) {
    let ended = match served.all_ended {
        Some(after) => format!("all {due} after {:.1} s", after.as_secs_f64()),
        None => format!("{} of {due}", served.ended),
    };
    for (what, figure) in [
        ("start to ready", format!("{:.2} s", served.ready.as_secs_f64())),
        ("memory when ready", format!("{:.0} MB", served.memory_ready)),
        ("most memory", format!("{:.0} MB", served.memory_most)),
        ("leases ended", ended),
        (
            "keys revoked at the vendor",
            format!("{}, {:.0}/s", served.revoked, served.revoked_rate),
        ),
        (
            "resolves of another lease meanwhile",
            format!(
                "{}, {} refused; p50 {:.1} ms, p99 {:.1} ms",
                served.resolves,
                served.refused,
                millis(served.p50),
                millis(served.p99)
            ),
        ),
    ] {
        say(&format!("| {what} | {figure} |"));
    }
}

/// The end of leases, and a resolve, beside ever more of them.
async fn growth(most: u64) -> Outcome<()> {
    say("| leases | start to ready, s | memory when ready, MB | leases ended/s | resolve p50, ms | p99, ms |");
    say("|---|---|---|---|---|---|");
    let mut leases = 1000;
    while leases <= most {
        let world = World::new().await?;
        let due = (leases / 2).min(100_000);
        world.fill(leases, due, false).await?;
        let served = world.serve(Duration::from_secs(30)).await?;
        let rate = served.end_rate.unwrap_or_default();
        say(&format!(
            "| {leases} | {:.2} | {:.0} | {rate:.0} | {:.1} | {:.1} |",
            served.ready.as_secs_f64(),
            served.memory_ready,
            millis(served.p50),
            millis(served.p99)
        ));
        leases *= 10;
    }
    Ok(())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// To whoever started it.
pub(crate) fn say(words: &str) {
    use std::io::Write as _;
    // Nobody may listen.
    let _told = writeln!(std::io::stdout(), "{words}");
}
