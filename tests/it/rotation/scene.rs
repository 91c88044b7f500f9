//! An instance, a vendor made from the demo manifest with another way to rotate, and an agent whose grant shares its key.

use dekeys::base::secret::SecretText;
use dekeys::client::{Client, Request, secret};
use dekeys::mock::{self, Fault, MockKey, MockOptions, MockVendor};
use serde_json::{Value, json};

use crate::support::{Seen, TestApp, send, until};

const MANIFEST: &str = include_str!("../../../vendors/demo.toml");

pub(super) const SHARED: &str = "acme-shared";

/// The policy of the instance itself, which plays no part here.
pub(super) fn any_policy() -> String {
    crate::support::priced("demo-readers", "echo:read", &[dekeys::setup::stage::PRIM], "0.01")
}

pub(super) struct Scene<'a> {
    pub(super) app: &'a TestApp,
    pub(super) vendor: MockVendor,
    client: Client,
    token: SecretText,
}

/// The demo manifest for another vendor, with its own `[rotate]` table.
pub(super) fn manifest(rotate: &str) -> String {
    let text = MANIFEST.replace("id = \"demo\"", "id = \"acme\"");
    let changed = text.replace(
        "[rotate]\nmode = \"create_then_revoke\"\n",
        &format!("[rotate]\n{rotate}\n"),
    );
    assert!(rotate.is_empty() || changed.contains(rotate));
    changed
}

fn policy(more: &str) -> String {
    format!(
        r#"name = "{SHARED}"
vendor = "acme"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["agent-one"]
[grant]
max_ttl = "24h"
max_resolves = 100000000
credential_per = "shared"
{more}
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

impl<'a> Scene<'a> {
    /// `rotate` is the manifest's table, `more` stands under the policy's `[grant]`.
    pub(super) async fn new(app: &'a TestApp, rotate: &str, more: &str) -> Self {
        let text = manifest(rotate);
        let name = "acme".parse().unwrap();
        let manifest = mock::manifest(&name, Some(&text)).unwrap();
        let vendor = MockVendor::start(&manifest, MockOptions::default()).await.unwrap();
        let fields: Value = vendor
            .root_fields()
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let body = json!({ "fields": fields, "base_url": vendor.url().as_str(), "manifest": text });
        let operator = app.operator();
        let connect = Request::put(&["v1", "vendors", "acme", "root-credential"]).json(&body);
        send(&operator, connect).await.good();
        let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
        send(&operator, Request::post(&["v1", "principals"]).json(&agent))
            .await
            .good();
        app.stage.put_in_force(&policy(more)).await.unwrap();
        let ask = json!({ "reference": "dk://acme/echo:read", "ttl": "24h" });
        let seen = send(&app.agent(), Request::post(&["v1", "grants"]).json(&ask)).await;
        assert_eq!(seen.status, 201, "{}", seen.json);
        let token = secret::at(&seen.json, "/token").unwrap();
        let client = app.agent();
        Self {
            app,
            vendor,
            client,
            token,
        }
    }

    /// A request that uses the shared key.
    pub(super) async fn forward(&self) -> Seen {
        forward(&self.client, &self.token).await
    }

    /// The same client and token, for a task.
    pub(super) fn caller(&self) -> (Client, SecretText) {
        (self.app.agent(), crate::support::same(&self.token))
    }

    #[track_caller]
    pub(super) fn one_key(&self) -> MockKey {
        let live = self.vendor.live_keys();
        assert_eq!(live.len(), 1, "{live:?}");
        live.into_iter().next().unwrap()
    }

    pub(super) async fn rotate(&self, ask: Value) -> Seen {
        let path = ["v1", "credentials", SHARED, "rotate"];
        send(&self.app.operator(), Request::post(&path).json(&ask)).await
    }

    pub(super) async fn due(&self) -> Value {
        let list = send(&self.app.operator(), Request::get(&["v1", "rotations"]))
            .await
            .good();
        let row = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["name"] == SHARED);
        row.cloned().unwrap_or_default()
    }

    /// The state and the numbers of keys, once the last rotation is at its end.
    pub(super) async fn at_rest(&self) {
        until("the rotation's end", async || {
            let state = self.due().await["state"].clone();
            matches!(state.as_str(), Some("done" | "failed")).then_some(())
        })
        .await;
    }

    pub(super) fn fault(&self, op: &str, status: u16, count: Option<u32>) {
        self.vendor.fault(Fault {
            op: op.to_owned(),
            status: Some(status),
            count,
            ..Fault::default()
        });
    }

    /// Newest first.
    pub(super) async fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.app.events(kind).await;
        events.into_iter().map(|row| row["event"].clone()).collect()
    }
}

pub(super) async fn forward(client: &Client, token: &SecretText) -> Seen {
    let request = Request::get(&["p", "acme", "echo"]).bearer(crate::support::same(token));
    send(client, request).await
}
