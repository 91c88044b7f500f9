//! kill -9 at random moments of purchases and resolves.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dekeys::base::random::{OsRandom, Random, SeededRandom};
use dekeys::mock::Fault;

use super::check;
use super::load::{Player, Seen, below, note};
use super::scene::Scene;
use super::server::{PATIENCE, Server, pause};

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var_os(name).map(|text| text.to_string_lossy().parse().unwrap())
}

/// Past the test harness, which keeps what passing tests print.
pub(crate) fn say(words: &str) {
    writeln!(std::io::stderr(), "{words}").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_on_sqlite() {
    let (scene, server) = Scene::new().await;
    rounds(&scene, server, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_that_was_paid_first() {
    let (scene, server) = Scene::new_prepaid().await;
    rounds(&scene, server, 6).await;
}

/// Kills and restarts, checking each time; then waits for rest.
pub(crate) async fn rounds(scene: &Scene, first: Server, usual: u64) {
    let seed = number("DEKEYS_CRASH_SEED").unwrap_or_else(|| below(&OsRandom, u64::MAX));
    let rounds = number("DEKEYS_CRASH_ROUNDS").unwrap_or(usual);
    say(&format!("crash: DEKEYS_CRASH_SEED={seed} DEKEYS_CRASH_ROUNDS={rounds}"));
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(seed));
    let seen = Seen::default();
    let mut slowest = Duration::ZERO;
    let mut server = first;
    for round in 0..rounds {
        trouble(scene, random.as_ref());
        let players: Vec<_> = (0..4)
            .map(|_| tokio::spawn(Player::new(scene, &server, &seen).play(Arc::clone(&random))))
            .collect();
        // The one wait that is meant: for the moment of the kill.
        tokio::time::sleep(Duration::from_millis(below(random.as_ref(), 900))).await;
        server.kill();
        for player in players {
            player.await.unwrap();
        }
        if round % 3 == 2 {
            // Also while it starts and takes up what the last one left.
            let starting = scene.setting.spawn();
            tokio::time::sleep(Duration::from_millis(below(random.as_ref(), 500))).await;
            starting.kill();
        }
        let began = Instant::now();
        server = scene.start().await;
        slowest = slowest.max(began.elapsed());
        check::always(scene, &server, &seen).await;
        present_again(scene, &server, &seen).await;
    }
    check::at_rest(scene, &server).await;
    check::always(scene, &server, &seen).await;
    let mut counts = (0, 0);
    note(&seen, |seen| counts = (seen.grants.len(), seen.keys.len()));
    let (grants, keys) = counts;
    assert!(grants > 0 && keys > 0, "nothing was under way");
    say(&format!(
        "crash: {rounds} kills, {grants} grants, {keys} keys released, {} made, {} live, {} payments; slowest start {slowest:?}",
        scene.vendor.keys().len(),
        scene.vendor.live_keys().len(),
        scene.ledger().len(),
    ));
}

/// Sometimes the vendor is slow or drops answers, so that kills hit the middle of its calls.
fn trouble(scene: &Scene, random: &dyn Random) {
    let ops = ["create", "revoke", "list", "probe"];
    for _ in 0..below(random, 4) {
        let op = ops[usize::try_from(below(random, 4)).unwrap()];
        scene.vendor.fault(Fault {
            op: op.to_owned(),
            drop_reply: op != "list" && below(random, 3) == 0,
            delay_ms: Some(below(random, 400)),
            count: Some(2),
            ..Fault::default()
        });
    }
}

/// Everybody whose payment got no answer asks again. Whoever paid has a grant; nobody pays twice.
async fn present_again(scene: &Scene, server: &Server, seen: &Seen) {
    let player = Player::new(scene, server, seen);
    let mut unclear = Vec::new();
    note(seen, |seen| unclear = std::mem::take(&mut seen.unclear));
    for payment in unclear {
        let end = Instant::now() + PATIENCE;
        loop {
            let settled = scene.ledger().iter().any(|(_, nonce)| *nonce == payment.nonce);
            let answer = player.present_again(&payment).await;
            let (status, code, _) = answer.unwrap_or_else(|_| panic!("the server is gone: {}", server.tail()));
            match (status, code.as_str()) {
                (200 | 201, _) => break,
                // Paid first, and not made: it is kept as credit, which `check` holds against the events.
                (502, "payment_credited") if settled => break,
                // Begun and never entered: refused once nobody can enter it any more.
                (202, "payment_unknown") if !settled => break,
                (202, "payment_unknown") | (409, "idempotency_running") if !scene.takes_up_at_once() => break,
                (202, "payment_unknown") | (409, "idempotency_running") | (502 | 503, "vendor_unavailable") => {}
                other => panic!("{other:?} for {} {}", payment.payer, payment.nonce),
            }
            assert!(Instant::now() < end, "{} {code}: {}", payment.nonce, server.tail());
            pause().await;
        }
    }
}
