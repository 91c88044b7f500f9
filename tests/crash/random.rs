//! kill -9 at random moments of purchases and resolves.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dekeys::base::random::{OsRandom, Random, SeededRandom};
use dekeys::mock::Fault;

use super::check;
use super::load::{Player, Seen, below, note};
use super::record::Kill;
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
    let (scene, server) = Scene::new_restless(0).await;
    rounds(&scene, server, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_that_was_paid_first() {
    let (scene, server) = Scene::new_restless(1).await;
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
        let faults = trouble(scene, random.as_ref());
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
        let ready = began.elapsed();
        slowest = slowest.max(ready);
        check::always(scene, &server, &seen).await;
        present_again(scene, &server, &seen).await;
        let kill = Kill {
            scene,
            suite: "random",
            walk: if scene.setting.trusted_after == 0 {
                "purchases"
            } else {
                "purchases, money first"
            },
            point: "",
            seed,
            faults,
            ready,
            orphans: check::orphans_end(scene, &server).await,
        };
        kill.record();
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

/// Sometimes the vendor is slow, loses an answer, makes two keys for one, refuses, answers with nonsense or shows a list
/// that lags; so kills hit the middle of its calls. Answers how many faults were set.
pub(crate) fn trouble(scene: &Scene, random: &dyn Random) -> u64 {
    let ops = ["create", "revoke", "list", "probe"];
    let faults = below(random, 4);
    for _ in 0..faults {
        let op = ops[usize::try_from(below(random, 4)).unwrap()];
        let mut fault = Fault {
            op: op.to_owned(),
            delay_ms: Some(below(random, 400)),
            count: Some(2),
            ..Fault::default()
        };
        match below(random, 6) {
            0 | 1 => fault.drop_reply = op != "list",
            2 => fault.twice = op == "create",
            3 => fault.status = Some(if below(random, 2) == 0 { 503 } else { 429 }),
            4 => fault.garble = true,
            _ => fault.blind = op == "list",
        }
        scene.vendor.fault(fault);
    }
    faults
}

/// Everybody whose payment got no answer asks again. Whoever paid has a grant; nobody pays twice.
pub(crate) async fn present_again(scene: &Scene, server: &Server, seen: &Seen) {
    let player = Player::new(scene, server, seen);
    let mut unclear = Vec::new();
    note(seen, |seen| unclear = std::mem::take(&mut seen.unclear));
    for payment in unclear {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = player.present_again(&payment).await;
            // Looked at afterwards: it may be this very request that settled it.
            let settled = scene.ledger().iter().any(|(_, nonce)| *nonce == payment.nonce);
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
