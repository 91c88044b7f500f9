//! PostgreSQL roles against the real server: one of the test's own, with passwords, that is ended with the test.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::Ttl;
use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use dekeys::vendor::{
    Adapter, Alive, CreateAsk, Created, Existence, FailureClass, Gone, Manifest, RootSecret, VendorFailure, fields,
    pack_root,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{adapter, ask, manifest, text, unheard};
use crate::support::{TestApp, pinned, policy, priced, send, until};

const NAME: &str = "dk-abcdefgh-0123456789-1";
const ROLE: &str = "dk_abcdefgh_0123456789_1";
const FIRST: &str = "first-password-of-the-root-role";

/// A server with passwords (SCRAM), a database `app` and a root role that may create roles and nothing more.
struct Server {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
}

/// The newest of Debian's packages.
fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.max_by_key(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    Some(newest?.path().join("bin")).filter(|bin| bin.join("initdb").exists())
}

/// A command; as `postgres` where this process is root, which the server refuses to run as.
fn command(program: &Path, arguments: &[&str]) -> Command {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(if root { Path::new("runuser") } else { program });
    if root {
        command.args(["-u", "postgres", "--"]).arg(program);
    }
    command
        .args(arguments)
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Server {
    async fn start() -> Option<Self> {
        let Some(bin) = bin() else {
            crate::skip::skipped("the life of a PostgreSQL role: no server is installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            let owner = Command::new("chown").arg("postgres:").arg(folder.path()).status();
            assert!(owner.unwrap().success());
        }
        let data = folder.path().join("data");
        let data = data.to_str().unwrap();
        let init = [
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ];
        assert!(command(&bin.join("initdb"), &init).status().unwrap().success());
        let port = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Self { folder, bin, port };
        server.certify();
        server.run(data);
        server.prepare().await;
        Some(server)
    }

    fn run(&self, data: &str) {
        let folder = self.folder.path().display();
        let options = format!(
            "-p {} -k {folder} -c listen_addresses=127.0.0.1 -c log_statement=all -c fsync=off -c ssl=on \
             -c ssl_cert_file={folder}/server.pem -c ssl_key_file={folder}/server.key",
            self.port
        );
        let log = format!("{folder}/log");
        let start = ["-D", data, "-w", "-l", &log, "-o", &options, "start"];
        assert!(command(&self.bin.join("pg_ctl"), &start).status().unwrap().success());
    }

    /// A certificate for `localhost` by an authority that nobody trusts who was not told to.
    fn certify(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let owner = std::fs::metadata(self.folder.path().join("data")).unwrap();
        let texts = [
            ("authority.pem", authority.pem()),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ];
        for (name, text) in texts {
            let file = self.folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }

    /// What an operator prepares, and from then on a password for everybody but `postgres`.
    async fn prepare(&self) {
        let mut admin = self.admin("postgres").await;
        let role = format!("CREATE ROLE keys LOGIN CREATEROLE PASSWORD '{FIRST}'");
        for statement in [role.as_str(), "CREATE DATABASE app OWNER keys", "CREATE ROLE builders"] {
            admin.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
        let mut app = self.admin("app").await;
        app.execute(
            "GRANT CREATE, USAGE ON SCHEMA public TO builders, keys; \
             SET ROLE keys; CREATE TABLE notes (id bigserial, text text); INSERT INTO notes (text) VALUES ('hello')",
        )
        .await
        .unwrap();
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        let file = self.folder.path().join("data/pg_hba.conf");
        std::fs::write(file, rules).unwrap();
        admin.execute("SELECT pg_reload_conf()").await.unwrap();
    }

    fn options(&self, user: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    async fn admin(&self, database: &str) -> PgConnection {
        PgConnection::connect_with(&self.options("postgres", database))
            .await
            .unwrap()
    }

    /// A session of a key's holder.
    async fn log_in(&self, key: &SecretText) -> Result<PgConnection, sqlx::Error> {
        let parts = fields(key);
        let options = self
            .options(parts["user"].expose(), "app")
            .password(parts["password"].expose());
        PgConnection::connect_with(&options).await
    }

    fn vendor(&self, password: &str) -> Vendor {
        Vendor::at(&manifest("postgres"), self.port, password, "builders")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let stop = ["-D", data.to_str().unwrap(), "-m", "immediate", "-w", "stop"];
        let stopped = command(&self.bin.join("pg_ctl"), &stop).status();
        assert!(stopped.unwrap().success() || std::thread::panicking());
    }
}

struct Vendor {
    adapter: Adapter,
    egress: Egress,
    root: RootSecret,
}

impl Vendor {
    fn at(manifest: &Manifest, port: u16, password: &str, group: &str) -> Self {
        Self::reaching(Reach::Loopback, format!("127.0.0.1:{port}"), manifest, password, group)
    }

    /// As a live instance whose configuration opens loopback.
    fn live(host: &str, port: &str) -> Self {
        let private_allowed = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let reach = Reach::Global { private_allowed };
        Self::reaching(
            reach,
            format!("{host}:{port}"),
            &manifest("postgres"),
            FIRST,
            "builders",
        )
    }

    fn reaching(reach: Reach, host: String, manifest: &Manifest, password: &str, group: &str) -> Self {
        let param = |name: &str, value: String| (name.to_owned(), value);
        let params = [
            param("host", host),
            param("database", "app".to_owned()),
            param("schema", "public".to_owned()),
            param("group", group.to_owned()),
        ];
        let secret = |name: &str, value: &str| (name.to_owned(), SecretText::new(value.to_owned()));
        let packed = pack_root(
            manifest,
            None,
            &params,
            vec![secret("user", "keys"), secret("password", password)],
        );
        Self {
            adapter: adapter(manifest),
            egress: Egress::new(reach).unwrap(),
            root: RootSecret::unpack(packed.unwrap()).unwrap(),
        }
    }

    async fn create(&self, name: &str, scopes: &[&str]) -> Result<Created, VendorFailure> {
        let wanted = CreateAsk {
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            ..ask(name, Ttl::from_mins(5))
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

/// The SQLSTATE of a refusal.
fn refused<T: std::fmt::Debug>(outcome: Result<T, sqlx::Error>) -> String {
    let error = outcome.unwrap_err();
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .unwrap_or_default()
        .into_owned()
}

/// One server for all: starting one takes seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_a_key_at_the_real_server() {
    let Some(server) = Server::start().await else { return };
    reads_and_is_dead_when_it_was_ended(&server).await;
    leaves_nothing_behind(&server).await;
    is_found_after_a_lost_answer(&server).await;
    cannot_be_made_to_say_more(&server).await;
    says_what_is_wrong(&server).await;
    is_reached_over_tls_by_a_live_instance(&server).await;
    is_bought_resolved_and_revoked(&server).await;
    has_its_root_replaced(&server).await;
}

async fn reads_and_is_dead_when_it_was_ended(server: &Server) {
    let vendor = server.vendor(FIRST);
    vendor.adapter.test_root(&vendor.egress, &vendor.root).await.unwrap();
    let made = vendor.create(NAME, &["tables:read"]).await.unwrap();
    assert_eq!(made.vendor_key_id, ROLE);
    assert_eq!(vendor.probe(&made.secret).await, Alive::Alive);
    assert_eq!(vendor.found().await, [ROLE]);
    let parts = fields(&made.secret);
    let wrong = json!({ "user": ROLE, "password": "another", "dsn": "" });
    assert_eq!(vendor.probe(&SecretText::new(wrong.to_string())).await, Alive::Dead);
    let mut session = server.log_in(&made.secret).await.unwrap();
    let row = session.fetch_one("SELECT text FROM notes").await.unwrap();
    assert_eq!(row.get::<String, _>(0), "hello");
    assert_eq!(
        refused(session.execute("INSERT INTO notes (text) VALUES ('x')").await),
        "42501"
    );
    let mut admin = server.admin("app").await;
    let row = admin.fetch_one("SELECT rolpassword, rolvaliduntil::text FROM pg_authid WHERE rolname LIKE 'dk%'");
    let row = row.await.unwrap();
    assert!(row.get::<String, _>(0).starts_with("SCRAM-SHA-256$"));
    assert!(!row.get::<String, _>(1).is_empty());
    let log = std::fs::read_to_string(server.folder.path().join("log")).unwrap();
    assert!(log.contains("CREATE ROLE") && !log.contains(parts["password"].expose()));
    let dsn = format!(
        "postgresql://{ROLE}:{}@127.0.0.1:{}/app",
        parts["password"].expose(),
        server.port
    );
    assert!(parts["dsn"].expose().starts_with(&dsn));
    assert_eq!(vendor.revoke(ROLE).await.unwrap(), Gone::Revoked);
    assert!(
        session.execute("SELECT 1").await.is_err(),
        "the session outlives its role"
    );
    assert_eq!(vendor.revoke(ROLE).await.unwrap(), Gone::AlreadyGone);
    assert_eq!(vendor.probe(&made.secret).await, Alive::Dead);
    assert!(server.log_in(&made.secret).await.is_err());
    assert!(vendor.found().await.is_empty());
}

/// What a role made stays, and belongs to the root role; its rights go.
async fn leaves_nothing_behind(server: &Server) {
    let mut admin = server.admin("app").await;
    admin.execute("GRANT builders TO keys WITH ADMIN OPTION").await.unwrap();
    let vendor = server.vendor(FIRST);
    let made = vendor.create(NAME, &["tables:write", "group:use"]).await.unwrap();
    let mut session = server.log_in(&made.secret).await.unwrap();
    session
        .execute("INSERT INTO notes (text) VALUES ('by a key')")
        .await
        .unwrap();
    session.execute("CREATE TABLE report (id int)").await.unwrap();
    assert_eq!(vendor.revoke(ROLE).await.unwrap(), Gone::Revoked);
    let row = admin
        .fetch_one("SELECT tableowner::text FROM pg_tables WHERE tablename = 'report'")
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "keys");
}

/// The server did it, and the connection broke before it could say so.
async fn is_found_after_a_lost_answer(server: &Server) {
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = relay.local_addr().unwrap().port();
    let to = server.port;
    let cut = tokio::spawn(async move {
        let (client, _) = relay.accept().await.unwrap();
        cut_after_the_creation(client, TcpStream::connect(("127.0.0.1", to)).await.unwrap()).await;
    });
    let vendor = Vendor::at(&manifest("postgres"), port, FIRST, "builders");
    let failure = vendor.create(NAME, &["tables:read"]).await.err().unwrap();
    cut.await.unwrap();
    assert_eq!(
        (failure.created, failure.class),
        (Existence::Maybe, FailureClass::Retryable)
    );
    let vendor = server.vendor(FIRST);
    assert_eq!(vendor.found().await, [ROLE]);
    let again = vendor.create(NAME, &["tables:read"]).await.err().unwrap();
    assert_eq!((again.status, again.created), (Some(409), Existence::No));
    assert_eq!(vendor.revoke(ROLE).await.unwrap(), Gone::Revoked);
}

/// Hands on what both sides say until the client says `CREATE ROLE` as a statement, however its messages are cut into
/// pieces; waits for the server's answer to it, and keeps that.
async fn cut_after_the_creation(mut client: TcpStream, mut server: TcpStream) {
    // Not in the question how the statement is spelled, nor among its values.
    let statement = b"LOGIN PASSWORD 'SCRAM-SHA-256";
    let (mut from_client, mut from_server) = ([0_u8; 2048], [0_u8; 2048]);
    let mut said = Vec::new();
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let piece = &from_client[..read.unwrap()];
                assert!(!piece.is_empty(), "the client went first");
                server.write_all(piece).await.unwrap();
                said.extend_from_slice(piece);
                if said.windows(statement.len()).any(|window| window == statement) {
                    assert!(server.read(&mut from_server).await.unwrap() > 0);
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let piece = &from_server[..read.unwrap()];
                client.write_all(piece).await.unwrap();
            }
        }
    }
}

/// Names are quoted by the server: one that would end the statement is only the name of nobody.
async fn cannot_be_made_to_say_more(server: &Server) {
    let strict = r#"optional = true, charset = "a-zA-Z0-9_-""#;
    let loose = text("postgres").replace(strict, "optional = true");
    assert_ne!(loose, text("postgres"));
    let loose = Manifest::parse(&loose, "postgres.toml").unwrap();
    let hostile = r#"x"; ALTER ROLE keys CREATEDB; --"#;
    let vendor = Vendor::at(&loose, server.port, FIRST, hostile);
    let failure = vendor.create(NAME, &["group:use"]).await.err().unwrap();
    assert_eq!((failure.status, failure.created), (Some(422), Existence::No));
    let mut admin = server.admin("app").await;
    let row = admin
        .fetch_one("SELECT rolcreatedb FROM pg_roles WHERE rolname = 'keys'")
        .await
        .unwrap();
    assert!(!row.get::<bool, _>(0));
    // The role and its rights are made together or not at all.
    assert!(vendor.found().await.is_empty());
    assert_eq!(vendor.revoke("keys").await.err().unwrap().status, Some(422));
    assert_eq!(vendor.revoke("postgres").await.err().unwrap().status, Some(422));
}

async fn says_what_is_wrong(server: &Server) {
    let wrong = server.vendor("not-the-password");
    let failure = wrong.create(NAME, &["tables:read"]).await.err().unwrap();
    assert_eq!((failure.class, failure.created), (FailureClass::Auth, Existence::No));
    assert!(!failure.words.contains("not-the-password"));
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = Vendor::at(&manifest("postgres"), nobody, FIRST, "builders");
    let failure = nobody.create(NAME, &["tables:read"]).await.err().unwrap();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Retryable, Existence::No)
    );
}

/// Which process trusts whom is said in its environment, so this is done in another one.
async fn is_reached_over_tls_by_a_live_instance(server: &Server) {
    let untrusted = Vendor::live("localhost", &server.port.to_string());
    let failure = untrusted.create(NAME, &["tables:read"]).await.err().unwrap();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Retryable, Existence::No)
    );
    let trusting = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "vendor::postgres::a_name_is_proven_to_who_trusts_the_authority",
        ])
        .env(PORT, server.port.to_string())
        .env("SSL_CERT_FILE", server.folder.path().join("authority.pem"))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success() && said.contains("1 passed"), "{said}");
}

/// Where the server is, for the process that trusts it.
const PORT: &str = "DEKEYS_TEST_POSTGRES_TLS_PORT";

/// Does nothing by itself: the scene above starts it with an authority to trust.
#[tokio::test]
async fn a_name_is_proven_to_who_trusts_the_authority() {
    let Some(port) = std::env::var_os(PORT) else { return };
    let port = port.into_string().unwrap();
    let vendor = Vendor::live("localhost", &port);
    vendor.adapter.test_root(&vendor.egress, &vendor.root).await.unwrap();
    let made = vendor.create(NAME, &["tables:read"]).await.unwrap();
    assert_eq!(vendor.probe(&made.secret).await, Alive::Alive);
    assert_eq!(vendor.revoke(ROLE).await.unwrap(), Gone::Revoked);
    // The same server by a name that its certificate does not have.
    let other = Vendor::live("127.0.0.1", &port);
    assert!(other.adapter.test_root(&other.egress, &other.root).await.is_err());
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
}

/// The whole way: an operator connects the server, an agent buys, a prim resolves and connects, the grant ends.
async fn is_bought_resolved_and_revoked(server: &Server) {
    const ROWS: &str = "dk://postgres/tables:read";
    let price = "\n[price]\namount = \"0.01 USDC\"\n";
    let policy = policy("pg-readers", "tables:read", &[PRIM], price).replace(r#""demo""#, r#""postgres""#);
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |_| {}).await;
    // Nothing that is only a draft may carry a price.
    let manifest = text("postgres").replace(r#"evidence = "draft""#, r#"evidence = "live""#);
    let body = json!({
        "manifest": manifest,
        "fields": { "user": "keys", "password": FIRST },
        "params": { "host": format!("127.0.0.1:{}", server.port), "database": "app", "schema": "public" },
    });
    let connect = Request::put(&["v1", "vendors", "postgres", "root-credential"]).json(&body);
    send(&app.operator(), connect).await.good();
    let test = Request::post(&["v1", "vendors", "postgres", "test"]).json(&json!({}));
    assert_eq!(send(&app.operator(), test).await.good()["ok"], json!(true));
    app.stage.put_in_force(&policy).await.unwrap();
    let bought = app.buy(json!({ "reference": ROWS })).await;
    let token = pinned(&bought.token, PRIM);
    let resolved = app.resolve(&app.stage.cast.prim, &token, ROWS).await.good();
    let key = SecretText::new(resolved["data"][0]["credential"]["fields"].to_string());
    let mut session = server.log_in(&key).await.unwrap();
    session.execute("SELECT text FROM notes").await.unwrap();
    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
    send(&app.operator(), revoke).await.good();
    until("the role is gone", async || {
        server.log_in(&key).await.is_err().then_some(())
    })
    .await;
    until("the role is dropped", async || {
        let mut admin = server.admin("app").await;
        let row = admin
            .fetch_one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dk%'")
            .await
            .unwrap();
        (row.get::<i64, _>(0) == 0).then_some(())
    })
    .await;
    assert!(
        session.execute("SELECT 1").await.is_err(),
        "the session outlives its role"
    );
    app.stop().await;
}
