//! The instance, its server as a process of its own, and what is seen of it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock as _, SystemClock, Ttl};
use dekeys::client::{Client, KeyFile, Request, secret, token};
use dekeys::config::Config;
use dekeys::mock::MockVendor;
use dekeys::setup::stage::{self, PRIM, Stage};
use dekeys::store::Store;
use dekeys::token::Narrowing;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Outcome, prepare};

const REFERENCE: &str = "dk://demo/echo:read";

const POLICY: &str = r#"
name = "bench"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["*"]
[grant]
max_ttl = "24h"
max_resolves = 1000000000
[reveal]
prims = ["prim-echo"]
max_lease = "24h"
[limits]
live_leases = 10000000
rate = "1000000/s"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#;

/// An instance that nobody serves, with its vendor.
pub(crate) struct World {
    config: Config,
    prim: KeyFile,
    token: SecretText,
    vendor: MockVendor,
    _place: TempDir,
}

/// What was seen.
pub(crate) struct Served {
    pub(crate) ready: Duration,
    pub(crate) memory_ready: f64,
    pub(crate) memory_most: f64,
    pub(crate) ended: u64,
    pub(crate) all_ended: Option<Duration>,
    /// Leases ended a second, from the first to the last.
    pub(crate) end_rate: Option<f64>,
    pub(crate) revoked: usize,
    pub(crate) revoked_rate: f64,
    pub(crate) resolves: usize,
    pub(crate) refused: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl World {
    pub(crate) async fn new() -> Outcome<Self> {
        let place = tempfile::tempdir()?;
        let config = stage::config(&place.path().join("data"), ([127, 0, 0, 1], 0).into());
        let stage = Stage::ready_with(&config, POLICY).await?;
        let operator = stage::client(&stage.server.url, Some(&stage.cast.operator))?;
        let agent = json!({ "name": "agent", "kind": "agent", "public_keys": [stage.cast.agent.public()] });
        operator
            .send(&Request::post(&["v1", "principals"]).json(&agent))
            .await?;
        let agent = stage::client(&stage.server.url, Some(&stage.cast.agent))?;
        let prim = KeyFile::parse(&stage.cast.prim.to_text())?;
        let body = json!({ "reference": REFERENCE, "reason": "to measure", "ttl": "24h",
            "public_key": stage.cast.agent.public() });
        let grant = agent.send(&Request::post(&["v1", "grants"]).json(&body)).await?.json();
        let token = secret::at(&grant, "/token").ok_or("no token")?;
        let Stage { server, vendor, .. } = stage;
        let resolved = resolve(&stage::client(&server.url, Some(&prim))?, &token).await?;
        if resolved != 200 {
            return Err(format!("the first resolve was answered {resolved}").into());
        }
        server.stop().await;
        Ok(Self {
            config,
            prim,
            token,
            vendor,
            _place: place,
        })
    }

    pub(crate) async fn fill(&self, leases: u64, due: u64, events: bool) -> Outcome<()> {
        prepare::fill(&self.config, leases, due, events).await
    }

    /// Starts the server and looks at it for so long.
    pub(crate) async fn serve(&self, how_long: Duration) -> Outcome<Served> {
        let before = self.live().await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let url = format!("http://127.0.0.1:{port}");
        let began = Instant::now();
        let mut child = Killed(self.start(port)?);
        let anyone = stage::client(&url, None)?;
        while !anyone
            .send_any(&Request::get(&["readyz"]))
            .await
            .is_ok_and(|reply| reply.status == 200)
        {
            if child.0.try_wait()?.is_some() || began.elapsed() > Duration::from_mins(5) {
                return Err("the server is not ready".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ready = began.elapsed();
        let memory_ready = status(child.0.id(), "VmRSS:")?;
        let looked = Instant::now();
        let watching = tokio::spawn(watch(self.config.database_url.clone(), before, how_long));
        let prim = stage::client(&url, Some(&self.prim))?;
        let (mut times, mut refused) = (Vec::new(), 0);
        while looked.elapsed() < how_long && !(watching.is_finished() && times.len() > 500) {
            let asked = Instant::now();
            refused += usize::from(resolve(&prim, &self.token).await? != 200);
            times.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seconds = looked.elapsed().as_secs_f64();
        let watched = watching.await?.map_err(|why| why.clone())?;
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let revoked = self.vendor.calls().iter().filter(|call| call.op == "revoke").count();
        Ok(Served {
            ready,
            memory_ready,
            memory_most: status(child.0.id(), "VmHWM:")?,
            ended: watched.ended,
            all_ended: watched.all.map(|at| at.duration_since(looked)),
            end_rate: watched.rate,
            revoked,
            revoked_rate: f64::from(u32::try_from(revoked)?) / seconds,
            resolves: times.len(),
            refused,
            p50: at(50),
            p99: at(99),
        })
    }

    /// Live leases that are over: what there is to be ended.
    async fn live(&self) -> Outcome<u64> {
        let store = Store::open(&self.config.database_url).await?;
        let due = over(&store).await;
        store.close().await;
        due
    }

    fn start(&self, port: u16) -> Outcome<Child> {
        let dir = &self.config.data_dir;
        let mut command = Command::new(env!("CARGO_BIN_EXE_dekeys"));
        command.env_clear().arg("serve").arg("--data-dir").arg(dir);
        command.arg("--database-url").arg(&self.config.database_url);
        command.arg("--unseal-key-file").arg(dir.join("unseal-key"));
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen"]);
        command.arg(format!("unix:{}", dir.join("admin").display()));
        Ok(command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }
}

/// Ended with the measurement.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be dead already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

async fn resolve(prim: &Client, held: &SecretText) -> Outcome<u16> {
    let narrowing = Narrowing {
        prims: vec![PRIM.parse()?],
        until: Some(SystemClock::default().now().plus(Ttl::from_mins(4))),
        ..Narrowing::default()
    };
    let narrowed = token::attenuate(held, &narrowing)?;
    let body = json!({ "items": [{ "reference": REFERENCE }] });
    let request = Request::post(&["v1", "resolve"]).bearer(narrowed).json(&body);
    let reply = prim.send_any(&request).await?;
    let key = reply
        .json()
        .pointer("/data/0/credential/fields/api_key")
        .and_then(Value::as_str)
        .is_some();
    Ok(if key { reply.status } else { 0 })
}

struct Watched {
    ended: u64,
    all: Option<Instant>,
    rate: Option<f64>,
}

/// Looks how many of the leases that were due are still live, until none is.
async fn watch(url: String, before: u64, how_long: Duration) -> Result<Watched, String> {
    let store = Store::open(&url).await.map_err(|error| error.to_string())?;
    let (began, mut first, mut ended, mut rate) = (Instant::now(), None, 0, None);
    let mut all = None;
    while began.elapsed() < how_long {
        let left = over(&store).await.map_err(|error| error.to_string())?;
        ended = before.saturating_sub(left);
        if ended > 0 {
            let (since, at) = *first.get_or_insert_with(|| (Instant::now(), ended));
            let span = since.elapsed().as_secs_f64();
            if span > 0.0 && ended > at {
                rate = u32::try_from(ended - at).ok().map(|count| f64::from(count) / span);
            }
        }
        if left == 0 {
            all = Some(Instant::now());
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.close().await;
    Ok(Watched { ended, all, rate })
}

/// Live leases whose time is over.
async fn over(store: &Store) -> Outcome<u64> {
    let mut tx = store.read().await?;
    let outlook = tx.outlook(SystemClock::default().now().plus(Ttl::from_secs(1))).await?;
    tx.end().await?;
    Ok(outlook.leases_ending.unsigned_abs())
}

/// A line of what the operating system says of a process, in MB.
fn status(pid: u32, name: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such line")?;
    let kilobytes: u32 = line.split_whitespace().next().ok_or("no figure")?.parse()?;
    Ok(f64::from(kilobytes) / 1024.0)
}
