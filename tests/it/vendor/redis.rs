//! Users of Redis against the real server: one of the test's own, with an ACL file, that is ended with the test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::Ttl;
use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use dekeys::vendor::{
    Adapter, Alive, CreateAsk, Created, FailureClass, Gone, RootSecret, VendorFailure, fields, pack_root,
};
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisResult, cmd};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{adapter, ask, manifest, unheard};
use crate::support::{TestApp, pinned, policy, send, until};

const NAME: &str = "dk-abcdefgh-0123456789-1";
const FIRST: &str = "first-password-of-the-root-user";

/// A server whose `default` user has no rights, and whose user `keys` may make others.
struct Server {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    async fn start() -> Option<Self> {
        let program = ["/usr/bin/redis-server", "/usr/bin/valkey-server"].map(PathBuf::from);
        let Some(program) = program.into_iter().find(|path| path.exists()) else {
            crate::skip::skipped("the life of a Redis user: no server is installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let list = format!("user default off\nuser keys on >{FIRST} ~* &* +@all\nuser other on nopass ~* -@all\n");
        std::fs::write(folder.path().join("users.acl"), list).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(folder.path())
            .arg("--aclfile")
            .arg(folder.path().join("users.acl"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, child, port };
        until("redis-server to answer", async || {
            server.log_in("keys", FIRST).await.ok()
        })
        .await;
        Some(server)
    }

    async fn log_in(&self, user: &str, password: &str) -> RedisResult<MultiplexedConnection> {
        let url = format!("redis://{user}:{password}@127.0.0.1:{}", self.port);
        Client::open(url)?.get_multiplexed_async_connection().await
    }

    /// A connection of a key's holder.
    async fn holder(&self, key: &SecretText) -> RedisResult<MultiplexedConnection> {
        let parts = fields(key);
        self.log_in(parts["user"].expose(), parts["password"].expose()).await
    }

    fn vendor(&self, password: &str) -> Vendor {
        let param = |name: &str, value: String| (name.to_owned(), value);
        let params = [
            param("host", format!("127.0.0.1:{}", self.port)),
            param("prefix", "app:".to_owned()),
        ];
        let secret = |name: &str, value: &str| (name.to_owned(), SecretText::new(value.to_owned()));
        let root = vec![secret("user", "keys"), secret("password", password)];
        let packed = pack_root(&manifest("redis"), None, &params, root);
        Vendor {
            adapter: adapter(&manifest("redis")),
            egress: Egress::new(Reach::Loopback).unwrap(),
            root: RootSecret::unpack(packed.unwrap()).unwrap(),
        }
    }

    /// What the server keeps on disk.
    fn list(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("users.acl")).unwrap()
    }
}

struct Vendor {
    adapter: Adapter,
    egress: Egress,
    root: RootSecret,
}

impl Vendor {
    async fn create(&self, scopes: &[&str]) -> Result<Created, VendorFailure> {
        let wanted = CreateAsk {
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            ..ask(NAME, Ttl::from_mins(5))
        };
        let making = self
            .adapter
            .create(&self.egress, &self.root, &wanted, &OsRandom, unheard);
        making.await
    }

    async fn probe(&self, key: &SecretText) -> Alive {
        self.adapter.probe(&self.egress, &self.root, key).await.unwrap()
    }

    async fn revoke(&self, id: &str) -> Result<Gone, VendorFailure> {
        self.adapter.revoke(&self.egress, &self.root, id, None).await
    }

    async fn found(&self) -> Vec<String> {
        let found = self.adapter.find(&self.egress, &self.root, NAME).await.unwrap();
        found.into_iter().map(|found| found.vendor_key_id).collect()
    }
}

/// The first word of a refusal.
async fn refused(connection: &mut MultiplexedConnection, words: &[&str]) -> String {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let outcome: RedisResult<redis::Value> = command.query_async(connection).await;
    outcome.unwrap_err().code().unwrap_or_default().to_owned()
}

/// One server for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_a_key_at_the_real_server() {
    let Some(server) = Server::start().await else { return };
    may_what_its_scopes_say_and_is_dead_when_it_was_ended(&server).await;
    is_made_once_and_nobody_else_is_removed(&server).await;
    is_resolved_and_revoked(&server).await;
    has_its_root_replaced(&server).await;
}

async fn may_what_its_scopes_say_and_is_dead_when_it_was_ended(server: &Server) {
    let vendor = server.vendor(FIRST);
    vendor.adapter.test_root(&vendor.egress, &vendor.root).await.unwrap();
    let mut keys = server.log_in("keys", FIRST).await.unwrap();
    let (): () = cmd("MSET")
        .arg(&["app:a", "1", "secret", "2"])
        .query_async(&mut keys)
        .await
        .unwrap();
    let made = vendor.create(&["keys:read"]).await.unwrap();
    assert_eq!(
        (made.vendor_key_id.as_str(), vendor.probe(&made.secret).await),
        (NAME, Alive::Alive)
    );
    assert_eq!(vendor.found().await, [NAME]);
    let parts = fields(&made.secret);
    let wrong = json!({ "user": NAME, "password": "another", "url": "" });
    assert_eq!(vendor.probe(&SecretText::new(wrong.to_string())).await, Alive::Dead);
    let mut holder = server.holder(&made.secret).await.unwrap();
    let seen: String = cmd("GET").arg("app:a").query_async(&mut holder).await.unwrap();
    assert_eq!(seen, "1");
    for forbidden in [
        &["GET", "secret"][..],
        &["SET", "app:a", "3"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["RANDOMKEY"],
        &["ACL", "LIST"],
        &["CONFIG", "GET", "*"],
        &["CLIENT", "LIST"],
        &["FLUSHALL"],
        &["EVAL", "return 1", "0"],
        &["PUBLISH", "app:news", "x"],
        &["SHUTDOWN", "NOSAVE"],
    ] {
        assert_eq!(refused(&mut holder, forbidden).await, "NOPERM", "{forbidden:?}");
    }
    // The server's file has the user, and no password.
    assert!(server.list().contains(NAME) && !server.list().contains(parts["password"].expose()));
    let url = format!(
        "rediss://{NAME}:{}@127.0.0.1:{}",
        parts["password"].expose(),
        server.port
    );
    assert_eq!(parts["url"].expose(), url);
    assert_eq!(vendor.revoke(NAME).await.unwrap(), Gone::Revoked);
    let after: RedisResult<String> = cmd("GET").arg("app:a").query_async(&mut holder).await;
    assert!(after.is_err(), "the connection outlives its user");
    assert_eq!(vendor.revoke(NAME).await.unwrap(), Gone::AlreadyGone);
    assert_eq!(vendor.probe(&made.secret).await, Alive::Dead);
    assert!(server.holder(&made.secret).await.is_err() && vendor.found().await.is_empty());
    assert!(!server.list().contains(NAME), "it would be back after a restart");
    // Writing, and channels.
    let made = vendor.create(&["keys:write", "channels:use"]).await.unwrap();
    let mut holder = server.holder(&made.secret).await.unwrap();
    let (): () = cmd("SET").arg(&["app:b", "3"]).query_async(&mut holder).await.unwrap();
    let heard: i64 = cmd("PUBLISH")
        .arg(&["app:news", "x"])
        .query_async(&mut holder)
        .await
        .unwrap();
    assert_eq!(heard, 0);
    assert_eq!(refused(&mut holder, &["SET", "secret", "3"]).await, "NOPERM");
    assert_eq!(refused(&mut holder, &["PUBLISH", "news", "x"]).await, "NOPERM");
    assert_eq!(vendor.revoke(NAME).await.unwrap(), Gone::Revoked);
}

async fn is_made_once_and_nobody_else_is_removed(server: &Server) {
    let vendor = server.vendor(FIRST);
    vendor.create(&["keys:read"]).await.unwrap();
    let again = vendor.create(&["keys:write"]).await.err().unwrap();
    assert_eq!(again.status, Some(409), "{}", again.words);
    for untouchable in ["default", "keys"] {
        assert_eq!(vendor.revoke(untouchable).await.unwrap_err().status, Some(403));
    }
    assert_eq!(vendor.revoke(NAME).await.unwrap(), Gone::Revoked);
    let stranger = server.vendor("a wrong password");
    let failure = stranger.create(&["keys:read"]).await.err().unwrap();
    assert_eq!(
        (failure.class, failure.status),
        (FailureClass::Auth, Some(401)),
        "{}",
        failure.words
    );
    assert!(vendor.found().await.is_empty());
}

async fn is_resolved_and_revoked(server: &Server) {
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    let root = json!({
        "fields": { "user": "keys", "password": FIRST },
        "params": { "host": format!("127.0.0.1:{}", server.port), "prefix": "app:" },
    });
    let connect = Request::put(&["v1", "vendors", "redis", "root-credential"]).json(&root);
    send(&app.operator(), connect).await.good();
    let text = policy("redis-readers", "keys:read", &[PRIM], "")
        .replace("vendor = \"demo\"", "vendor = \"redis\"")
        .replace("wallets = [\"eip155:84532:*\"]", "principals = [\"agent-one\"]");
    app.stage.put_in_force(&text).await.unwrap();
    let wish = json!({ "reference": "dk://redis/keys:read", "ttl": "10m" });
    let bought = send(&app.agent(), Request::post(&["v1", "grants"]).json(&wish))
        .await
        .good();
    let token = pinned(&SecretText::new(bought["token"].as_str().unwrap().to_owned()), PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &token, "dk://redis/keys:read").await;
    assert_eq!(seen.status, 200, "{}", seen.json);
    let part = |name: &str| seen.text(&format!("/data/0/credential/fields/{name}"));
    let mut holder = server.log_in(&part("user"), &part("password")).await.unwrap();
    let value: String = cmd("GET").arg("app:a").query_async(&mut holder).await.unwrap();
    assert_eq!(value, "1");
    let id = bought["id"].as_str().unwrap();
    let end = Request::post(&["v1", "grants", id, "revoke"]).json(&Value::Object(serde_json::Map::new()));
    assert_eq!(send(&app.agent(), end).await.good()["confirmed"], true);
    assert!(server.log_in(&part("user"), &part("password")).await.is_err());
    app.stop().await;
}

async fn has_its_root_replaced(server: &Server) {
    let vendor = server.vendor(FIRST);
    let another = vendor
        .adapter
        .another_root(&vendor.egress, &vendor.root, "root", None, Ttl::default());
    let root = RootSecret::unpack(another.await.unwrap()).unwrap();
    let old = vendor.adapter.test_root(&vendor.egress, &vendor.root).await;
    assert_eq!(old.err().unwrap().class, FailureClass::Auth);
    vendor.adapter.test_root(&vendor.egress, &root).await.unwrap();
    assert!(server.log_in("keys", FIRST).await.is_err());
}
