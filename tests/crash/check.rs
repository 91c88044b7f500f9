//! What must hold after every restart, and what must hold once everything has come to rest.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use dekeys::client::{Client, Request};
use serde_json::Value;

use super::load::{Seen, note};
use super::scene::{Scene, ok, word};
use super::server::{Server, pause};

/// A key that a vendor still lists after its end is not ended again for a minute, since lists lag.
const LISTS: Duration = Duration::from_mins(3);

/// All pages of a list.
async fn pages(operator: &Client, path: &[&str]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map(|last| word(last, "/id"));
        let request = Request::get(path)
            .query("limit", Some(100))
            .query("starting_after", after);
        let page = ok(operator, &request).await;
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        if page["has_more"] != true {
            return all;
        }
    }
}

/// All events whose kind begins with `kind`.
pub(crate) async fn events(operator: &Client, kind: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut before: Option<i64> = None;
    loop {
        let request = Request::get(&["v1", "audit", "events"])
            .query("type", Some(kind))
            .query("limit", Some(100))
            .query("before", before);
        let page = ok(operator, &request).await;
        for row in page["data"].as_array().unwrap() {
            before = row["sequence"].as_i64();
            all.push(row["event"].clone());
        }
        if page["has_more"] != true {
            return all;
        }
    }
}

/// All credentials, by their names at the vendor.
pub(crate) async fn credentials(operator: &Client) -> HashMap<String, Value> {
    let all = pages(operator, &["v1", "credentials"]).await;
    all.into_iter().map(|row| (word(&row, "/vendor_name"), row)).collect()
}

/// What must hold at every moment.
pub(crate) async fn always(scene: &Scene, server: &Server, seen: &Seen) {
    let operator = scene.operator(server);
    let live = scene.vendor.live_keys();
    let listed = credentials(&operator).await;
    for key in &live {
        assert!(
            listed.contains_key(&key.name),
            "dekeys does not list live key {}",
            key.name
        );
    }
    let settled = scene.ledger();
    let different: HashSet<_> = settled.iter().collect();
    assert_eq!(different.len(), settled.len(), "a payment was settled twice");
    let verified = ok(&operator, &Request::post(&["v1", "audit", "verify"])).await;
    assert_eq!(verified["ok"], true, "{verified}");
    released_keys_are_on_record(scene, &operator, seen, &listed).await;
    let (mut grants, mut dead, mut odd) = (Vec::new(), Vec::new(), Vec::new());
    note(seen, |seen| {
        grants.clone_from(&seen.grants);
        dead.clone_from(&seen.dead);
        odd.clone_from(&seen.odd);
    });
    assert!(odd.is_empty(), "{odd:?}\n{}", server.tail());
    let alive: HashSet<_> = live.iter().map(|key| key.secret.as_str()).collect();
    for secret in &dead {
        assert!(!alive.contains(secret.as_str()), "a key lives whose end was confirmed");
    }
    let known = states(&operator).await;
    for (id, ended) in grants {
        let state = known.get(&id).map(String::as_str);
        let good = state == Some("active") || (ended && matches!(state, Some("revoked" | "expired")));
        assert!(good, "grant {id} was given out, and is {state:?}");
    }
}

/// Each key that a prim has is named by an event, with its lease.
async fn released_keys_are_on_record(scene: &Scene, operator: &Client, seen: &Seen, listed: &HashMap<String, Value>) {
    let leases = events(operator, "lease.").await;
    let leases: HashMap<String, &Value> = leases.iter().map(|event| (word(event, "/id"), event)).collect();
    let made: HashMap<String, String> = scene
        .vendor
        .keys()
        .into_iter()
        .map(|key| (key.secret, key.name))
        .collect();
    let mut keys = Vec::new();
    note(seen, |seen| keys.clone_from(&seen.keys));
    for key in keys {
        let event = leases.get(&key.event);
        let event = event.unwrap_or_else(|| panic!("no event {} of a released key", key.event));
        assert!(matches!(
            word(event, "/type").as_str(),
            "lease.created" | "lease.resolved"
        ));
        let credential = &listed[&made[&key.secret]];
        assert_eq!(word(event, "/data/lease"), key.lease);
        assert_eq!(word(event, "/data/credential"), word(credential, "/id"), "{event}");
    }
}

/// Waits until the truth outside and the record inside agree.
pub(crate) async fn at_rest(scene: &Scene, server: &Server) {
    // What was paid first and was being made is another server's for five minutes, where there may be another.
    let longest = if scene.takes_up_at_once() || scene.setting.trusted_after == 0 {
        LISTS
    } else {
        Duration::from_mins(7)
    };
    let end = Instant::now() + longest;
    loop {
        let Some(trouble) = unrest(scene, server).await else {
            return;
        };
        assert!(Instant::now() < end, "{trouble}\n{}", server.tail());
        pause().await;
    }
}

async fn unrest(scene: &Scene, server: &Server) -> Option<String> {
    let operator = scene.operator(server);
    let grants = states(&operator).await;
    unpaid(scene, &operator, &grants)
        .await
        .or(wrong_keys(scene, &operator, &grants).await)
}

/// A settled payment that has neither its one grant nor credit.
async fn unpaid(scene: &Scene, operator: &Client, grants: &HashMap<String, String>) -> Option<String> {
    let mut given: HashMap<String, Vec<String>> = HashMap::new();
    for event in events(operator, "grant.created").await {
        let nonce = word(&event, "/data/payment/nonce");
        given.entry(nonce).or_default().push(word(&event, "/data/grant"));
    }
    let credited: HashSet<String> = events(operator, "payment.credited")
        .await
        .iter()
        .map(|event| word(event, "/data/nonce"))
        .collect();
    for (payer, nonce) in scene.ledger() {
        match given.get(&nonce).map(Vec::as_slice) {
            Some([one]) => {
                let state = grants.get(one).map(String::as_str);
                // The list of grants is a little older than the events.
                if !matches!(state, Some("active" | "revoked")) {
                    return Some(format!("{one} was paid and is {state:?}"));
                }
            }
            Some(several) => panic!("one payment, several grants: {several:?}"),
            None if credited.contains(&nonce) => {}
            None => return Some(format!("{payer} paid {nonce} and has nothing")),
        }
    }
    None
}

/// How long after now no key lives that nobody has a right to; `None` when there is none now.
pub(crate) async fn orphans_end(scene: &Scene, server: &Server) -> Option<Duration> {
    let began = Instant::now();
    let mut looks = 0;
    loop {
        let operator = scene.operator(server);
        let grants = states(&operator).await;
        let Some(trouble) = wrong_keys(scene, &operator, &grants).await else {
            return (looks > 0).then(|| began.elapsed());
        };
        looks += 1;
        assert!(began.elapsed() < LISTS, "{trouble}\n{}", server.tail());
        pause().await;
    }
}

/// The state of each grant.
async fn states(operator: &Client) -> HashMap<String, String> {
    pages(operator, &["v1", "grants"])
        .await
        .iter()
        .map(|grant| (word(grant, "/id"), word(grant, "/state")))
        .collect()
}

/// A live key that nobody has a right to, or a right without its live key.
async fn wrong_keys(scene: &Scene, operator: &Client, grants: &HashMap<String, String>) -> Option<String> {
    let listed = credentials(operator).await;
    let live: HashSet<String> = scene.vendor.live_keys().into_iter().map(|key| key.name).collect();
    for name in &live {
        let row = &listed[name];
        let grant = grants.get(&word(row, "/grant")).map(String::as_str);
        let held = matches!(grant, Some("active" | "provisioning" | "payment_unknown"));
        if word(row, "/state") != "active" || !held {
            return Some(format!(
                "key {name} lives, its credential is {row}, its grant {grant:?}"
            ));
        }
    }
    for key in scene.vendor.live_keys() {
        let known = word(&listed[&key.name], "/vendor_key_id");
        if known != key.id {
            return Some(format!(
                "{} lives under the name {}, whose key is {known}",
                key.id, key.name
            ));
        }
    }
    let missing = |(name, row): &(&String, &Value)| word(row, "/state") == "active" && !live.contains(*name);
    let missing = listed.iter().find(missing);
    missing.map(|(name, _)| format!("credential {name} is active, its key is dead"))
}
