//! The verbs: the only place that joins the store and the engines. One file a verb or a noun with its verbs;
//! each takes the [`App`] and a [`Context`](caller::Context) that says who asks.
//!
//! Invariant: every change and every release passes a transaction that also appends its event.

mod allowance;
pub mod approve;
mod ask;
pub mod audit;
pub mod backup;
mod book;
pub mod breaker;
mod budget;
pub mod buy;
pub mod caller;
pub mod checkpoint;
mod confirm;
pub mod connect;
pub mod control;
mod cost;
pub mod credential;
mod credit;
pub mod decision;
pub mod deliver;
mod demand;
pub mod discovery;
pub mod end;
pub mod enroll;
pub mod error;
pub mod event;
pub mod expire;
pub mod feed;
pub mod flow;
pub mod follow;
pub mod forward;
mod gather;
pub mod grant;
pub mod health;
pub mod incarnation;
pub mod init;
pub mod introspect;
mod issue;
pub mod keys;
pub mod lease;
mod log_key;
mod making;
pub mod measure;
pub mod offer;
pub mod orphan;
mod owner;
mod passage;
pub mod payments;
mod pool;
mod prepaid;
pub mod propose;
pub mod provision;
pub mod purchase;
pub mod reap;
pub mod receipt;
pub mod reconcile;
pub mod record;
pub mod recover;
pub mod report;
pub mod reseal;
pub mod resolve;
pub mod revoke_leases;
pub mod revoke_token;
mod root_rotation;
pub mod rotate;
pub mod rotate_root;
mod rotation;
pub mod schedule;
mod search;
pub mod session;
pub mod shares;
mod sign_in;
pub mod status;
pub mod stream;
mod trust;
pub mod unseal;
mod unspent;
pub mod usage;
pub mod ways;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use parking_lot::Mutex;

use crate::audit::{LogKey, LogPublic, LogTerm};
use crate::base::egress::Egress;
use crate::base::id::base64url;
use crate::base::random::{self, Random};
use crate::base::time::{Clock, Timestamp, Ttl};
use crate::metrics::Metrics;
use crate::model::instance::Instance;
use crate::model::payment::PaymentRules;
use crate::model::rotation::RotationRules;
use crate::payment::{PaymentRail, Terms};
use crate::store::Store;
use crate::store::writer::Writer;
use crate::token::{RootKeys, Verifier};
use crate::vault::{Keyring, Vault};
use crate::vendor::Logins;
use backup::Backups;
use breaker::Breakers;
use control::Control;
use decision::Decisions;
use error::Error;
use flow::Flows;
use incarnation::{Mark, Standing};
use session::Sessions;
use shares::Gathered;
use stream::Streams;
use unseal::Guesses;

/// Everything a verb needs. Built by `setup` alone; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
    opened: ArcSwapOption<Opened>,
    control: Control,
    breakers: Breakers,
    decisions: Decisions,
    sessions: Sessions,
    flows: Flows,
    streams: Streams,
    guesses: Guesses,
    gathered: Gathered,
    log_broken: AtomicBool,
    started: Timestamp,
    sealing: Mutex<Option<Sealing>>,
    unsealed: Mutex<Option<Timestamp>>,
    wraps_allowed: AtomicU64,
    leases_changed: Notify,
    work: Notify,
    webhooks: Notify,
    process: String,
    logins: Logins,
    metrics: Arc<Metrics>,
    standing: ArcSwapOption<Standing>,
    marked: Mutex<Option<Mark>>,
}

/// Who sealed the vault, when and why.
#[derive(Debug, Clone)]
pub struct Sealing {
    /// When.
    pub at: Timestamp,
    /// The operator's name.
    pub by: String,
    /// Why, as they said.
    pub reason: Option<String>,
}

/// What exists only while the vault is unsealed.
pub struct Opened {
    /// The instance, its row authenticated.
    pub instance: Instance,
    /// The keys that sign tokens.
    pub roots: RootKeys,
    /// Checks tokens against their public halves.
    pub verifier: Verifier,
    /// The key that signs checkpoints and promises.
    pub log: LogKey,
    /// Its public half.
    pub log_public: LogPublic,
    /// The log key before and when it was retired, while both sign.
    pub log_before: Option<(LogKey, Timestamp)>,
    /// All log keys there ever were, each with its time.
    pub log_terms: Vec<LogTerm>,
    /// All of dekeys' own signing keys as they stand in the database.
    pub signing: Vec<keys::SigningKeyView>,
}

/// What an [`App`] is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The batch writer over the same database.
    pub writer: Writer,
    /// The vault; sealed until somebody opens it.
    pub vault: Vault,
    /// The only way out.
    pub egress: Egress,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where payments are settled; `None` sells nothing.
    pub rail: Option<(Arc<dyn PaymentRail>, Terms)>,
    /// How careful to be with money.
    pub payment_rules: PaymentRules,
    /// How often keys are rotated.
    pub rotation_rules: RotationRules,
    /// How often each vendor's list is compared with what is on record.
    pub reap_interval: Ttl,
    /// The instance row as stored; believed only after [`App::opened`] checked it.
    pub instance: Instance,
    /// Where each checkpoint is copied to, outside the database.
    pub checkpoint_copy: Option<std::path::PathBuf>,
    /// What is known of the database outside it: a database that does not fit it is a copy, or was rolled back. `None`
    /// looks for neither.
    pub mark: Option<std::path::PathBuf>,
    /// Where backups go, and how often they are made.
    pub backups: Backups,
    /// The disk whose fullness is told: where the database file lies, or the data directory.
    pub disk: Option<std::path::PathBuf>,
    /// How this instance is reached, for addresses in answers.
    pub public_url: String,
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl App {
    /// Puts the parts together; nothing is opened yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let logins = Logins::new(Arc::clone(&parts.clock));
        let process = base64url(&random::bytes::<16>(parts.random.as_ref()));
        let metrics = measure::of(&parts);
        let started = parts.clock.now();
        Self(Arc::new(Inner {
            parts,
            logins,
            metrics,
            opened: ArcSwapOption::empty(),
            control: Control::default(),
            breakers: Breakers::default(),
            decisions: Decisions::default(),
            sessions: Sessions::default(),
            flows: Flows::default(),
            streams: Streams::default(),
            guesses: Guesses::default(),
            gathered: Gathered::default(),
            log_broken: AtomicBool::new(false),
            started,
            sealing: Mutex::default(),
            unsealed: Mutex::default(),
            wraps_allowed: AtomicU64::new(0),
            leases_changed: Notify::new(),
            work: Notify::new(),
            webhooks: Notify::new(),
            process,
            standing: ArcSwapOption::empty(),
            marked: Mutex::default(),
        }))
    }

    /// What exists only while the vault is unsealed.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn opened(&self) -> Result<Arc<Opened>, Error> {
        self.0.opened.load_full().ok_or(Error::Sealed)
    }

    /// Whether nothing that needs a key works: also while an unseal has still to take up the last process's work.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.opened.load().is_none()
    }

    /// When this process's part began.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// Who sealed the vault, if somebody did since the start.
    #[must_use]
    pub fn sealing(&self) -> Option<Sealing> {
        self.0.sealing.lock().clone()
    }

    /// Since when the vault is open.
    #[must_use]
    pub fn unsealed_since(&self) -> Option<Timestamp> {
        self.0.unsealed.lock().filter(|_| !self.is_sealed())
    }

    fn unsealed_at(&self, at: Timestamp) {
        *self.0.unsealed.lock() = Some(at);
    }

    fn sealed_by(&self, sealing: Sealing) {
        *self.0.sealing.lock() = Some(sealing);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Refuses what must not happen while the clock stands behind what was seen before, or was set far ahead: nothing
    /// would expire in time.
    ///
    /// # Errors
    /// [`Error::ClockSetBack`]; [`Error::ClockSetAhead`].
    pub fn refuse_wrong_clock(&self) -> Result<(), Error> {
        if self.now().since(self.clock.wall()) > health::CLOCK_BACK {
            return Err(Error::ClockSetBack);
        }
        if self.clock.ahead().as_millis() > 0 {
            return Err(Error::ClockSetAhead);
        }
        Ok(())
    }

    /// Whether real money and real vendors are involved.
    #[must_use]
    pub fn livemode(&self) -> bool {
        self.instance.mode == crate::model::instance::Mode::Live
    }

    /// A name of this process, new each time it starts.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.0.process
    }

    /// Completes when somebody asked for a delivery.
    pub async fn webhooks_asked(&self) {
        self.0.webhooks.notified().await;
    }

    /// Completes when there may be work before its time: a key to end, a payment to look for.
    pub async fn work_arrives(&self) {
        self.0.work.notified().await;
    }

    /// Whether the log was found damaged; then nothing is released.
    #[must_use]
    pub fn log_is_broken(&self) -> bool {
        self.0.log_broken.load(Ordering::Relaxed)
    }

    fn open_with(&self, opened: Option<Opened>) {
        self.0.opened.store(opened.map(Arc::new));
        self.0.control.clear();
        self.0.decisions.clear();
        self.0.breakers.clear();
        if self.0.opened.load().is_none() {
            self.0.sessions.clear();
            self.0.streams.cut_all();
            self.0.logins.clear();
            self.0.flows.end();
        } else {
            self.0.flows.begin();
        }
    }

    /// What is counted and timed.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Tokens that root credentials were swapped for.
    fn logins(&self) -> &Logins {
        &self.0.logins
    }

    fn control(&self) -> &Control {
        &self.0.control
    }

    /// Which vendors are left alone for a while.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.0.breakers
    }

    fn decisions(&self) -> &Decisions {
        &self.0.decisions
    }

    fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    fn flows(&self) -> &Flows {
        &self.0.flows
    }

    /// Requests that are being forwarded just now.
    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    fn gathered(&self) -> &Gathered {
        &self.0.gathered
    }

    fn guesses(&self) -> &Guesses {
        &self.0.guesses
    }

    fn mark_log_broken(&self) {
        self.0.log_broken.store(true, Ordering::Relaxed);
    }

    fn allow_wraps(&self, until: u64) {
        self.vault.allow_wraps(until);
        self.0.wraps_allowed.store(until, Ordering::Relaxed);
    }

    /// Seals with the newest key of `keyring` from now on, within the wraps that the store promised for it.
    fn adopt(&self, keyring: &Keyring, wraps: std::ops::Range<u64>) -> Result<(), Error> {
        self.vault.adopt(keyring, &wraps)?;
        self.0.wraps_allowed.store(wraps.end, Ordering::Relaxed);
        Ok(())
    }

    fn wraps_left(&self) -> u64 {
        self.0
            .wraps_allowed
            .load(Ordering::Relaxed)
            .saturating_sub(self.vault.wraps())
    }

    fn announce_lease(&self) {
        self.0.leases_changed.notify_waiters();
    }

    /// Another request is having a key made: woken when it is there, and looking again anyway for other instances.
    async fn lease_changes(&self) {
        let changed = self.0.leases_changed.notified();
        let _woken = tokio::time::timeout(std::time::Duration::from_millis(50), changed).await;
    }

    /// How the history of this database stands; `None` before the first unseal.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        self.0.standing.load().as_deref().copied()
    }

    fn stand(&self, standing: Standing) {
        self.0.standing.store(Some(Arc::new(standing)));
    }

    fn keep_mark(&self, mark: Mark) {
        *self.0.marked.lock() = Some(mark);
    }

    /// The mark with a later head, if it is later.
    fn mark_with(&self, head: (i64, [u8; 32])) -> Option<Mark> {
        let incarnation = self.standing()?.id;
        let mut marked = self.0.marked.lock();
        let next = marked.as_ref()?.at(incarnation, head)?;
        *marked = Some(next.clone());
        Some(next)
    }

    fn marked_head(&self) -> Option<(i64, [u8; 32])> {
        self.0.marked.lock().as_ref().map(Mark::head)
    }

    fn announce_webhooks(&self) {
        self.0.webhooks.notify_one();
    }

    fn announce_work(&self) {
        self.0.work.notify_one();
    }
}
