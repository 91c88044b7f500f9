//! kill -9 at every arrow. Each walk is gone once, and the points it passes are written down: every commit (before it, and
//! after it before anybody is told), every answer of a vendor and of the payment's rail, every file of a backup, every
//! answer of dekeys before it leaves and after it was read. Then the walk is gone again for each of them, with the server
//! dying there; the next one must put everything right.
//!
//! `DEKEYS_CRASH_POINTS` is how many points of a walk are tried (3 unless set; `all` for all), `DEKEYS_CRASH_SEED` chooses
//! them, `DEKEYS_CRASH_SLICE=1/4` takes a quarter of all, `DEKEYS_CRASH_TROUBLE=1` has the vendor lose, delay, double and refuse meanwhile, `DEKEYS_CRASH_WALK` names one
//! walk. On PostgreSQL with `DEKEYS_CRASH_POSTGRES=1`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dekeys::base::random::{OsRandom, Random, SeededRandom};

use super::check;
use super::load::{Countdown, Seen, below};
use super::pair::Database;
use super::random::{number, present_again, say, trouble};
use super::record::Kill;
use super::server::{Server, pause};
use super::walks::{Ground, Walk};

/// A point that is passed more often is tried so often.
const PASSES: u32 = 2;

/// How long what was armed may still be met after the walk: by the workers, which number events and look at timers.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Where the server is to die.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Point {
    /// `STAGE NAME N`, as fail points are armed.
    Inside(String),
    /// After so many answers were read.
    AfterReply(i64),
}

impl Point {
    fn words(&self) -> String {
        match self {
            Self::Inside(armed) => armed.clone(),
            Self::AfterReply(answers) => format!("after-reply {answers}"),
        }
    }
}

struct Sweep {
    ground: Ground,
    seen: Seen,
    random: Arc<dyn Random>,
    seed: u64,
    trouble: bool,
}

/// All walks on SQLite; each instance is thrown away after its walk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_arrow_loses_nothing_on_sqlite() {
    for walk in wanted() {
        sweep(walk, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_arrow_loses_nothing_on_postgres() {
    if std::env::var_os("DEKEYS_CRASH_POSTGRES").is_none() {
        return say("SKIPPED kills at arrows on PostgreSQL: set DEKEYS_CRASH_POSTGRES=1 (timers of 30 s decide there)");
    }
    for (number, walk) in wanted().into_iter().enumerate() {
        let Some(database) = Database::create(&format!("arrows{number}")).await else {
            return;
        };
        sweep(walk, Some(database.url())).await;
        database.drop().await;
    }
}

fn wanted() -> Vec<Walk> {
    let name = std::env::var_os("DEKEYS_CRASH_WALK").map(|text| text.into_string().unwrap());
    let chosen: Vec<Walk> = Walk::ALL
        .into_iter()
        .filter(|walk| name.as_ref().is_none_or(|name| name == walk.name()))
        .collect();
    assert!(!chosen.is_empty(), "no walk is called {name:?}");
    chosen
}

/// How many points of a walk are tried; `None` is all.
fn budget() -> Option<usize> {
    match std::env::var_os("DEKEYS_CRASH_POINTS") {
        None => Some(3),
        Some(text) if text == "all" => None,
        Some(text) => Some(text.to_string_lossy().parse().unwrap()),
    }
}

/// `DEKEYS_CRASH_SLICE=1/4`: the first of four parts of all points, from 0 here.
fn slice() -> (usize, usize) {
    let Some(text) = std::env::var_os("DEKEYS_CRASH_SLICE") else {
        return (0, 1);
    };
    let text = text.into_string().unwrap();
    let (slice, of) = text.split_once('/').unwrap();
    (slice.parse::<usize>().unwrap() - 1, of.parse().unwrap())
}

async fn sweep(walk: Walk, database_url: Option<String>) {
    let seed = number("DEKEYS_CRASH_SEED").unwrap_or_else(|| below(&OsRandom, u64::MAX));
    let seen = Seen::default();
    let (ground, server) = Ground::prepare(walk, database_url, &seen).await;
    let sweep = Sweep {
        ground,
        seen,
        random: Arc::new(SeededRandom::new(seed)),
        seed,
        trouble: std::env::var_os("DEKEYS_CRASH_TROUBLE").is_some(),
    };
    let all = sweep.discover(&server).await;
    let points = sweep.choose(&all);
    let (mut server, mut reached) = (server, 0);
    for point in &points {
        let met;
        (server, met) = sweep.kill_at(point, server).await;
        reached += usize::from(met);
    }
    sweep.ground.rests(&server).await;
    check::at_rest(&sweep.ground.scene, &server).await;
    check::always(&sweep.ground.scene, &server, &sweep.seen).await;
    say(&format!(
        "crash: {}, DEKEYS_CRASH_SEED={seed}: {} of {} points, {reached} met",
        walk.name(),
        points.len(),
        all.len()
    ));
    // Workers meet at another moment each time, and a vendor in trouble answers otherwise; but most must be met.
    let most = if sweep.trouble {
        points.len() / 3
    } else {
        points.len() * 3 / 4
    };
    assert!(reached >= most, "only {reached} of {points:?} were met");
}

impl Sweep {
    /// Goes the walk unharmed and answers where the server can die in it.
    async fn discover(&self, server: &Server) -> Vec<Point> {
        let file = self.ground.point_file("passed");
        std::fs::write(&file, "").unwrap();
        let countdown = Countdown::new(server, 0);
        let gone = self.ground.go(server, &self.seen, &countdown).await.is_err();
        assert!(!gone, "the server is gone: {}", server.tail());
        // The workers are to come round once.
        tokio::time::sleep(AFTERWARDS / 2).await;
        let passed = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let mut passes: HashMap<&str, u32> = HashMap::new();
        let mut points = Vec::new();
        // What everybody's looks pass is no arrow of the walk.
        for line in passed
            .lines()
            .filter(|line| !line.starts_with("replying list") && !line.starts_with("replying get"))
        {
            let pass = passes.entry(line).or_default();
            *pass += 1;
            if *pass <= PASSES {
                points.push(Point::Inside(format!("{line} {pass}")));
            }
        }
        points.extend((1..=-countdown.left()).map(Point::AfterReply));
        points
    }

    fn choose(&self, all: &[Point]) -> Vec<Point> {
        let mut left = all.to_vec();
        let Some(budget) = budget() else {
            let (slice, of) = slice();
            return left.into_iter().skip(slice).step_by(of).collect();
        };
        let mut chosen = Vec::new();
        while chosen.len() < budget && !left.is_empty() {
            let place = usize::try_from(below(self.random.as_ref(), left.len() as u64)).unwrap();
            chosen.push(left.swap_remove(place));
        }
        chosen
    }

    /// Goes the walk with a server that dies there; answers the next server, and whether it died by itself.
    async fn kill_at(&self, point: &Point, mut server: Server) -> (Server, bool) {
        let scene = &self.ground.scene;
        let faults = if self.trouble {
            trouble(scene, self.random.as_ref())
        } else {
            0
        };
        let countdown = match point {
            Point::Inside(armed) => {
                std::fs::write(self.ground.point_file("armed"), armed).unwrap();
                Countdown::new(&server, 0)
            }
            Point::AfterReply(answers) => Countdown::new(&server, *answers),
        };
        let _gone = self.ground.go(&server, &self.seen, &countdown).await;
        let end = Instant::now() + AFTERWARDS;
        while server.runs() && Instant::now() < end {
            pause().await;
        }
        let met = !server.runs();
        let _disarmed = std::fs::remove_file(self.ground.point_file("armed"));
        server.kill();
        let began = Instant::now();
        let server = scene.start().await;
        let ready = began.elapsed();
        check::always(scene, &server, &self.seen).await;
        scene.vendor.clear_faults();
        present_again(scene, &server, &self.seen).await;
        self.ground.holds(&server, &self.seen).await;
        // Where timers of 30 s decide what is left over, not every kill is waited for; the walk's end is.
        let waits = scene.takes_up_at_once() || below(self.random.as_ref(), 8) == 0;
        let orphans = if waits {
            check::orphans_end(scene, &server).await
        } else {
            None
        };
        let words = point.words();
        let kill = Kill {
            scene,
            suite: "arrows",
            walk: self.ground.walk.name(),
            point: if met { &words } else { "" },
            seed: self.seed,
            faults,
            ready,
            orphans,
        };
        kill.record();
        (server, met)
    }
}
