//! The mistakes that people are likely to make: each is told what happened, why, and what to do, by the real binary
//! against a real server. What is typed and what comes back stands in `transcripts/`.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::{secret, token};
use dekeys::mock::Fault;
use dekeys::payment::Faults;
use dekeys::setup::stage::{self, POLICY, PRIM, Stage as Instance};
use dekeys::token::Narrowing;
use tokio::runtime::Runtime;

use super::stage::Stage;
use super::transcript::{Machine, masked, plays};

/// A test instance of this process, and a machine whose files are the people's.
struct Scene {
    machine: Machine,
    instance: Option<Instance>,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Scene {
    fn open() -> Self {
        Self::with(POLICY)
    }

    fn with(policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let config = stage::config(&dir.path().join("data"), SocketAddr::from(([127, 0, 0, 1], 0)));
        let instance = runtime.block_on(Instance::ready_with(&config, policy)).unwrap();
        std::fs::write(dir.path().join("data/wallet"), "42".repeat(32)).unwrap();
        let env = [
            ("DEKEYS_ADDR", &instance.server.url),
            ("DEKEYS_ADMIN_ADDR", &instance.server.admin),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.clone())).to_vec();
        let machine = Machine {
            dir: dir.path().join("data"),
            env,
        };
        Self {
            machine,
            instance: Some(instance),
            runtime,
            dir,
        }
    }

    fn instance(&self) -> &Instance {
        self.instance.as_ref().unwrap()
    }

    /// Buys a grant; its token is in the file `token`.
    fn buy(&self) {
        let told = self.machine.shell(
            "dekeys grant create dk://demo/echo:read --pay-key-file wallet --max-price '0.01 USDC' --out-token token --key-file agent.key",
        );
        assert!(told.contains("state\tactive"), "{told}");
    }

    /// The token narrowed, in the file `name`.
    fn narrow(&self, name: &str, narrowing: &Narrowing) {
        let path = |name: &str| self.machine.dir.join(name);
        let token = secret::read_file(&path("token")).unwrap();
        secret::write_new(&path(name), &token::attenuate(&token, narrowing).unwrap()).unwrap();
    }

    /// The token for the prim alone, in the file `pinned`.
    fn pin(&self) {
        self.narrow(
            "pinned",
            &Narrowing {
                prims: vec![PRIM.parse().unwrap()],
                until: Some(SystemClock::default().now().plus(Ttl::from_mins(4))),
                ..Narrowing::default()
            },
        );
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.runtime.block_on(instance.server.stop());
        }
        assert!(self.dir.path().exists());
    }
}

#[test]
fn m01_the_vault_is_sealed() {
    plays("01-sealed", &Scene::open().machine);
}

#[test]
fn m02_the_unseal_key_is_of_another_vault() {
    let scene = Scene::open();
    std::fs::write(scene.machine.dir.join("other.key"), "A".repeat(43)).unwrap();
    plays("02-unseal-key", &scene.machine);
}

#[test]
fn m03_the_token_expired() {
    let scene = Scene::open();
    scene.buy();
    let over = SystemClock::default().now().minus(Ttl::from_mins(3));
    scene.narrow(
        "old",
        &Narrowing {
            until: Some(over),
            ..Narrowing::default()
        },
    );
    plays("03-token-expired", &scene.machine);
}

#[test]
fn m04_the_token_does_not_reach_so_far() {
    let scene = Scene::open();
    scene.buy();
    scene.pin();
    scene.narrow(
        "narrow",
        &Narrowing {
            scopes: vec!["echo:write".parse().unwrap()],
            ..Narrowing::default()
        },
    );
    plays("04-insufficient-scope", &scene.machine);
}

#[test]
fn m05_the_vendor_is_not_connected() {
    plays("05-vendor-not-connected", &Scene::open().machine);
}

#[test]
fn m06_no_policy_covers_it() {
    plays("06-policy-not-approved", &Scene::open().machine);
}

#[test]
fn m07_the_price_is_higher_than_meant() {
    plays("07-price", &Scene::open().machine);
}

#[test]
fn m08_nobody_knows_yet_whether_the_payment_went_through() {
    let scene = Scene::open();
    let (rail, _) = scene.instance().server.app.rail.as_ref().unwrap();
    rail.sim().unwrap().set_faults(Faults {
        lose_answer: 1,
        ..Faults::default()
    });
    plays("08-payment-unknown", &scene.machine);
}

#[test]
fn m09_the_clocks_differ() {
    let scene = Scene::open();
    // The stage's clock stands still a year ago.
    let mut stage = Stage::new();
    stage.env.extend(scene.machine.env.clone());
    let key = scene.machine.dir.join("operator.key");
    let ran = stage.run(&format!("lease ls --key-file {}", key.display()));
    assert_eq!(ran.exit, 4);
    let told = masked(&ran.err);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "error: the clocks differ too much [clock_skew]", "{told}");
    assert!(
        lines[1].contains("more than 30 s ahead") && lines[1].ends_with("here it is TIME"),
        "{told}"
    );
    assert!(
        lines[2].starts_with("    fix: Set the clock of the machine that signs"),
        "{told}"
    );
}

/// A dekeys of its own process; ends with this value.
struct Running(Child, String);

impl Running {
    fn dev(dir: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dekeys"))
            .args(["serve", "--dev", "--json", "--port", "0", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self(child, told["url"].as_str().unwrap().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn m10_the_port_and_the_database_are_another_dekeys() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::dev(&dir.path().join("data"));
    let address = running.1.strip_prefix("http://").unwrap().to_owned();
    let env = vec![("ADDRESS".to_owned(), address)];
    plays(
        "10-port-in-use",
        &Machine {
            dir: dir.path().to_owned(),
            env,
        },
    );
}

/// A folder with an instance that nobody serves.
fn made() -> (tempfile::TempDir, Machine) {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine {
        dir: dir.path().to_owned(),
        env: Vec::new(),
    };
    let told = machine.shell(
        "dekeys init --mode test --operator ada --solo --data-dir data --new-operator-key ada.key --unseal-key-file unseal-key",
    );
    assert!(told.contains("instance\tins_…"), "{told}");
    (dir, machine)
}

async fn connect(machine: &Machine) -> sqlx::SqliteConnection {
    use sqlx::Connection as _;
    let file = machine.dir.join("data/dekeys.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    sqlx::SqliteConnection::connect_with(&options).await.unwrap()
}

#[test]
fn m11_another_program_holds_the_database() {
    let (_dir, machine) = made();
    let runtime = Runtime::new().unwrap();
    let mut lock = runtime.block_on(connect(&machine));
    runtime
        .block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut lock))
        .unwrap();
    let told = machine.shell(
        "dekeys serve --data-dir data --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --unseal-key-file unseal-key",
    );
    let lines: Vec<&str> = told.lines().collect();
    let error = lines
        .iter()
        .position(|line| line.starts_with("error: "))
        .unwrap_or_else(|| panic!("{told}"));
    let holder = "error: the database `data/dekeys.db` is locked by \"it-";
    assert!(
        lines[error].starts_with(holder) && lines[error].ends_with("[database_locked]"),
        "{told}"
    );
    assert!(
        lines[error + 1].contains("Waited 5 s.") && lines[error + 2].starts_with("    fix: end that program"),
        "{told}"
    );
    assert_eq!(lines.last(), Some(&"(exit 10)"));
}

#[test]
fn m12_the_database_is_newer() {
    let (_dir, machine) = made();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut database = connect(&machine).await;
        let newer = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
             FROM _sqlx_migrations LIMIT 1";
        sqlx::query(newer).execute(&mut database).await.unwrap();
    });
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap();
    let numbers = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let known: u32 = numbers
        .map(|name| name.split('_').next().unwrap().parse().unwrap())
        .max()
        .unwrap();
    let serve = machine.shell("dekeys serve --data-dir data --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0");
    let version = env!("CARGO_PKG_VERSION");
    let wanted = format!(
        "error: the database is newer than this binary [migration_mismatch]\n    It has migration 9999, this is {version} \
         and knows {known}. Starting could damage it, so nothing was written.\n    fix: install the version that wrote it, \
         or restore a backup\n(exit 1)\n"
    );
    assert!(serve.ends_with(&wanted), "{serve}");
    let status = machine.shell("dekeys db status --data-dir data");
    assert!(
        status.contains("migrations\t9999\n") && status.ends_with("(exit 1)\n"),
        "{status}"
    );
}

#[test]
fn m13_the_request_changed_while_somebody_read_it() {
    plays("13-digest", &Scene::open().machine);
}

#[test]
fn m14_too_often() {
    let scene = Scene::with(&POLICY.replace("rate = \"60/min\"", "rate = \"1/min\""));
    scene.buy();
    scene.pin();
    plays("14-rate-limited", &scene.machine);
}

#[test]
fn m15_the_vendor_does_not_confirm() {
    let scene = Scene::open();
    scene.buy();
    scene.pin();
    for op in ["revoke", "probe"] {
        scene.instance().vendor.fault(Fault {
            op: op.to_owned(),
            status: Some(500),
            ..Fault::default()
        });
    }
    plays("15-revocation-failed", &scene.machine);
}
