//! The binary as it is shipped: how soon it is ready, what memory it holds, how long its demo takes. And a database of
//! our own on a PostgreSQL server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dekeys::base::id::base32_lower;
use dekeys::base::random::{OsRandom, bytes};
use dekeys::client::secret;
use dekeys::setup::stage::{self, Cast};
use dekeys::vault::UnsealKey;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::report::Spread;
use crate::{Outcome, process, report};

const BINARY: &str = env!("CARGO_BIN_EXE_dekeys");

/// Measures the binary.
pub(crate) fn run(rounds: u32) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let address = prepare(dir.path())?;
    let (mut ready, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let (took, memory) = serve(dir.path(), address)?;
        ready.push(took);
        idle.push(memory);
    }
    // The first run reads the binary from the disk.
    tell("exec to /readyz 200, with a key file (ms)", ready.split_off(1))?;
    tell("memory when idle for a second (MB)", idle.split_off(1))?;
    let mut demos = Vec::new();
    for _ in 0..rounds {
        demos.push(demo()?);
    }
    tell("dekeys demo --exit --json, all of it (ms)", demos)
}

fn tell(what: &str, numbers: Vec<f64>) -> Outcome<()> {
    let spread = Spread::of(numbers.into_iter());
    report::line(&format!(
        "{what}: {:.1} [{:.1}..{:.1}]",
        spread.median, spread.least, spread.most
    ))
}

/// An instance that a key file opens, and an address for it.
fn prepare(dir: &Path) -> Outcome<SocketAddr> {
    let free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?;
    let config = stage::config(dir, free);
    let key = UnsealKey::generate_key_file(&OsRandom);
    secret::write_new(&dir.join("unseal-key"), &key)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(stage::make(&config, &Cast::new()?, UnsealKey::parse_key_file(&key)?))?;
    Ok(free)
}

/// Starts the binary; milliseconds until it is ready, and megabytes a second later.
fn serve(dir: &Path, address: SocketAddr) -> Outcome<(f64, f64)> {
    let began = Instant::now();
    let child = Command::new(BINARY)
        .args([
            "serve",
            "--admin-listen",
            "127.0.0.1:0",
            "--listen",
            &address.to_string(),
        ])
        .arg("--data-dir")
        .arg(dir)
        .arg("--unseal-key-file")
        .arg(dir.join("unseal-key"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut server = Server(child);
    while !is_ready(address) {
        if began.elapsed() > Duration::from_secs(20) || server.0.try_wait()?.is_some() {
            return Err("the binary did not get ready".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ready = began.elapsed().as_secs_f64() * 1e3;
    std::thread::sleep(Duration::from_secs(1));
    Ok((ready, process::memory_mb(server.0.id())?))
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn demo() -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let began = Instant::now();
    let ended = Command::new(BINARY)
        .args(["demo", "--exit", "--json", "--port", "0", "--data-dir"])
        .arg(dir.path().join("demo"))
        .stdout(Stdio::null())
        .status()?;
    if !ended.success() {
        return Err("the demo failed".into());
    }
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// A database for this run alone.
pub(crate) struct Postgres {
    /// Its URL.
    pub(crate) url: String,
    server: String,
    name: String,
}

impl Postgres {
    /// Makes it on `server`.
    pub(crate) fn make(server: &str) -> Outcome<Self> {
        let name = format!("dekeys_bench_{}", base32_lower(&bytes::<8>(&OsRandom)));
        let mut url: url::Url = server.parse()?;
        url.set_path(&name);
        run_sql(server, format!("CREATE DATABASE {name}"))?;
        Ok(Self {
            url: url.to_string(),
            server: server.to_owned(),
            name,
        })
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Outcome<()> {
        run_sql(
            &self.server,
            format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
        )
    }
}

fn run_sql(server: &str, text: String) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(server).await?;
        // Our own text: a fixed statement and a name made above.
        sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    })
}
