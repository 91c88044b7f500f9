//! A server that lives on while what it stands on fails: its database goes away, its descriptors run out, it is stopped for
//! longer than others wait for it.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dekeys::base::random::{OsRandom, Random, SeededRandom};
use dekeys::client::Request;
use serde_json::json;
use tokio::task::JoinHandle;

use super::check;
use super::cluster::Cluster;
use super::load::{Player, Seen, below, note};
use super::pair::{Database, beside, scene_in};
use super::random::{number, present_again, say, trouble};
use super::scene::{FREE, Scene, word};
use super::server::{Server, Setting, pause, until};

/// Four agents at work until they are told to stop, whatever they are answered.
struct Load {
    stop: Arc<AtomicBool>,
    players: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(scene: &Scene, server: &Server, seen: &Seen, random: &Arc<dyn Random>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let players = (0..4)
            .map(|_| {
                let player = Player::new(scene, server, seen).in_trouble();
                let (stop, random) = (Arc::clone(&stop), Arc::clone(random));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        if player.life(random.as_ref()).await.is_err() {
                            pause().await;
                        }
                    }
                })
            })
            .collect();
        Self { stop, players }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for player in self.players {
            player.await.unwrap();
        }
    }
}

/// Waits until that many more grants were given out.
async fn more_grants(seen: &Seen, more: usize) {
    let count = || {
        let mut count = 0;
        note(seen, |seen| count = seen.grants.len());
        count
    };
    let before = count();
    until("more grants", async || (count() >= before + more).then_some(())).await;
}

async fn answers(server: &Server, status: u16) {
    let anyone = server.client(None);
    until("readyz to change", async || {
        let reply = anyone.send_any(&Request::get(&["readyz"])).await;
        reply.is_ok_and(|reply| reply.status == status).then_some(())
    })
    .await;
}

fn seeded(name: &str) -> Arc<dyn Random> {
    let seed = number("DEKEYS_CRASH_SEED").unwrap_or_else(|| below(&OsRandom, u64::MAX));
    say(&format!("crash: {name}, DEKEYS_CRASH_SEED={seed}"));
    Arc::new(SeededRandom::new(seed))
}

/// All is as after a restart, without one.
async fn nothing_is_lost(scene: &Scene, server: &Server, seen: &Seen) {
    check::always(scene, server, seen).await;
    present_again(scene, server, seen).await;
    check::at_rest(scene, server).await;
    check::always(scene, server, seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_and_comes_back_costs_nothing() {
    let Some(database) = Database::create("away").await else {
        return;
    };
    let (scene, server) = database.scene().await;
    let random = seeded("the database goes away");
    let seen = Seen::default();
    let load = Load::begin(&scene, &server, &seen, &random);
    for _ in 0..number("DEKEYS_CRASH_OUTAGES").unwrap_or(4) {
        more_grants(&seen, 5).await;
        trouble(&scene, random.as_ref());
        // In the middle of whatever is being written.
        tokio::time::sleep(Duration::from_millis(below(random.as_ref(), 200))).await;
        database.go_away().await;
        answers(&server, 503).await;
        database.come_back().await;
        answers(&server, 200).await;
    }
    load.end().await;
    nothing_is_lost(&scene, &server, &seen).await;
    drop(server);
    database.drop().await;
}

/// Its server dies with all its processes, and finds in its own log what it had promised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_and_recovers_costs_nothing() {
    let Some(cluster) = Cluster::start("a_database_that_crashes").await else {
        return;
    };
    let (scene, server) = scene_in(cluster.url()).await;
    let random = seeded("the database crashes");
    let seen = Seen::default();
    let load = Load::begin(&scene, &server, &seen, &random);
    for _ in 0..number("DEKEYS_CRASH_OUTAGES").unwrap_or(4) {
        more_grants(&seen, 5).await;
        trouble(&scene, random.as_ref());
        // In the middle of whatever is being written.
        tokio::time::sleep(Duration::from_millis(below(random.as_ref(), 200))).await;
        cluster.kill();
        answers(&server, 503).await;
        cluster.up().await;
        answers(&server, 200).await;
    }
    load.end().await;
    nothing_is_lost(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_that_run_out_cost_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut setting = Setting::in_dir(&place.path().join("data"));
    setting.descriptors = Some(96);
    let (scene, server) = Scene::prepare(setting, Some(place)).await;
    let random = seeded("no descriptors");
    let seen = Seen::default();
    let load = Load::begin(&scene, &server, &seen, &random);
    for _ in 0..3 {
        more_grants(&seen, 5).await;
        let address = server.url.trim_start_matches("http://").to_owned();
        // More than it may have open; nothing is ever sent on them.
        let idle: Vec<_> = (0..120).map(|_| TcpStream::connect(&address).unwrap()).collect();
        until("the server to feel it", async || {
            let full = std::fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero()));
            (full.unwrap().count() >= 90).then_some(())
        })
        .await;
        drop(idle);
    }
    more_grants(&seen, 5).await;
    load.end().await;
    nothing_is_lost(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_stopped_for_a_while_only_adds_what_it_knows() {
    let Some(database) = Database::create("stopped").await else {
        return;
    };
    let (scene, first) = database.scene().await;
    let second = beside(&scene).start().await;
    let random = seeded("a server is stopped");
    let seen = Seen::default();
    let load = Load::begin(&scene, &first, &seen, &random);
    more_grants(&seen, 5).await;
    trouble(&scene, random.as_ref());
    tokio::time::sleep(Duration::from_millis(below(random.as_ref(), 200))).await;
    first.pause();
    // The other one waits until the time of what was begun is over, and puts it right.
    check::at_rest(&scene, &second).await;
    check::always(&scene, &second, &seen).await;
    // Then the stopped one goes on where it was, with answers and decisions that are old.
    first.go_on();
    load.end().await;
    nothing_is_lost(&scene, &second, &seen).await;
    check::always(&scene, &first, &seen).await;
    drop((first, second));
    database.drop().await;
}

/// Where Debian puts libfaketime.
fn faketime() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    found.into_iter().next()
}

/// Whole or not at all: the server reads it at every look at the clock.
fn set_clock(file: &Path, off: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, off).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// By a clock that is set ahead all leases would be over, by one that is set back none would ever be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_ends_nothing_and_releases_nothing() {
    let Some(library) = faketime() else {
        say("SKIPPED a_clock_that_is_set: libfaketime is not installed");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("clock");
    set_clock(&file, "+0");
    let mut setting = Setting::in_dir(&place.path().join("data"));
    setting.clock = Some((library, file.clone()));
    let (scene, server) = Scene::prepare(setting, Some(place)).await;
    let seen = Seen::default();
    let player = Player::new(&scene, &server, &seen);
    let long = player.be_given(None).await.ok().flatten().unwrap();
    assert!(player.resolve(&long).await.is_ok_and(|key| key.is_some()));
    let ask = json!({ "reference": FREE });
    for off in ["+3600", "-180", "+34560000", "-3600", "+3600"] {
        let brief = player.be_given_for(None, Some("3s")).await.ok().flatten();
        assert!(brief.is_some(), "before {off}");
        set_clock(&file, off);
        answers(&server, 503).await;
        let refused = scene
            .agent(&server)
            .send_any(&Request::post(&["v1", "grants"]).json(&ask))
            .await;
        let refused = refused.unwrap();
        assert_eq!(
            (refused.status, word(&refused.json(), "/code").as_str()),
            (503, "overloaded"),
            "{off}"
        );
        if off.starts_with('+') {
            // Time goes on as it was: what is over by that ends, and nothing else.
            until("the brief key to end", async || {
                (scene.vendor.live_keys().len() == 1).then_some(())
            })
            .await;
        }
        set_clock(&file, "+0");
        answers(&server, 200).await;
        until("the brief key to end", async || {
            (scene.vendor.live_keys().len() == 1).then_some(())
        })
        .await;
        assert!(
            player.resolve(&long).await.is_ok_and(|key| key.is_some()),
            "after {off}"
        );
    }
    nothing_is_lost(&scene, &server, &seen).await;
}
