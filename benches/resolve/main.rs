//! How fast is dekeys? `cargo bench --bench resolve -- [sqlite|postgres|writer|process …] [--case WORDS] [--rounds N]
//! [--seconds S]`; `--case` keeps the cases whose name has these words.
//!
//! Absolute figures say more of the machine than of dekeys, so each case is measured in turn with a floor in the same
//! process: what the HTTP library alone takes for a request with a token and a small body. The ratio of each pair is
//! what counts; its median, least and greatest over the rounds are printed. docs/performance.md explains the cases.

mod load;
mod process;
mod product;
mod report;
mod server;
mod world;

use std::path::PathBuf;

use load::Requests;
use report::{Row, Sample, Table};
use world::World;

/// As in the product; the floor has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An outcome of anything here; what goes wrong ends the run.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--serve", database, dir] => server::run(database, &PathBuf::from(dir)),
        _ => Plan::read(&words)?.run(),
    }
}

/// What to measure, how often and how long.
struct Plan {
    cases: Vec<String>,
    only: String,
    rounds: u32,
    seconds: u32,
}

/// One thing to measure against the floor.
#[derive(Clone, Copy)]
enum Case {
    Floor,
    WhoamiBySession,
    WhoamiByKey,
    BySession,
    ByKey,
    FirstSight,
    FreshToken,
}

impl Plan {
    fn read(words: &[&str]) -> Outcome<Self> {
        let mut plan = Self {
            cases: Vec::new(),
            only: String::new(),
            rounds: 5,
            seconds: 2,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .ok_or("a number is missing")
            };
            match *word {
                "--bench" => {}
                "--case" => (*words.next().ok_or("the words are missing")?).clone_into(&mut plan.only),
                "--rounds" => plan.rounds = number()?,
                "--seconds" => plan.seconds = number()?,
                "sqlite" | "postgres" | "writer" | "process" => plan.cases.push((*word).to_owned()),
                other => return Err(format!("`{other}` is none of sqlite, postgres, writer, process").into()),
            }
        }
        Ok(plan)
    }

    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|wanted| wanted == case)
    }

    fn run(&self) -> Outcome<()> {
        use Case::{ByKey, BySession, FirstSight, Floor, FreshToken, WhoamiByKey, WhoamiBySession};
        if self.wants("sqlite") {
            let dir = tempfile::tempdir()?;
            let world = World::start("sqlite", dir.path())?;
            let all = [
                Floor,
                WhoamiBySession,
                WhoamiByKey,
                BySession,
                ByKey,
                FirstSight,
                FreshToken,
            ];
            self.compare(&world, "SQLite, 64 connections", 64, &all)?;
            self.compare(&world, "SQLite, 256 connections", 256, &[Floor, BySession, ByKey])?;
            report::line(&format!("memory of the loaded server: {:.1} MB", world.memory()?))?;
        }
        if self.wants("writer") {
            let dir = tempfile::tempdir()?;
            self.writer(&mut World::start("sqlite", dir.path())?, "SQLite")?;
        }
        if self.wants("postgres") {
            self.postgres()?;
        }
        if self.wants("process") {
            product::run(self.rounds)?;
        }
        Ok(())
    }

    fn postgres(&self) -> Outcome<()> {
        let Some(server) = std::env::var_os("DEKEYS_TEST_POSTGRES") else {
            return report::line("PostgreSQL: not measured, DEKEYS_TEST_POSTGRES is not set");
        };
        let server = server.into_string().map_err(|_| "DEKEYS_TEST_POSTGRES is not text")?;
        let database = product::Postgres::make(&server)?;
        let dir = tempfile::tempdir()?;
        let mut world = World::start(&database.url, dir.path())?;
        let cases = [Case::Floor, Case::BySession];
        self.compare(&world, "PostgreSQL, 64 connections", 64, &cases)?;
        self.compare(&world, "PostgreSQL, 256 connections", 256, &cases)?;
        self.writer(&mut world, "PostgreSQL")?;
        drop(world);
        database.remove()
    }

    /// Measures the cases in turn, round after round.
    fn compare(&self, world: &World, title: &str, connections: u32, cases: &[Case]) -> Outcome<()> {
        let mut rows: Vec<(Case, Row, f64)> = Vec::with_capacity(cases.len());
        let kept = |case: &&Case| matches!(case, Case::Floor) || case.name().contains(&self.only);
        for case in cases.iter().filter(kept) {
            let first = case.measure(world, connections, 30)?;
            rows.push((*case, Row::new(case.name()), first.rate));
        }
        for _ in 0..self.rounds {
            for (case, row, rate) in &mut rows {
                let each = whole(*rate * f64::from(self.seconds) / f64::from(connections))?;
                let sample = case.measure(world, connections, each.max(10))?;
                *rate = sample.rate;
                row.add(sample);
            }
        }
        Table::new(title, rows.into_iter().map(|(_, row, _)| row).collect()).print()
    }

    fn writer(&self, world: &mut World, engine: &str) -> Outcome<()> {
        for (clients, nonce) in [(64, false), (256, false), (64, true), (256, true)] {
            let mut row = Row::new("");
            let (mut rate, _) = world.write(clients, 20, nonce)?;
            for _ in 0..self.rounds {
                let each = whole(rate * f64::from(self.seconds) / f64::from(clients))?.max(10);
                let (next, cpu) = world.write(clients, each, nonce)?;
                rate = next;
                row.add(Sample::of(rate, cpu));
            }
            let nonces = if nonce { ", a nonce each" } else { "" };
            report::line(&format!(
                "writer alone on {engine}, {clients} at once{nonces}: {}",
                row.absolute()
            ))?;
        }
        Ok(())
    }
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::WhoamiBySession => "no writer, session-signed",
            Self::WhoamiByKey => "no writer, key-signed",
            Self::BySession => "durable resolve, session-signed",
            Self::ByKey => "durable resolve, key-signed",
            Self::FirstSight => "first sight of a token, session-signed",
            Self::FreshToken => "fresh token, session-signed",
        }
    }

    fn measure(self, world: &World, connections: u32, each: u32) -> Outcome<Sample> {
        let requests = match self {
            Self::Floor => Requests::Same {
                request: world.floor_request()?,
                connections,
                each,
            },
            Self::WhoamiBySession => Requests::Once(world.whoamis(true, connections, each)?),
            Self::WhoamiByKey => Requests::Once(world.whoamis(false, connections, each)?),
            Self::BySession | Self::ByKey => {
                let asks = world.asks(64)?;
                // The decisions about these tokens are in the cache before the clock runs.
                load::run(
                    &world.authority(),
                    Requests::Once(world.resolves_by_session(&asks, 1, 64)?),
                )?;
                Requests::Once(match self {
                    Self::ByKey => world.resolves_by_key(&asks, connections, each)?,
                    _ => world.resolves_by_session(&asks, connections, each)?,
                })
            }
            Self::FirstSight => {
                let asks = world.asks(usize::try_from(connections * each)?)?;
                Requests::Once(world.resolves_by_session(&asks, connections, each)?)
            }
            Self::FreshToken => Requests::Once(world.mints(connections, each)?),
        };
        let authority = match self {
            Self::Floor => world.floor().to_owned(),
            _ => world.authority(),
        };
        let before = world.cpu()?;
        let measured = load::run(&authority, requests)?;
        let cpu = (world.cpu()? - before) / f64::from(measured.answers.max(1));
        // A busy machine may be told to come back; more than one in a hundred means that something else is wrong.
        if measured.refused * 100 > measured.answers {
            let first = measured.refusal.unwrap_or_default();
            return Err(format!("{}: {} refused, the first: {first}", self.name(), measured.refused).into());
        }
        Ok(Sample {
            rate: measured.rate,
            cpu,
            p50: measured.p50,
            p99: measured.p99,
            refused: measured.refused,
        })
    }
}

/// A count out of a calculation.
fn whole(number: f64) -> Outcome<u32> {
    Ok(format!("{:.0}", number.max(0.0)).parse()?)
}
