//! A test instance whose server is a process of its own, with the vendor in this process and the ledger in a file.

use std::collections::HashMap;

use dekeys::base::random::OsRandom;
use dekeys::client::{Client, ClientError, Request, approval, secret};
use dekeys::mock::{self, MockOptions, MockVendor};
use dekeys::model::approval::Verdict;
use dekeys::setup::stage::{self, Cast, PRIM};
use dekeys::vault::UnsealKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{Server, Setting, until};

/// Sold: whoever pays has it.
pub(crate) const PAID: &str = "dk://demo/echo:read";
/// Free for agents that dekeys knows.
pub(crate) const FREE: &str = "dk://demo/echo:write";

/// Limits far above what the tests do: they are about crashes.
fn policy(name: &str, scope: &str, who: &str, price: &str) -> String {
    format!(
        r#"name = "{name}"
vendor = "demo"
scopes = ["{scope}"]
[who]
kinds = ["agent"]
{who}
[grant]
max_ttl = "30m"
max_resolves = 1000
[reveal]
prims = ["{PRIM}"]
max_lease = "25m"
[limits]
live_leases = 100000
rate = "6000/min"
{price}
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

/// The instance and what is outside of it.
pub(crate) struct Scene {
    /// How its server is started.
    pub(crate) setting: Setting,
    /// Who plays.
    pub(crate) cast: Cast,
    /// The vendor, with the truth.
    pub(crate) vendor: MockVendor,
    _place: Option<TempDir>,
}

impl Scene {
    /// A new instance on SQLite, ready to sell, and its server.
    pub(crate) async fn new() -> (Self, Server) {
        let place = tempfile::tempdir().unwrap();
        let setting = Setting::in_dir(&place.path().join("data"));
        Self::prepare(setting, Some(place)).await
    }

    /// The same, where everybody pays before anything is made.
    pub(crate) async fn new_prepaid() -> (Self, Server) {
        let place = tempfile::tempdir().unwrap();
        let mut setting = Setting::in_dir(&place.path().join("data"));
        setting.trusted_after = 1;
        Self::prepare(setting, Some(place)).await
    }

    /// The same, where vendors' lists are compared all the time: they make two keys for one, too.
    pub(crate) async fn new_restless(trusted_after: u8) -> (Self, Server) {
        let place = tempfile::tempdir().unwrap();
        let mut setting = Setting::in_dir(&place.path().join("data"));
        (setting.trusted_after, setting.reap) = (trusted_after, Some("2s"));
        Self::prepare(setting, Some(place)).await
    }

    /// The same with another setting.
    pub(crate) async fn prepare(setting: Setting, place: Option<TempDir>) -> (Self, Server) {
        Self::prepare_with(setting, place, None).await
    }

    /// The same with a vendor made from another manifest.
    pub(crate) async fn prepare_with(
        setting: Setting,
        place: Option<TempDir>,
        manifest: Option<&str>,
    ) -> (Self, Server) {
        let cast = init(&setting).await;
        let vendor = match manifest {
            None => stage::start_vendor(None).await.unwrap(),
            Some(text) => {
                let parsed = mock::manifest(&"demo".parse().unwrap(), Some(text)).unwrap();
                MockVendor::start(&parsed, MockOptions::default()).await.unwrap()
            }
        };
        let scene = Self {
            setting,
            cast,
            vendor,
            _place: place,
        };
        let server = scene.setting.start().await;
        scene.furnish(&server, manifest).await;
        (scene, server)
    }

    pub(crate) async fn start(&self) -> Server {
        self.setting.start().await
    }

    /// The vendor's root credential, the prim, an agent dekeys knows, the policies.
    async fn furnish(&self, server: &Server, manifest: Option<&str>) {
        let operator = self.operator(server);
        let fields: HashMap<_, _> = self.vendor.root_fields().iter().cloned().collect();
        let root = json!({ "fields": fields, "base_url": self.vendor.url().as_str(), "manifest": manifest });
        let request = Request::put(&["v1", "vendors", "demo", "root-credential"]).json(&root);
        ok(&operator, &request).await;
        for (name, kind, key) in [(PRIM, "prim", &self.cast.prim), ("agent", "agent", &self.cast.agent)] {
            let body = json!({ "name": name, "kind": kind, "public_keys": [key.public()] });
            ok(&operator, &Request::post(&["v1", "principals"]).json(&body)).await;
        }
        let price = "[price]\namount = \"0.01 USDC\"";
        let paid = policy("sold", "echo:read", "wallets = [\"eip155:84532:*\"]", price);
        self.approve(server, "sold", &paid).await;
        let free = policy("given", "echo:write", "principals = [\"agent\"]", "");
        self.approve(server, "given", &free).await;
    }

    pub(crate) async fn approve(&self, server: &Server, name: &str, text: &str) {
        let body = json!({ "text": text, "reason": "to try crashes" });
        let proposal = ok(
            &self.operator(server),
            &Request::put(&["v1", "policies", name]).json(&body),
        )
        .await;
        let id = word(&proposal, "/approval");
        for (_, key) in &self.cast.approvers {
            let digest = word(&proposal, "/digest").parse().unwrap();
            let review = approval::review(key, id.parse().unwrap(), digest, Verdict::Approve, "yes");
            let request = Request::post(&["v1", "approvals", &id, "reviews"]).json(&review);
            ok(&server.client(Some(key)), &request).await;
        }
    }

    pub(crate) fn operator(&self, server: &Server) -> Client {
        server.client(Some(&self.cast.operator))
    }

    /// The operator on the admin address, where dekeys' own keys are.
    pub(crate) fn admin(&self) -> Client {
        let address = format!("unix:{}", self.setting.data_dir.join("admin").display());
        stage::client(&address, Some(&self.cast.operator)).unwrap()
    }

    pub(crate) fn prim(&self, server: &Server) -> Client {
        server.client(Some(&self.cast.prim))
    }

    pub(crate) fn agent(&self, server: &Server) -> Client {
        server.client(Some(&self.cast.agent))
    }

    /// Whether the vendor has begun on the call that the only fault waits for.
    pub(crate) async fn vendor_is_asked(&self) {
        let vendor = stage::client(self.vendor.url().as_str().trim_end_matches('/'), None).unwrap();
        until("the vendor to be asked", async || {
            let reply = vendor.send_any(&Request::get(&["__mock", "faults"])).await.unwrap();
            reply.json()["data"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }

    /// Whether a restart takes up at once what the last process left, rather than when its timers say.
    pub(crate) fn takes_up_at_once(&self) -> bool {
        self.setting.database_url.starts_with("sqlite:")
    }

    /// The lines of the ledger: payer and nonce of each settled payment.
    pub(crate) fn ledger(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.setting.ledger).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        lines
            .map(line)
            .map(|line| (word(&line, "/payer"), word(&line, "/nonce")))
            .collect()
    }
}

/// An instance in the setting's database, with new keys for everybody.
pub(crate) async fn init(setting: &Setting) -> Cast {
    let cast = Cast::new().unwrap();
    std::fs::create_dir_all(&setting.data_dir).unwrap();
    let key = UnsealKey::generate_key_file(&OsRandom);
    secret::write_new(&setting.unseal_key, &key).unwrap();
    let mut config = stage::config(&setting.data_dir, ([127, 0, 0, 1], 0).into());
    config.database_url.clone_from(&setting.database_url);
    let key = UnsealKey::parse_key_file(&key).unwrap();
    stage::make(&config, &cast, key).await.unwrap();
    cast
}

/// Sends what must succeed.
pub(crate) async fn ok(client: &Client, request: &Request) -> Value {
    match client.send(request).await {
        Ok(reply) => reply.json(),
        Err(ClientError::Refused(refused)) => panic!("{}: {}: {}", request.path(), refused.code, refused.detail),
        Err(error) => panic!("{}: {error}", request.path()),
    }
}

/// The text at a place, or nothing.
pub(crate) fn word(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
