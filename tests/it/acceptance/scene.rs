//! Everybody who may ask, and for each operation a request that would be good if it came from the right one.

use dekeys::base::id::OrphanId;
use dekeys::client::{KeyFile, Request, approval, secret};
use dekeys::model::approval::Verdict;
use dekeys::model::orphan::{Orphan, OrphanState, Reason};
use dekeys::operations::{Method, Operation};
use dekeys::setup::stage::{self, PRIM};
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, new_key, pinned, priced, send, until};

/// Who asks, in the order of the table.
pub(super) const CALLERS: [&str; 6] = ["nobody", "unknown", "agent", "prim", "human", "operator"];

pub(super) struct Scene {
    pub(super) app: TestApp,
    stranger: KeyFile,
    event: String,
    receipt: String,
    made: std::sync::atomic::AtomicUsize,
}

impl Scene {
    pub(super) async fn new() -> Self {
        let app = TestApp::start().await;
        let body = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
        let enroll = Request::post(&["v1", "principals"]).json(&body);
        send(&app.operator(), enroll).await.good();
        let bought = app.buy(json!({ "reference": READ })).await;
        let event = until("a numbered event", async || {
            let events = app.events("grant.created").await;
            let event = events.into_iter().find(|event| event["leaf"].is_i64())?;
            Some(event.pointer("/event/id")?.as_str()?.to_owned())
        })
        .await;
        Self {
            receipt: bought.json["receipt"].as_str().unwrap().to_owned(),
            stranger: new_key(),
            event,
            app,
            made: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    pub(super) fn key(&self, caller: &str) -> Option<&KeyFile> {
        let cast = &self.app.stage.cast;
        match caller {
            "nobody" => None,
            "unknown" => Some(&self.stranger),
            "agent" => Some(&cast.agent),
            "prim" => Some(&cast.prim),
            "human" => Some(&cast.approvers[0].1),
            "operator" => Some(&cast.operator),
            other => panic!("{other}"),
        }
    }

    /// The address that serves an operation.
    pub(super) fn url(&self, operation: &Operation) -> &str {
        let server = &self.app.stage.server;
        if operation.admin { &server.admin } else { &server.url }
    }

    pub(super) async fn ask(&self, operation: &Operation, caller: &str) -> Seen {
        let client = stage::client(self.url(operation), self.key(caller)).unwrap();
        let request = self.request(operation, caller).await;
        send(&client, request).await
    }

    fn fresh_name(&self, what: &str) -> String {
        let n = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("{what}-{n}")
    }

    /// A request about things made for it alone.
    pub(super) async fn request(&self, operation: &Operation, caller: &str) -> Request {
        let method = match operation.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Delete => http::Method::DELETE,
        };
        let (path, body, token) = self.target(operation, caller).await;
        let request = Request::at(method, path);
        let request = match token {
            Some(token) => request.bearer(token),
            None => request,
        };
        if operation.method == Method::Get {
            return request;
        }
        request.json(&body)
    }

    async fn target(
        &self,
        operation: &Operation,
        caller: &str,
    ) -> (String, Value, Option<dekeys::base::secret::SecretText>) {
        let path = operation.path;
        let at = |id: &str| path.replace("{id}", id).replace("{name}", id).replace("{code}", id);
        let plain = |id: &str, body: Value| (at(id), body, None);
        if path.starts_with("/v1/grants/{id}") || path.starts_with("/v1/leases/{id}") || operation.id == "resolve" {
            return self.of_grant(operation).await;
        }
        if operation.path.starts_with("/v1/webhooks/{id}") || operation.id == "replayDelivery" {
            return self.of_webhook(operation).await;
        }
        match operation.id {
            "introspectToken" | "revokeToken" => {
                let bought = self.app.buy(json!({ "reference": READ })).await;
                plain("", json!({ "token": secret::shown(&pinned(&bought.token, PRIM)) }))
            }
            "createWebhook" => plain("", json!({ "url": "http://127.0.0.1:1/", "types": ["*"] })),
            "problem" => plain("vault_sealed", json!({})),
            "verifyBackup" => plain("latest", json!({})),
            "unseal" | "beginRekey" | "confirmRekey" => plain("", json!({ "key": "A".repeat(43) })),
            "rotateKey" => plain("", json!({ "kind": "kek" })),
            "openSession" => plain("", json!({ "use": "sign" })),
            "revokeLeases" => plain("", json!({ "vendor": "demo" })),
            "decideOrphan" => plain(&self.orphan().await, json!({ "decision": "dismiss" })),
            "showCredential" | "rotateCredential" => plain(&self.newest("credentials").await, json!({})),
            "showPayment" => plain(&self.newest("payments").await, json!({})),
            "resolvePayment" => plain(&self.newest("payments").await, json!({ "outcome": "not_settled" })),
            "showPolicy" => plain("demo-readers", json!({})),
            "proposePolicy" | "validatePolicy" => {
                let name = self.fresh_name("policy");
                plain(&name, json!({ "text": priced(&name, "echo:write", &[PRIM], "0.01") }))
            }
            "createGrant" | "explainPolicy" => plain("", json!({ "reference": READ })),
            "showApproval" | "cancelApproval" => plain(self.proposal().await["approval"].as_str().unwrap(), json!({})),
            "reviewApproval" => {
                let proposal = self.proposal().await;
                let id = proposal["approval"].as_str().unwrap();
                let digest = proposal["digest"].as_str().unwrap().parse().unwrap();
                let key = self.key(caller).unwrap_or(&self.stranger);
                plain(
                    id,
                    approval::review(key, id.parse().unwrap(), digest, Verdict::Approve, ""),
                )
            }
            "showVendor" | "testVendor" | "rotateRoot" => plain("demo", json!({})),
            "connectVendor" => {
                let vendor = &self.app.stage.vendor;
                let fields: Value = vendor
                    .root_fields()
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                plain("demo", json!({ "fields": fields, "base_url": vendor.url().as_str() }))
            }
            "createPrincipal" => {
                let (name, key) = (self.fresh_name("somebody"), new_key().public());
                plain("", json!({ "name": name, "kind": "agent", "public_keys": [key] }))
            }
            "showPrincipal" => plain(&self.newest("principals").await, json!({})),
            "disablePrincipal" => {
                self.app.enroll(&self.fresh_name("victim"), "agent").await;
                plain(&self.newest("principals").await, json!({}))
            }
            "showProof" => plain(&self.event, json!({})),
            "showReceipt" => plain(&self.receipt, json!({})),
            _ => {
                assert!(!path.contains('{'), "no example for {}", operation.id);
                plain("", json!({}))
            }
        }
    }

    /// About a new grant of the agent's and its lease.
    async fn of_grant(&self, operation: &Operation) -> (String, Value, Option<dekeys::base::secret::SecretText>) {
        let bought = self.app.buy(json!({ "reference": READ })).await;
        let token = pinned(&bought.token, PRIM);
        if operation.id == "resolve" {
            let body = json!({ "items": [{ "reference": READ }] });
            return (operation.path.to_owned(), body, Some(token));
        }
        let mut id = bought.id;
        if operation.path.starts_with("/v1/leases") {
            let seen = self.app.resolve(&self.app.stage.cast.prim, &token, READ).await;
            id = seen.text("/data/0/lease_id");
        }
        let body = if operation.id == "reportLease" {
            json!({ "status": 401 })
        } else {
            json!({})
        };
        (operation.path.replace("{id}", &id), body, None)
    }

    /// About a new webhook of the operator's, at which nobody listens.
    async fn of_webhook(&self, operation: &Operation) -> (String, Value, Option<dekeys::base::secret::SecretText>) {
        let body = json!({ "url": "http://127.0.0.1:1/", "types": ["vault.*"] });
        let operator = self.app.operator();
        let made = send(&operator, Request::post(&["v1", "webhooks"]).json(&body))
            .await
            .good();
        let mut id = made["id"].as_str().unwrap().to_owned();
        if operation.id == "replayDelivery" {
            let ping = send(&operator, Request::post(&["v1", "webhooks", &id, "test"]))
                .await
                .good();
            id = ping["id"].as_str().unwrap().to_owned();
        }
        (operation.path.replace("{id}", &id), json!({}), None)
    }

    /// A key at the vendor that nobody accounts for.
    async fn orphan(&self) -> String {
        let app = &self.app.stage.server.app;
        let now = app.now();
        let root = app.current_root(&"demo".parse().unwrap()).await.unwrap().root.id;
        let orphan = Orphan {
            id: OrphanId::new(now, app.random.as_ref()),
            vendor: "demo".parse().unwrap(),
            root,
            vendor_key_id: self.app.stage.vendor.plant(&self.fresh_name("dk")).id,
            name: String::new(),
            credential: None,
            reason: Reason::UnknownName,
            state: OrphanState::Reported,
            attempt: 0,
            next_at: None,
            last_error: None,
            found: now,
            seen: now,
        };
        let mut tx = app.store.begin().await.unwrap();
        tx.keep_orphan(&orphan).await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        orphan.id.to_string()
    }

    async fn newest(&self, what: &str) -> String {
        let list = send(&self.app.operator(), Request::get(&["v1", what])).await.good();
        list["data"][0]["id"].as_str().unwrap().to_owned()
    }

    /// An approval request of the operator's.
    async fn proposal(&self) -> Value {
        let name = self.fresh_name("policy");
        let body = json!({ "text": priced(&name, "echo:write", &[PRIM], "0.01") });
        let request = Request::put(&["v1", "policies", &name]).json(&body);
        send(&self.app.operator(), request).await.good()
    }
}
