//! The whole life of a key at every vendor, as people and programs have it: over HTTP, with the vendor played from its
//! manifest. A grant, a request through the proxy, a prim that resolves it, a rotation, the end, and a dead key.

use std::panic::AssertUnwindSafe;

use dekeys::base::secret::SecretText;
use dekeys::client::{Request, secret};
use dekeys::mock::{self, MockKey, MockOptions, MockVendor};
use dekeys::setup::stage::PRIM;
use dekeys::vendor::{Facts, PathRule, shipped};
use futures_util::FutureExt as _;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Seen, TestApp, pinned, policy, resolve, same, send, until};

/// One vendor, connected, and what is asked of it.
struct Scene<'a> {
    app: &'a TestApp,
    vendor: MockVendor,
    facts: Facts,
    /// A rule by which requests are forwarded, and a scope that it takes.
    rule: Option<PathRule>,
    scope: String,
    /// Whether dekeys can end its keys; those of the others die by themselves.
    can_revoke: bool,
}

struct Grant {
    id: String,
    token: SecretText,
}

impl<'a> Scene<'a> {
    async fn connect(app: &'a TestApp, name: &str, text: &str) -> Self {
        let manifest = mock::manifest(&name.parse().unwrap(), Some(text)).unwrap();
        let facts = manifest.facts();
        let samples = facts
            .params
            .iter()
            .map(|field| (field.name.clone(), field.sample.clone()));
        let params: Vec<(String, String)> = samples.collect();
        let options = MockOptions {
            params: params.clone(),
            ..MockOptions::default()
        };
        let vendor = MockVendor::start(&manifest, options).await;
        let vendor = vendor.unwrap_or_else(|error| panic!("{name}: {error}"));
        let pairs = |pairs: &[(String, String)]| -> Value {
            pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
        };
        let root = json!({
            "fields": pairs(vendor.root_fields()), "params": pairs(&params), "base_url": vendor.url().as_str(),
        });
        let request = Request::put(&["v1", "vendors", name, "root-credential"]).json(&root);
        let seen = send(&app.operator(), request).await;
        assert!((200..300).contains(&seen.status), "{name}: {}", seen.json);
        let rule = facts.allow.iter().find(|rule| !rule.websocket).cloned();
        let scope = rule.as_ref().and_then(|rule| rule.scope.clone());
        let scope = scope.or_else(|| facts.scopes.first().cloned()).unwrap().to_string();
        Self {
            app,
            vendor,
            facts,
            rule,
            scope,
            can_revoke: manifest.can_revoke(),
        }
    }

    fn name(&self) -> String {
        self.facts.name.to_string()
    }

    /// Whether dekeys makes no keys there, since it could not account for them (class V5).
    fn is_unaccountable(&self) -> bool {
        self.facts.class >= 5 && !self.facts.is_static
    }

    fn policy(&self, per: &str) -> String {
        let name = self.name();
        let reveal = if per == "shared" || self.facts.can_mint {
            String::new()
        } else {
            format!("[reveal]\nprims = [{PRIM:?}]\nmax_lease = \"1h\"\n")
        };
        format!(
            r#"name = "{name}-users"
vendor = "{name}"
scopes = ["{}"]
[who]
kinds = ["agent"]
principals = ["agent-one"]
[grant]
max_ttl = "24h"
max_resolves = 1000
credential_per = "{per}"
{reveal}
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#,
            self.scope
        )
    }

    /// A policy, and a grant under it. Keys that can make keys, and those that grants share, are never
    /// shown to prims.
    async fn grant(&self, per: &str) -> Grant {
        let name = self.name();
        let approved = self.app.stage.put_in_force(&self.policy(per)).await;
        approved.unwrap_or_else(|error| panic!("{name} {per}: {error}"));
        let body = json!({ "references": [format!("dk://{name}/{}", self.scope)] });
        let seen = send(&self.app.agent(), Request::post(&["v1", "grants"]).json(&body)).await;
        assert_eq!(seen.status, 201, "{name} {per}: {}", seen.json);
        Grant {
            id: seen.text("/id"),
            token: secret::at(&seen.json, "/token").unwrap(),
        }
    }

    /// A request through the proxy, where the vendor has anything to be asked.
    async fn forward(&self, grant: &Grant) -> Option<Seen> {
        let rule = self.rule.as_ref()?;
        let name = self.name();
        let path = rule.path.replace("**", "some").replace('*', "some");
        let mut segments = vec!["p", name.as_str()];
        segments.extend(path.trim_start_matches('/').split('/'));
        let method: Method = rule.method.as_deref().unwrap_or("GET").parse().unwrap();
        let request = match method {
            Method::GET => Request::get(&segments),
            with_body => Request::new(with_body, &segments).json(&json!({})),
        };
        Some(send(&self.app.agent(), request.bearer(same(&grant.token))).await)
    }

    async fn is_used(&self, grant: &Grant) {
        if let Some(seen) = self.forward(grant).await {
            assert_eq!(seen.status, 200, "{}: {:?} {}", self.name(), self.rule, seen.json);
        }
    }

    fn live(&self) -> Vec<MockKey> {
        self.vendor.live_keys()
    }

    async fn end(&self, grant: &Grant) {
        let request = Request::post(&["v1", "grants", &grant.id, "revoke"]).json(&json!({}));
        let seen = send(&self.app.agent(), request).await;
        assert_eq!(seen.status, 200, "{}: {}", self.name(), seen.json);
        if let Some(seen) = self.forward(grant).await {
            assert_eq!(seen.status, 401, "{}: the grant is over: {}", self.name(), seen.json);
        }
    }

    /// Ends all leases at the vendor: a shared key is no single grant's.
    async fn end_all(&self) {
        let ask = async |body: Value| {
            let request = Request::post(&["v1", "leases", "revoke"]).json(&body);
            send(&self.app.operator(), request).await.good()
        };
        let counted = ask(json!({ "vendor": self.name() })).await;
        ask(json!({ "vendor": self.name(), "expected_count": counted["count"] })).await;
    }

    async fn nothing_lives(&self) {
        until(&format!("{}: the end of all keys", self.name()), async || {
            self.live().is_empty().then_some(())
        })
        .await;
    }
}

/// A key for a grant of its own, and for a prim.
async fn own(scene: &Scene<'_>) {
    let grant = scene.grant("grant").await;
    // What is signed here is known to the vendor once it is used.
    let at_vendor = usize::from(!scene.facts.signed_here);
    assert_eq!(scene.live().len(), at_vendor, "{}", scene.name());
    scene.is_used(&grant).await;
    if !scene.facts.can_mint {
        let reference = format!("dk://{}/{}", scene.name(), scene.scope);
        let seen = resolve(&scene.app.prim(), &pinned(&grant.token, PRIM), &reference).await;
        assert_eq!(seen.status, 200, "{}: {}", scene.name(), seen.json);
        assert!(seen.json.pointer("/data/0/credential").is_some(), "{}", seen.json);
    }
    scene.end(&grant).await;
}

/// A key that the grants of a policy share, and its rotation.
async fn shared(scene: &Scene<'_>) {
    let grant = scene.grant("shared").await;
    scene.is_used(&grant).await;
    if scene.rule.is_some() && scene.facts.rotation.is_some() && !scene.facts.is_static {
        let before = scene.live();
        let path = ["v1", "credentials", &format!("{}-users", scene.name()), "rotate"];
        let ask = json!({ "revoke_previous": true });
        let seen = send(&scene.app.operator(), Request::post(&path).json(&ask)).await;
        assert!((200..300).contains(&seen.status), "{}: {}", scene.name(), seen.json);
        until(&format!("{}: one key, another one", scene.name()), async || {
            let live = scene.live();
            let new = |key: &MockKey| before.iter().all(|old| old.secret != key.secret);
            let dies = !scene.can_revoke && (scene.facts.signed_here || live.iter().any(new));
            (live.len() == 1 && live.iter().all(new) || dies).then_some(())
        })
        .await;
        scene.is_used(&grant).await;
    }
    scene.end(&grant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_vendor_a_key_is_made_used_replaced_and_ended() {
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    let (mut made, mut entered, mut wrong) = (0, 0, Vec::new());
    for (name, text) in shipped().into_iter().filter(|(name, _)| name.as_str() != "demo") {
        let life = AssertUnwindSafe(whole_life(&app, name.as_str(), text)).catch_unwind();
        match life.await {
            Ok(true) => made += 1,
            Ok(false) => entered += 1,
            // The words of the panic are told by the test's runner.
            Err(_) => wrong.push(name),
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(made >= 60 && entered > 0, "{made} made, {entered} entered");
    app.stop().await;
}

/// Answers whether its keys are made, and not entered.
async fn whole_life(app: &TestApp, name: &str, text: &str) -> bool {
    let scene = Scene::connect(app, name, text).await;
    if scene.is_unaccountable() {
        assert!(app.stage.put_in_force(&scene.policy("grant")).await.is_err(), "{name}");
        return false;
    }
    if !scene.facts.is_static {
        own(&scene).await;
    }
    shared(&scene).await;
    scene.end_all().await;
    if scene.can_revoke {
        scene.nothing_lives().await;
    }
    !scene.facts.is_static
}
