//! Whether an instance can serve, and what an operator should look at: the same checks, by the same names, for
//! probes (`/readyz` of the public address, which tells strangers no more than yes or no), for operators (`/readyz`
//! of the admin address) and for `dekeys doctor`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Error;
use super::unseal::sealed_words;
use crate::base::time::{Timestamp, Ttl, span_words};
use crate::model::instance::Mode;

/// A wall clock set back by more than this refuses releases (DESIGN 24).
pub const CLOCK_BACK: Ttl = Ttl::from_secs(30);

/// A root credential older than this is to be replaced.
const ROOT_AGE: Ttl = Ttl::from_mins(90 * 24 * 60);

/// A log whose events wait longer for a checkpoint is looked at.
const CHECKPOINT_AGE: Ttl = Ttl::from_mins(5);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The name, the same wherever it is shown.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// How it ended; on the admin address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What to do; on the admin address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Whether this instance can serve.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<Check>,
    /// Which process answers; on the admin address only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// The process that answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// The version of dekeys.
    pub version: String,
    /// The instance.
    pub instance: String,
    /// Test or live.
    pub mode: Mode,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// The time here.
    pub now: Timestamp,
}

/// Looks whether this instance can serve; answers while sealed and tells nothing secret.
pub async fn readiness(app: &App) -> Readiness {
    let checks: Vec<Check> = [database(app).await, vault(app), audit(app), clock(app), history(app)]
        .into_iter()
        .map(Seen::for_strangers)
        .collect();
    Readiness {
        ready: checks.iter().all(|check| check.ok),
        checks,
        process: None,
    }
}

/// The same for operators: with figures, with what to do, and with what does not keep it from serving.
pub async fn health(app: &App) -> Readiness {
    let mut seen = vec![clock(app), database(app).await];
    let ready_before = seen.iter().all(Seen::holds);
    if ready_before {
        seen.push(migrations(app).await);
    }
    let (vault, audit, history) = (vault(app), audit(app), history(app));
    let ready = ready_before && vault.holds() && audit.holds() && history.holds();
    seen.push(vault);
    seen.push(history);
    seen.push(vendors(app).await);
    seen.push(facilitator(app));
    seen.push(checkpoint(app, audit).await);
    seen.push(
        counts(
            app,
            "revocation",
            "keys are still alive at a vendor that does not confirm their end",
        )
        .await,
    );
    seen.push(counts(app, "orphans", "keys at vendors are nobody's, and wait for a decision").await);
    seen.push(counts(app, "payments", "payments have an outcome that is not known").await);
    Readiness {
        ready,
        checks: seen.into_iter().map(Seen::for_operators).collect(),
        process: Some(Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: app.instance.id.to_string(),
            mode: app.instance.mode,
            pid: std::process::id(),
            started: app.started(),
            now: app.now(),
        }),
    }
}

/// What a check saw: for strangers in two words, for operators in full.
struct Seen {
    name: &'static str,
    level: Level,
    plain: &'static str,
    detail: String,
    fix: &'static str,
}

impl Seen {
    fn new(name: &'static str, level: Level, plain: &'static str) -> Self {
        Self {
            name,
            level,
            plain,
            detail: plain.to_owned(),
            fix: "",
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn fix(mut self, fix: &'static str) -> Self {
        self.fix = fix;
        self
    }

    fn holds(&self) -> bool {
        self.level != Level::Fail
    }

    fn for_strangers(self) -> Check {
        Check {
            name: self.name.to_owned(),
            ok: self.holds(),
            detail: self.plain.to_owned(),
            level: None,
            fix: None,
        }
    }

    fn for_operators(self) -> Check {
        Check {
            name: self.name.to_owned(),
            ok: self.holds(),
            detail: self.detail,
            level: Some(self.level),
            fix: (!self.fix.is_empty()).then(|| self.fix.to_owned()),
        }
    }
}

async fn database(app: &App) -> Seen {
    match size(app).await {
        Ok(bytes) => Seen::new("database", Level::Ok, "answers").detail(format!(
            "{} {} MiB",
            app.store.engine().as_str(),
            bytes / (1024 * 1024)
        )),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer");
            Seen::new("database", Level::Fail, "does not answer")
                .detail(format!("does not answer: {error}"))
                .fix("look at the disk, or whether PostgreSQL runs and takes connections")
        }
    }
}

async fn size(app: &App) -> Result<i64, Error> {
    let mut tx = app.store.read().await?;
    Ok(tx.size().await?)
}

fn vault(app: &App) -> Seen {
    if app.is_sealed() {
        return Seen::new("vault", Level::Fail, "sealed")
            .detail(sealed_words(app, true))
            .fix("dekeys unseal");
    }
    let since = app.unsealed_since().unwrap_or_default();
    let warnings = crate::vault::memory::seen();
    let open = format!("unsealed since {since}");
    if warnings.is_empty() {
        return Seen::new("vault", Level::Ok, "unsealed").detail(format!("{open}; core dumps off, no swap"));
    }
    Seen::new("vault", Level::Warn, "unsealed")
        .detail(format!("{open}; {}", warnings.join("; ")))
        .fix("MemorySwapMax=0 and LimitCORE=0 in the unit, or encrypted swap")
}

fn audit(app: &App) -> Seen {
    if app.log_is_broken() {
        return Seen::new("audit", Level::Fail, "does not verify")
            .fix("keep the database as it is, and compare it with a backup: dekeys audit verify");
    }
    Seen::new("audit", Level::Ok, "no damage seen")
}

fn history(app: &App) -> Seen {
    match app.refuse_while_reconciling() {
        Ok(()) => Seen::new("history", Level::Ok, "goes on").detail("it is the database that was unsealed last"),
        Err(error) => Seen::new("history", Level::Fail, "is being reconciled")
            .detail(error.to_string())
            .fix("dekeys reconcile"),
    }
}

fn clock(app: &App) -> Seen {
    let (back, ahead) = (app.now().since(app.clock.wall()), app.clock.ahead());
    if ahead.as_millis() > 0 {
        return Seen::new("clock", Level::Fail, "was set ahead")
            .detail(format!(
                "was set ahead by {}; nothing is released or expires until it is right; if it is, start the server again",
                span_words(ahead)
            ))
            .fix("timedatectl set-ntp true");
    }
    if back <= CLOCK_BACK {
        return Seen::new("clock", Level::Ok, "runs forward");
    }
    Seen::new("clock", Level::Fail, "was set back")
        .detail(format!(
            "was set back by {}; nothing is released until it is right",
            span_words(back)
        ))
        .fix("timedatectl set-ntp true")
}

async fn migrations(app: &App) -> Seen {
    match app.store.migrations().await {
        Ok((database, binary)) if database == binary => {
            Seen::new("migrations", Level::Ok, "").detail(format!("{database} of {binary}"))
        }
        Ok((database, binary)) => Seen::new("migrations", Level::Warn, "")
            .detail(format!("the database is at {database}, this binary knows {binary}"))
            .fix("run the same version everywhere"),
        Err(error) => Seen::new("migrations", Level::Warn, "").detail(error.to_string()),
    }
}

async fn vendors(app: &App) -> Seen {
    let roots = match connected(app).await {
        Ok(roots) => roots,
        Err(error) => return Seen::new("vendor", Level::Warn, "").detail(error.to_string()),
    };
    let now = app.now();
    let old: Vec<String> = roots
        .iter()
        .filter(|(_, entered)| now.since(*entered) > ROOT_AGE)
        .map(|(name, entered)| format!("{name}: root credential is {} old", span_words(now.since(*entered))))
        .collect();
    match (roots.len(), old.is_empty()) {
        (0, _) => Seen::new("vendor", Level::Warn, "")
            .detail("none is connected, so there are no keys to make")
            .fix("dekeys vendor connect NAME"),
        (_, false) => Seen::new("vendor", Level::Warn, "")
            .detail(old.join(", "))
            .fix("enter a new one: dekeys vendor connect NAME"),
        (connected, true) => Seen::new("vendor", Level::Ok, "").detail(format!("{connected} connected")),
    }
}

/// The vendors that are connected, and since when. While sealed the rows cannot be authenticated; nobody acts on this.
async fn connected(app: &App) -> Result<Vec<(String, Timestamp)>, Error> {
    let mut tx = app.store.read().await?;
    let pins = tx.manifest_pins().await?;
    let mut roots = Vec::with_capacity(pins.len());
    for pin in pins {
        if let Some((root, _)) = tx.current_root(&pin.unverified.vendor).await? {
            roots.push((root.unverified.vendor.to_string(), root.unverified.created));
        }
    }
    Ok(roots)
}

fn facilitator(app: &App) -> Seen {
    match &app.rail {
        None => Seen::new("facilitator", Level::Ok, "").detail("payments are off: nothing with a price can be bought"),
        Some((rail, terms)) => {
            let kind = if rail.simulated() {
                "simulated, no money moves"
            } else {
                "settles"
            };
            Seen::new("facilitator", Level::Ok, "").detail(format!("{} on {}: {kind}", rail.name(), terms.network))
        }
    }
}

/// How far the signed log is behind, if it is not broken anyway.
async fn checkpoint(app: &App, broken: Seen) -> Seen {
    if !broken.holds() || app.is_sealed() {
        return broken;
    }
    match behind(app).await {
        Err(error) => broken.detail(error.to_string()),
        Ok(None) => broken.detail("no checkpoint was signed yet"),
        Ok(Some((size, signed, waiting))) => {
            let age = app.now().since(signed);
            let words = format!("checkpoint {size} signed {} ago", span_words(age));
            if waiting == 0 || age <= CHECKPOINT_AGE {
                return broken.detail(words);
            }
            Seen::new("audit", Level::Warn, "no damage seen")
                .detail(format!("{words}, {waiting} events wait for the next"))
                .fix("look at the log for what keeps the worker from it")
        }
    }
}

/// Leaves under the latest checkpoint, when it was signed, and how many events came later.
async fn behind(app: &App) -> Result<Option<(i64, Timestamp, i64)>, Error> {
    let mut tx = app.store.read().await?;
    let (events, _) = tx.chain_head().await?;
    let latest = tx.outlook(app.now()).await?.checkpoint;
    Ok(latest.map(|(size, signed)| (size, signed, events.saturating_sub(size))))
}

/// What is left to be cleared up, of one kind.
async fn counts(app: &App, name: &'static str, words: &'static str) -> Seen {
    let counts = match app.store.read().await {
        Ok(mut tx) => tx.counts().await,
        Err(error) => Err(error),
    };
    let count = counts.map(|counts| match name {
        "revocation" => counts.stuck_credentials,
        "orphans" => counts.orphans,
        _ => counts.unknown_payments,
    });
    match count {
        Ok(0) => Seen::new(name, Level::Ok, "").detail("nothing is left open"),
        Ok(left) => Seen::new(name, Level::Warn, "")
            .detail(format!("{left} {words}"))
            .fix(if name == "orphans" {
                "dekeys credential orphans"
            } else {
                "dekeys credential ls, dekeys audit tail; dekeys goes on trying"
            }),
        Err(error) => Seen::new(name, Level::Warn, "").detail(error.to_string()),
    }
}
