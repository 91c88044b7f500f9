//! The composition root: the only place that puts store, engines, verbs and surfaces together.

pub mod demo;
pub mod holder;
pub mod lint;
pub mod look;
mod rail;
pub mod restore;
pub mod server;
pub mod stage;

use std::path::Path;
use std::sync::Arc;

use crate::base::egress::{Egress, EgressError, Reach};
use crate::base::money::Money;
use crate::base::random::{OsRandom, Random};
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::time::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::model::instance::{Instance, Mode};
use crate::model::principal::PublicKey;
use crate::payment::{self, PaymentError, SimError};
use crate::service::backup::Backups;
use crate::service::error::Error;
use crate::service::init::Init;
use crate::service::{App, Parts, incarnation, unseal};
use crate::store::writer::Writer;
use crate::store::{Store, StoreError};
pub use crate::vault::UnsealKey;
use crate::vault::{Vault, VaultError};

/// Why dekeys does not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `dekeys init` was not run on this database.
    #[error("this database is not initialised")]
    NotInitialized,
    /// The database.
    #[error(transparent)]
    Store(StoreError),
    /// A verb failed.
    #[error(transparent)]
    Service(#[from] Error),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The outgoing client.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The payment terms.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The simulated rail's ledger.
    #[error(transparent)]
    Ledger(#[from] SimError),
    /// Simulated money in a live instance.
    #[error("a live instance does not take simulated payments; set `payment.rail` to `http` or `off`")]
    SimulatedMoney,
    /// A test instance asked for real money.
    #[error("a test instance does not take real money: `{0}` is not known as a test network")]
    RealMoney(String),
    /// Another dekeys has this SQLite database open.
    #[error("another dekeys runs on `{path}`")]
    InUse {
        /// The database.
        path: String,
    },
    /// Another program holds the write lock of a SQLite database.
    #[error("the database `{path}` is locked by another program")]
    Locked {
        /// The database.
        path: String,
    },
    /// The database was written by a later dekeys.
    #[error("the database is newer than this binary")]
    Newer {
        /// The database's latest migration.
        database: i64,
        /// The latest this binary knows.
        binary: i64,
    },
    /// The port is taken.
    #[error("{address} is taken by another program")]
    PortInUse {
        /// The address.
        address: String,
    },
    /// The address cannot be listened on, and nobody else has it.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The database that is to be filled holds something.
    #[error("there is an instance at `{database}` already; nothing was changed")]
    NotEmpty {
        /// The database.
        database: String,
    },
    /// What was copied is not what is there.
    #[error("the copy differs from the original; throw it away and try again")]
    Differs,
    /// A file.
    #[error("cannot {what} `{path}`: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A step of the demo or of a test instance's preparation failed.
    #[error("step `{step}` failed: {why}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        why: String,
    },
}

impl From<StoreError> for SetupError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::MigrationMismatch { database, binary } => Self::Newer { database, binary },
            other => Self::Store(other),
        }
    }
}

impl SetupError {
    /// Says which file is locked, if that is what is wrong.
    fn of(config: &Config, error: StoreError) -> Self {
        let path = look::sqlite_file(config);
        match (error, path) {
            (StoreError::Busy | StoreError::Conflict(_), Some(path)) => Self::Locked {
                path: path.display().to_string(),
            },
            (other, _) => other.into(),
        }
    }

    fn file(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File {
            what,
            path: path.display().to_string(),
            source,
        }
    }

    /// The problem code that explains it, where there is one.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotInitialized => "not_initialized",
            Self::Newer { .. } => "migration_mismatch",
            Self::Store(StoreError::Full) => "database_full",
            Self::InUse { .. } | Self::Locked { .. } | Self::Store(StoreError::Busy) => "database_locked",
            Self::PortInUse { .. } => "port_in_use",
            Self::NotEmpty { .. } | Self::Service(Error::AlreadyInitialized) => "already_initialized",
            Self::Service(Error::BackupInvalid(_)) | Self::Differs => "backup_invalid",
            Self::Service(Error::BackupFailed(_)) => "backup_failed",
            Self::Service(Error::UnsealKeyWrong) | Self::Vault(_) => "unseal_key_invalid",
            Self::Service(Error::LogBroken | Error::Forged(_)) => "integrity_failed",
            Self::Service(Error::Invalid { .. }) => "invalid_request",
            Self::SimulatedMoney | Self::RealMoney(_) | Self::Payment(_) | Self::Listen { .. } => "config_invalid",
            _ => "internal",
        }
    }
}

/// Makes the instance on the configured database.
///
/// # Errors
/// [`SetupError`]; nothing is changed then.
pub async fn init(config: &Config, init: Init, key: UnsealKey) -> Result<Instance, SetupError> {
    prepare_data_dir(&config.data_dir)?;
    let store = Store::open(&config.database_url).await?;
    store.migrate().await?;
    let instance = crate::service::init::init(&store, init, key, SystemClock::wall(), Arc::new(OsRandom)).await;
    store.close().await;
    Ok(instance?)
}

/// A directory only its owner can read.
fn prepare_data_dir(path: &Path) -> Result<(), SetupError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| SetupError::file("make the directory", path, source))
}

/// Puts an [`App`] together over the configured database, by the machine's clock unless another is given. It is sealed.
///
/// # Errors
/// [`SetupError::NotInitialized`], and what the parts say.
pub async fn open(config: &Config, public_url: String, clock: Option<Arc<dyn Clock>>) -> Result<App, SetupError> {
    // A mistyped path must not leave an empty database behind.
    let file = config.database_url.strip_prefix("sqlite://").map(Path::new);
    if file.is_some_and(|file| !file.exists()) {
        return Err(SetupError::NotInitialized);
    }
    prepare_data_dir(&config.data_dir)?;
    // A backup that was being tried when the last process ended.
    let _left = std::fs::remove_dir_all(config.data_dir.join("verify"));
    let locked = |error| SetupError::of(config, error);
    let store = Store::open(&config.database_url).await.map_err(locked)?;
    store.migrate().await.map_err(locked)?;
    let mut tx = store.read().await?;
    let instance = tx.instance().await?.ok_or(SetupError::NotInitialized)?.unverified;
    let floor = tx.high_water().await?;
    drop(tx);
    let clock = clock.unwrap_or_else(|| Arc::new(SystemClock::starting_at(floor)));
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let egress = Egress::new(reach(config, &instance)?)?;
    let parts = Parts {
        rail: rail::open(config, &instance, &egress, &clock, &random)?,
        writer: Writer::spawn(store.clone(), Arc::clone(&clock)),
        vault: Vault::new(instance.id, Arc::clone(&random)),
        egress,
        payment_rules: config.payment.rules,
        rotation_rules: config.rotation,
        reap_interval: config.reap_interval,
        checkpoint_copy: Some(
            config
                .checkpoint_copy
                .clone()
                .unwrap_or_else(|| config.data_dir.join("checkpoint")),
        ),
        mark: Some(mark(config)),
        backups: backups(config),
        disk: Some(file.and_then(Path::parent).unwrap_or(&config.data_dir).to_owned()),
        store,
        clock,
        random,
        instance,
        public_url,
    };
    let app = App::new(parts);
    incarnation::expect(&app).await?;
    Ok(app)
}

/// Where the mark of the configured database is.
fn mark(config: &Config) -> std::path::PathBuf {
    let given = config.mark_file.clone();
    given.unwrap_or_else(|| config.data_dir.join("mark"))
}

fn backups(config: &Config) -> Backups {
    let folder = config.backup.folder.clone();
    Backups {
        folder: folder.unwrap_or_else(|| config.data_dir.join("backups")),
        every: config.backup.every,
        verify_every: config.backup.verify_every,
        keep: config.backup.keep,
        scratch: config.data_dir.join("verify"),
    }
}

fn reach(config: &Config, instance: &Instance) -> Result<Reach, SetupError> {
    if instance.mode == Mode::Test {
        return Ok(Reach::Loopback);
    }
    let mut private_allowed = Vec::with_capacity(config.egress_private.len());
    for range in &config.egress_private {
        let network = range.parse().map_err(|_| SetupError::Step {
            step: "egress_private",
            why: format!("`{range}` is not a network"),
        })?;
        private_allowed.push(network);
    }
    Ok(Reach::Global { private_allowed })
}

/// Opens the vault with the configured key source, if there is one. Answers whether there was.
///
/// # Errors
/// [`SetupError::File`], and what unsealing says.
pub async fn unseal_from(app: &App, config: &Config) -> Result<bool, SetupError> {
    let key = match (&config.unseal_key_file, &config.unseal_passphrase_file) {
        (Some(path), _) => UnsealKey::parse_key_file(&secret_file(path)?)?,
        (None, Some(path)) => UnsealKey::Passphrase(secret_file(path)?),
        (None, None) => return Ok(false),
    };
    unseal::unseal(app, key).await.map_err(|error| match error {
        Error::Busy => SetupError::of(config, StoreError::Busy),
        other => other.into(),
    })?;
    Ok(true)
}

fn secret_file(path: &Path) -> Result<SecretText, SetupError> {
    let text = std::fs::read_to_string(path).map_err(|source| SetupError::file("read", path, source))?;
    let text = zeroize::Zeroizing::new(text);
    Ok(SecretText::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// An unseal key out of a passphrase.
#[must_use]
pub const fn passphrase(text: SecretText) -> UnsealKey {
    UnsealKey::Passphrase(text)
}

/// An unseal key out of a key file's text.
///
/// # Errors
/// [`SetupError::Vault`].
pub fn key_file(text: &SecretText) -> Result<UnsealKey, SetupError> {
    Ok(UnsealKey::parse_key_file(text)?)
}

/// An unseal key out of enough shares, one a line.
///
/// # Errors
/// [`SetupError::Vault`].
pub fn shares(text: &SecretText) -> Result<UnsealKey, SetupError> {
    Ok(UnsealKey::parse_shares(text)?)
}

/// Signs a payment of at most `most` for what a 402 asks for, with a test wallet's key: the value of
/// `PAYMENT-SIGNATURE`. It is good for a grant asked for with this `body` and `signer` alone; whoever is neither signer
/// nor named in the body cannot be told from a thief, so then it is bound to nothing.
///
/// # Errors
/// Why it cannot be paid, in words.
pub fn pay(
    wallet: &SecretBytes,
    required: &serde_json::Value,
    most: Money,
    (body, signer): (&serde_json::Value, Option<PublicKey>),
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, String> {
    let holder = body.get("public_key").and_then(serde_json::Value::as_str);
    let holder = holder.and_then(|key| key.parse::<PublicKey>().ok());
    let signed = if signer.or(holder).is_some() {
        let request = payment::request_digest("POST", "/v1/grants", body.to_string().as_bytes());
        let request = payment::signed_request(request, signer, holder);
        payment::sign_bound(wallet, required, most, request, now, random)
    } else {
        payment::sign_exact(wallet, required, most, None, now, random)
    };
    signed.map_err(|error| error.to_string())
}
