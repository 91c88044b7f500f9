//! A running test instance with people and keys, and what the tests here ask of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dekeys::base::money::{Currency, Money};
use dekeys::base::random::{OsRandom, bytes};
use dekeys::base::secret::{SecretBytes, SecretText};
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::{Client, KeyFile, Request, approval, secret, token};
use dekeys::model::approval::Verdict;
use dekeys::payment;
use dekeys::setup::stage::{self, PRIM, Stage};
use dekeys::token::Narrowing;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) const READ: &str = "dk://demo/echo:read";
pub(super) const WRITE: &str = "dk://demo/echo:write";

/// The instance; its directory goes with it.
pub(super) struct Scene {
    pub(super) stage: Stage,
    dir: TempDir,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) json: Value,
    required: Option<Value>,
}

impl Seen {
    pub(super) fn text(&self, pointer: &str) -> String {
        self.json
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    pub(super) fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.json);
        assert!(self.json.get("code").is_none(), "{}", self.json);
        self.json
    }

    #[track_caller]
    pub(super) fn is(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.text("/code").as_str()),
            (status, code),
            "{}",
            self.json
        );
    }

    pub(super) fn token(&self) -> SecretText {
        secret::at(&self.json, "/token").unwrap_or_else(|| panic!("no token in {}", self.json))
    }
}

/// A policy of the demo vendor, not limited but for what `more` says.
pub(super) fn policy(name: &str, scope: &str, more: &str) -> String {
    let approval = if more.contains("[approval]") {
        ""
    } else {
        "[approval]\ngrants = \"none\"\n"
    };
    format!(
        "name = \"{name}\"\nvendor = \"demo\"\nscopes = [\"{scope}\"]\n\
         [who]\nkinds = [\"agent\"]\nwallets = [\"*\"]\n\
         [grant]\nmax_ttl = \"15m\"\nmax_resolves = 100\n\
         [reveal]\nprims = [\"{PRIM}\"]\nmax_lease = \"5m\"\n{more}\n{approval}\
         [approvers]\nfrom = [\"ada\", \"grace\"]\nquorum = 2\n"
    )
}

pub(super) async fn send(client: &Client, request: Request) -> Seen {
    let reply = client.send_any(&request).await.unwrap();
    let required = reply.header(payment::PAYMENT_REQUIRED).and_then(|text| {
        let json = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
        serde_json::from_slice(&json).ok()
    });
    Seen {
        status: reply.status,
        json: reply.json(),
        required,
    }
}

/// Polls until `done` answers something.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut done: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(found) = done().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The token pinned to the prim on stage for five minutes.
pub(super) fn pinned(text: &SecretText) -> SecretText {
    let narrowing = Narrowing {
        prims: vec![PRIM.parse().unwrap()],
        until: Some(SystemClock::default().now().plus(Ttl::from_mins(5))),
        ..Narrowing::default()
    };
    token::attenuate(text, &narrowing).unwrap()
}

pub(super) fn new_wallet() -> SecretBytes {
    SecretBytes::new(bytes::<32>(&OsRandom).to_vec())
}

impl Scene {
    /// The same instance, served anew.
    pub(super) async fn restart(self) -> Self {
        let Self { stage, dir } = self;
        let Stage {
            server,
            vendor,
            cast,
            data_dir,
        } = stage;
        server.stop().await;
        let config = stage::config(&data_dir, ([127, 0, 0, 1], 0).into());
        let server = dekeys::setup::server::Server::start(&config).await.unwrap();
        let stage = Stage {
            server,
            vendor,
            cast,
            data_dir,
        };
        Self { stage, dir }
    }

    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stage = Stage::ready(dir.path().join("data"), listen).await.unwrap();
        Self { stage, dir }
    }

    pub(super) fn client(&self, key: Option<&KeyFile>) -> Client {
        stage::client(&self.stage.server.url, key).unwrap()
    }

    pub(super) fn operator(&self) -> Client {
        self.client(Some(&self.stage.cast.operator))
    }

    pub(super) fn agent(&self) -> Client {
        self.client(Some(&self.stage.cast.agent))
    }

    pub(super) fn prim(&self) -> Client {
        self.client(Some(&self.stage.cast.prim))
    }

    pub(super) async fn enroll(&self, name: &str, kind: &str) -> (String, KeyFile) {
        let key = KeyFile::generate(&OsRandom);
        let body = json!({ "name": name, "kind": kind, "public_keys": [key.public()] });
        let made = send(&self.operator(), Request::post(&["v1", "principals"]).json(&body)).await;
        (made.good()["id"].as_str().unwrap().to_owned(), key)
    }

    pub(super) async fn propose(&self, client: &Client, name: &str, text: &str) -> Seen {
        let body = json!({ "text": text, "reason": "a test" });
        send(client, Request::put(&["v1", "policies", name]).json(&body)).await
    }

    /// The verdict "yes" of one of the approvers on stage.
    pub(super) async fn approve(&self, approver: usize, id: &str) -> Seen {
        let (_, key) = &self.stage.cast.approvers[approver];
        let client = self.client(Some(key));
        let seen = send(&client, Request::get(&["v1", "approvals", id])).await;
        let digest = seen.text("/digest").parse().unwrap();
        let review = approval::review(key, id.parse().unwrap(), digest, Verdict::Approve, "");
        send(
            &client,
            Request::post(&["v1", "approvals", id, "reviews"]).json(&review),
        )
        .await
    }

    /// Proposed by the operator, approved by both.
    pub(super) async fn put_in_force(&self, name: &str, text: &str) {
        let proposal = self.propose(&self.operator(), name, text).await.good();
        let id = proposal["approval"].as_str().unwrap().to_owned();
        for approver in [0, 1] {
            self.approve(approver, &id).await.good();
        }
    }

    /// A free grant for the agent on stage.
    pub(super) async fn ask_for(&self, reference: &str) -> Seen {
        let body = json!({ "reference": reference });
        send(&self.agent(), Request::post(&["v1", "grants"]).json(&body)).await
    }

    /// Buys with `wallet`, unsigned; the agent on stage is the holder.
    pub(super) async fn buy(&self, wallet: &SecretBytes, reference: &str) -> Seen {
        let body = json!({ "reference": reference, "public_key": self.stage.cast.agent.public() });
        let (body, header) = self.payment(wallet, body).await;
        self.pay(&body, &header).await
    }

    pub(super) async fn payment(&self, wallet: &SecretBytes, body: Value) -> (Value, String) {
        let quote = send(&self.client(None), Request::post(&["v1", "grants"]).json(&body)).await;
        let required = quote.required.unwrap_or_else(|| panic!("no quote: {}", quote.json));
        let most = Money::new(100_000_000, Currency::Usdc);
        let now = SystemClock::default().now();
        let header = payment::sign_exact(wallet, &required, most, None, now, &OsRandom).unwrap();
        (body, header)
    }

    pub(super) async fn pay(&self, body: &Value, header: &str) -> Seen {
        let request = Request::post(&["v1", "grants"]).json(body);
        send(&self.client(None), request.header(payment::PAYMENT_SIGNATURE, header)).await
    }

    pub(super) async fn resolve(&self, token: &SecretText, reference: &str) -> Seen {
        self.resolve_pinned(pinned(token), reference).await
    }

    pub(super) async fn resolve_pinned(&self, token: SecretText, reference: &str) -> Seen {
        let body = json!({ "items": [{ "reference": reference }] });
        let request = Request::post(&["v1", "resolve"]).bearer(token).json(&body);
        send(&self.prim(), request).await
    }

    pub(super) async fn events(&self, kind: &str) -> Vec<Value> {
        let request = Request::get(&["v1", "audit", "events"])
            .query("type", Some(kind))
            .query("limit", Some(100));
        let list = send(&self.operator(), request).await.good();
        list["data"].as_array().unwrap().clone()
    }

    /// Statements run behind the back of the instance, by whoever can write to its database.
    pub(super) async fn write(&self, statement: &'static str) {
        let path = self.stage.data_dir.join("dekeys.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(10));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    /// What one number of the database is.
    pub(super) async fn count(&self, statement: &'static str) -> i64 {
        let path = self.stage.data_dir.join("dekeys.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let number = sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap();
        pool.close().await;
        number
    }
}
