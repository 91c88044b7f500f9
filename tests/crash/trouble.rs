//! A server that lives on while what it stands on fails: its database goes away, its descriptors run out, it is stopped for
//! longer than others wait for it.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dekeys::base::random::{OsRandom, Random, SeededRandom};
use dekeys::client::Request;
use tokio::task::JoinHandle;

use super::check;
use super::load::{Player, Seen, below, note};
use super::pair::{Database, beside};
use super::random::{number, present_again, say, trouble};
use super::scene::Scene;
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
