//! A limit of cost that people approved reaches the vendor with each key, and holds for all keys of a grant together.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::hostile::vendor::{ROOT, manifest, users};
use crate::proxy::raw::{Asked, Piece, RawVendor, answer};
use crate::support::{Bought, Seen, TestApp, pinned, policy, send};

const REFERENCE: &str = "dk://capped/messages:write";

/// A vendor that caps keys. It refuses to make one while it is told to.
struct Capped {
    app: TestApp,
    vendor: RawVendor,
    refuses: Arc<Mutex<bool>>,
}

impl Capped {
    async fn start() -> Self {
        let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
        let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
        send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
            .await
            .good();
        let vendor = RawVendor::start().await;
        let (refuses, alive) = (Arc::new(Mutex::new(false)), Mutex::new(HashSet::new()));
        let told = Arc::clone(&refuses);
        vendor.answers(move |asked| served(asked, *told.lock().unwrap(), &mut alive.lock().unwrap()));
        let text = manifest("capped").replace(
            "expires_at = \"${expires}\" }",
            "expires_at = \"${expires}\", limit = \"${budget.usd?}\" }",
        );
        let body = json!({
            "fields": { "key": ROOT },
            "base_url": format!("http://{}", vendor.address),
            "manifest": text,
        });
        let request = Request::put(&["v1", "vendors", "capped", "root-credential"]).json(&body);
        send(&app.operator(), request).await.good();
        Self { app, vendor, refuses }
    }

    async fn limit(&self, lines: &str) {
        let text = users("capped").replace("[limits]\n", &format!("[limits]\n{lines}"));
        self.app.stage.put_in_force(&text).await.unwrap();
        self.vendor.forget();
    }

    async fn ask(&self) -> Seen {
        let wish = json!({ "reference": REFERENCE, "ttl": "10m" });
        send(&self.app.agent(), Request::post(&["v1", "grants"]).json(&wish)).await
    }

    async fn grant(&self) -> Bought {
        let seen = self.ask().await;
        assert_eq!(seen.status, 201, "{}", seen.json);
        Bought {
            id: seen.text("/id"),
            token: dekeys::client::secret::at(&seen.json, "/token").unwrap(),
            json: seen.json,
        }
    }

    /// The prim's key, and its end.
    async fn use_one(&self, grant: &Bought) -> Seen {
        let token = pinned(&grant.token, PRIM);
        let seen = self.app.resolve(&self.app.stage.cast.prim, &token, REFERENCE).await;
        if seen.status == 200 {
            let lease = seen.text("/data/0/lease_id");
            let end = Request::post(&["v1", "leases", &lease, "revoke"]).json(&json!({}));
            send(&self.app.prim(), end).await.good();
        }
        seen
    }

    /// What the vendor was told that keys may cost.
    fn told(&self) -> Vec<Value> {
        let made = self.vendor.asked().into_iter();
        made.filter(|asked| asked.line().starts_with("POST /keys"))
            .map(|asked| serde_json::from_slice::<Value>(&asked.body).unwrap()["limit"].clone())
            .collect()
    }
}

fn served(asked: &Asked, refuses: bool, alive: &mut HashSet<String>) -> Vec<Piece> {
    let mut words = asked.line().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let json = |status, body: &Value| vec![answer(status, "", body.to_string().as_bytes())];
    match method {
        "POST" if refuses => json(422, &json!({})),
        "POST" => {
            let body: Value = serde_json::from_slice(&asked.body).unwrap();
            let id = format!("id_{}", body["name"].as_str().unwrap());
            alive.insert(format!("Bearer capped-{id}"));
            json(
                201,
                &json!({ "id": id, "name": body["name"], "key": format!("capped-{id}"), "expires_at": body["expires_at"] }),
            )
        }
        "DELETE" => {
            alive.remove(&format!("Bearer capped-{}", path.trim_start_matches("/keys/")));
            json(200, &json!({}))
        }
        _ if path.starts_with("/keys") => json(200, &json!({ "data": [] })),
        _ => {
            let key = asked.header("authorization").concat();
            json(if alive.contains(&key) { 200 } else { 401 }, &json!({}))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vendor_is_told_what_a_key_may_cost() {
    let capped = Capped::start().await;
    for (limit, told) in [
        ("", Value::Null),
        ("vendor_cost_per_grant = \"1.50 USD\"\n", json!(1.5)),
    ] {
        capped.limit(limit).await;
        capped.grant().await;
        assert_eq!(capped.told(), [told]);
    }
    capped.app.stop().await;
}

/// A holder who ends keys and asks for others does not get past the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_of_a_grant_together_may_cost_what_its_policy_says() {
    let capped = Capped::start().await;
    capped
        .limit("vendor_cost_per_grant = \"1.00 USD\"\nvendor_cost_per_key = \"0.40 USD\"\n")
        .await;
    let grant = capped.grant().await;
    for _ in 0..3 {
        assert_eq!(capped.use_one(&grant).await.status, 200);
    }
    for _ in 0..2 {
        let seen = capped.use_one(&grant).await;
        assert_eq!(
            (seen.status, seen.code().as_str()),
            (429, "budget_reached"),
            "{}",
            seen.json
        );
    }
    assert_eq!(capped.told(), [json!(0.4), json!(0.4), json!(0.2)]);
    // Another grant has its own.
    capped.grant().await;
    assert_eq!(capped.told().len(), 4);
    // Without parts the first key has all of it.
    capped.limit("vendor_cost_per_grant = \"1.00 USD\"\n").await;
    let grant = capped.grant().await;
    assert_eq!(capped.use_one(&grant).await.status, 200);
    assert_eq!(capped.use_one(&grant).await.code(), "budget_reached");
    assert_eq!(capped.told(), [json!(1.0)]);
    capped.app.stop().await;
}

/// What the vendor refused to make cost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_never_made_gives_its_part_back() {
    let capped = Capped::start().await;
    capped
        .limit("vendor_cost_per_grant = \"1.00 USD\"\nvendor_cost_per_key = \"0.50 USD\"\n")
        .await;
    let grant = capped.grant().await;
    assert_eq!(capped.use_one(&grant).await.status, 200);
    *capped.refuses.lock().unwrap() = true;
    assert_eq!(capped.use_one(&grant).await.code(), "vendor_refused");
    *capped.refuses.lock().unwrap() = false;
    assert_eq!(capped.use_one(&grant).await.status, 200);
    assert_eq!(capped.use_one(&grant).await.code(), "budget_reached");
    assert_eq!(capped.told(), [json!(0.5), json!(0.5), json!(0.5)]);
    capped.app.stop().await;
}
