//! A whole instance for one test: server, demo vendor, people with keys and an approved policy, reached over HTTP as
//! users reach it.

pub(crate) mod chain;
pub(crate) mod database;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod purse;
pub(crate) mod session;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock, ManualClock, SystemClock, Timestamp, Ttl};
use dekeys::client::{Client, KeyFile, Request, secret, token};
use dekeys::config::Config;
use dekeys::mock::MockVendor;
use dekeys::payment::{self, Faults};
use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, Cast, PRIM, Stage};
use dekeys::token::Narrowing;
use dekeys::vault::UnsealKey;
use http::HeaderMap;
use serde_json::{Value, json};

use purse::Wallet;

/// Tests of a whole instance, each on SQLite, and on PostgreSQL when there is one: a function with what its instance
/// differs in, a policy or how careful it is with money.
macro_rules! on_both {
    ($($test:ident, |$rules:ident| $change:expr;)*) => {
        on_both! { @ $($test, super::priced("demo-readers", "echo:read", &[super::PRIM], "0.01"), |$rules| $change;)* }
    };
    ($($test:ident, $policy:expr;)*) => {
        on_both! { @ $($test, $policy, |rules| rules.trusted_after = 0;)* }
    };
    (@ $($test:ident, $policy:expr, |$rules:ident| $change:expr;)*) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let app = super::TestApp::with(&$policy, |config| {
                        let $rules = &mut config.payment.rules;
                        $change;
                    })
                    .await;
                    super::$test(&app).await;
                    app.stop().await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(database) = crate::store::Database::create().await else { return };
                    let app = super::TestApp::with(&$policy, |config| {
                        config.database_url = database.url();
                        let $rules = &mut config.payment.rules;
                        $change;
                    })
                    .await;
                    super::$test(&app).await;
                    app.stop().await;
                    database.drop().await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// What most tests buy.
pub(crate) const READ: &str = "dk://demo/echo:read";
/// The other scope of the demo vendor.
pub(crate) const WRITE: &str = "dk://demo/echo:write";

/// How long a state may take to come about.
const PATIENCE: Duration = Duration::from_mins(1);

/// A policy of the demo vendor with limits that no test meets by accident.
pub(crate) fn policy(name: &str, scope: &str, prims: &[&str], more: &str) -> String {
    format!(
        r#"name = "{name}"
vendor = "demo"
scopes = ["{scope}"]

[who]
kinds = ["agent"]
wallets = ["eip155:84532:*"]

[grant]
max_ttl = "15m"
max_resolves = 100000

[reveal]
prims = {prims:?}
max_lease = "5m"

[limits]
live_leases = 1000
rate = "100000/s"
{more}
[approval]
grants = "none"

[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

/// [`policy`] at a price, in USDC.
pub(crate) fn priced(name: &str, scope: &str, prims: &[&str], amount: &str) -> String {
    policy(name, scope, prims, &format!("\n[price]\namount = \"{amount} USDC\"\n"))
}

/// A running instance.
pub(crate) struct TestApp {
    pub(crate) stage: Stage,
    pub(crate) config: Config,
    /// Kept for its end: the directory goes with it.
    dir: tempfile::TempDir,
}

/// An answer, all of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

/// A grant that was bought.
pub(crate) struct Bought {
    pub(crate) id: String,
    pub(crate) token: SecretText,
    pub(crate) json: Value,
}

impl Seen {
    /// The text at a JSON pointer; empty when there is none.
    pub(crate) fn text(&self, pointer: &str) -> String {
        let text = self.json.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    }

    /// The problem's code; empty when it is none.
    pub(crate) fn code(&self) -> String {
        self.text("/code")
    }

    /// The key of a resolution, if one was given.
    pub(crate) fn key(&self) -> Option<String> {
        let key = self.json.pointer("/data/0/credential/fields/api_key");
        key.and_then(Value::as_str).map(str::to_owned)
    }

    /// Asserts status and code.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.json);
    }

    /// Asserts a good answer and gives its JSON.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.json);
        self.json
    }
}

impl TestApp {
    /// On a SQLite file, the demo vendor's `echo:read` for 0.01 USDC.
    pub(crate) async fn start() -> Self {
        Self::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |_| {}).await
    }

    /// With another policy and configuration.
    pub(crate) async fn with(policy: &str, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = stage::config(&dir.path().join("data"), any_port());
        // Most tests are about keys that are made before they are paid: every new wallet is trusted at once.
        config.payment.rules.trusted_after = 0;
        change(&mut config);
        let stage = Stage::ready_with(&config, policy).await.unwrap();
        Self { stage, config, dir }
    }

    /// A client that signs with `key`, or with nothing.
    pub(crate) fn client(&self, key: Option<&KeyFile>) -> Client {
        stage::client(&self.stage.server.url, key).unwrap()
    }

    pub(crate) fn anyone(&self) -> Client {
        self.client(None)
    }

    pub(crate) fn operator(&self) -> Client {
        self.client(Some(&self.stage.cast.operator))
    }

    pub(crate) fn prim(&self) -> Client {
        self.client(Some(&self.stage.cast.prim))
    }

    pub(crate) fn agent(&self) -> Client {
        self.client(Some(&self.stage.cast.agent))
    }

    /// A new prim, enrolled.
    pub(crate) async fn enroll(&self, name: &str, kind: &str) -> KeyFile {
        let key = new_key();
        let body = json!({ "name": name, "kind": kind, "public_keys": [key.public()] });
        send(&self.operator(), Request::post(&["v1", "principals"]).json(&body))
            .await
            .good();
        key
    }

    /// Trouble for the payment rail.
    pub(crate) fn rail_faults(&self, faults: Faults) {
        self.rail().set_faults(faults);
    }

    pub(crate) fn rail(&self) -> &payment::SimRail {
        let (rail, _) = self.stage.server.app.rail.as_ref().unwrap();
        rail.sim().unwrap()
    }

    /// What a request for a grant costs: the terms of its 402.
    pub(crate) async fn quote(&self, body: &Value) -> Value {
        let asked = send(&self.anyone(), Request::post(&["v1", "grants"]).json(body)).await;
        asked.is(402, "payment_required");
        purse::terms(&asked)
    }

    /// Asks for a grant with a payment header.
    pub(crate) async fn pay(&self, client: &Client, body: &Value, header: &str) -> Seen {
        let request = Request::post(&["v1", "grants"])
            .json(body)
            .header(payment::PAYMENT_SIGNATURE, header);
        send(client, request).await
    }

    /// Buys with a wallet of its own; the agent on stage is the holder.
    pub(crate) async fn buy(&self, body: Value) -> Bought {
        self.buy_from(&Wallet::new(), body).await
    }

    /// Buys with `wallet`.
    pub(crate) async fn buy_from(&self, wallet: &Wallet, mut body: Value) -> Bought {
        body["public_key"] = json!(self.stage.cast.agent.public());
        let header = wallet.sign(&self.quote(&body).await);
        let seen = self.pay(&self.anyone(), &body, &header).await;
        assert_eq!(seen.status, 201, "{}", seen.json);
        let token = secret::at(&seen.json, "/token").unwrap();
        Bought {
            id: seen.text("/id"),
            token,
            json: seen.json,
        }
    }

    /// Resolves `reference` with a token that is pinned already.
    pub(crate) async fn resolve(&self, prim: &KeyFile, token: &SecretText, reference: &str) -> Seen {
        resolve(&self.client(Some(prim)), token, reference).await
    }

    /// The demo prim resolves what it may; the key.
    pub(crate) async fn key_of(&self, bought: &Bought) -> String {
        let seen = self
            .resolve(&self.stage.cast.prim, &pinned(&bought.token, PRIM), READ)
            .await;
        assert_eq!(seen.status, 200, "{}", seen.json);
        seen.key().unwrap()
    }

    /// The newest events whose kind begins with `kind`.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Value> {
        let request = Request::get(&["v1", "audit", "events"])
            .query("type", Some(kind))
            .query("limit", Some(100));
        let list = send(&self.operator(), request).await.good();
        list["data"].as_array().unwrap().clone()
    }

    /// Ends the process' part and starts it again on what is on disk; sealed.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|| {}).await
    }

    /// The same, with something done in between.
    pub(crate) async fn restart_with(self, between: impl FnOnce()) -> Self {
        let Self { stage, config, dir } = self;
        let Stage {
            server,
            vendor,
            cast,
            data_dir,
        } = stage;
        server.stop().await;
        between();
        let server = Server::start(&config).await.unwrap();
        let stage = Stage {
            server,
            vendor,
            cast,
            data_dir,
        };
        Self { stage, config, dir }
    }

    /// The same by another clock.
    pub(crate) async fn restart_by(self, clock: Arc<ManualClock>) -> Self {
        let Self { stage, config, dir } = self;
        let Stage {
            server,
            vendor,
            cast,
            data_dir,
        } = stage;
        server.stop().await;
        let server = Server::start_by(&config, Some(clock)).await.unwrap();
        let stage = Stage {
            server,
            vendor,
            cast,
            data_dir,
        };
        Self { stage, config, dir }
    }

    /// The key that opens the vault.
    pub(crate) fn unseal_key(&self) -> UnsealKey {
        let text = secret::read_file(&self.stage.data_dir.join("unseal-key")).unwrap();
        UnsealKey::parse_key_file(&text).unwrap()
    }

    /// Ends the server alone: what is on disk, the vendor and the keys of everybody stay.
    pub(crate) async fn stop_server(self) -> (Cast, MockVendor, tempfile::TempDir) {
        let Self { stage, dir, .. } = self;
        stage.server.stop().await;
        (stage.cast, stage.vendor, dir)
    }

    pub(crate) async fn stop(self) {
        self.stage.server.stop().await;
    }
}

/// A client that signs with `key` at `time`.
pub(crate) fn client_at(app: &TestApp, key: &KeyFile, time: Timestamp) -> Client {
    let key = KeyFile::parse(&key.to_text()).unwrap();
    let address = app.stage.server.url.parse().unwrap();
    let clock = Arc::new(ManualClock::at(time));
    Client::new(
        address,
        Some(key),
        None,
        Duration::from_secs(30),
        clock,
        Arc::new(OsRandom),
    )
    .unwrap()
}

/// Any free port on loopback.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A new Ed25519 key.
pub(crate) fn new_key() -> KeyFile {
    KeyFile::generate(&OsRandom)
}

/// Sends a request; every answer is one.
pub(crate) async fn send(client: &Client, request: Request) -> Seen {
    let reply = client.send_any(&request).await.unwrap();
    Seen {
        status: reply.status,
        headers: reply.headers.clone(),
        json: reply.json(),
        body: reply.body.to_vec(),
    }
}

/// Resolves one reference with a token in `Authorization`. A busy server is asked again, as any client does.
pub(crate) async fn resolve(prim: &Client, token: &SecretText, reference: &str) -> Seen {
    let body = json!({ "items": [{ "reference": reference }] });
    until("an answer of the busy server", async || {
        let request = Request::post(&["v1", "resolve"]).bearer(same(token)).json(&body);
        let seen = send(prim, request).await;
        (seen.code() != "overloaded").then_some(seen)
    })
    .await
}

/// A copy of a secret: the type has none on purpose.
pub(crate) fn same(token: &SecretText) -> SecretText {
    SecretText::new(secret::shown(token))
}

/// The token narrowed to one prim for four minutes, as the client library does before it sends one.
pub(crate) fn pinned(token: &SecretText, prim: &str) -> SecretText {
    let narrowing = Narrowing {
        prims: vec![prim.parse().unwrap()],
        until: Some(SystemClock::default().now().plus(Ttl::from_mins(4))),
        ..Narrowing::default()
    };
    token::attenuate(token, &narrowing).unwrap()
}

/// Looks again and again until there is something; fails loudly when it does not come about.
pub(crate) async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
