//! Configuration: defaults, then the file, then the environment, then flags; the later wins. Every value knows
//! where it came from, every key that does not exist is refused, and no secret stands in it: secrets are files.
//!
//! [`KEYS`] has one row for each key; `docs/configuration.md` is made from it.

mod error;
mod keys;
mod layers;
mod places;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;
use url::Url;

pub use error::{ConfigError, ConfigErrors};
pub use keys::{KEYS, Key, reference};
pub use places::{Places, process_env};

use crate::base::time::Ttl;
use crate::model::payment::PaymentRules;
use crate::model::rotation::RotationRules;

/// What the command line gave. `None` leaves the value to the layers below.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// The configuration file; without it `DEKEYS_CONFIG`, else `/etc/dekeys/dekeys.toml` if there is one.
    pub config: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--database-url`
    pub database_url: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--unseal-key-file`
    pub unseal_key_file: Option<PathBuf>,
    /// `--unseal-passphrase-file`
    pub unseal_passphrase_file: Option<PathBuf>,
    /// `--public-url`
    pub public_url: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--set key=value`: any key by its name, as in `("payment.rail", "sim")`.
    pub set: Vec<(String, String)>,
}

/// The whole configuration, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Where agents, prims and people connect.
    pub listen: SocketAddr,
    /// Where the vault is unsealed and sealed.
    pub admin_listen: AdminListen,
    /// `sqlite://` and a path, or `postgres://…`. May hold a password: show it only by [`Config::shown_database_url`].
    pub database_url: String,
    /// The file `database_url` was read from.
    pub database_url_file: Option<PathBuf>,
    /// What dekeys itself writes, other than the database of PostgreSQL.
    pub data_dir: PathBuf,
    /// File with the unseal key.
    pub unseal_key_file: Option<PathBuf>,
    /// File with the unseal passphrase.
    pub unseal_passphrase_file: Option<PathBuf>,
    /// The address by which others reach this instance.
    pub public_url: Option<Url>,
    /// Second place for the latest signed checkpoint of the audit log: a file that is replaced whole.
    pub checkpoint_copy: Option<PathBuf>,
    /// Where is kept what is known of the database outside it; without it `mark` in the data directory.
    pub mark_file: Option<PathBuf>,
    /// Logs.
    pub log: LogConfig,
    /// Payments.
    pub payment: PaymentConfig,
    /// Backups.
    pub backup: BackupConfig,
    /// Private address ranges (`10.1.0.0/16`) that vendors may be in. Only here, never in a manifest.
    pub egress_private: Vec<String>,
    /// How often keys are rotated, and how long the key before may be used.
    pub rotation: RotationRules,
    /// How often each vendor's list of keys is compared with what is on record.
    pub reap_interval: Ttl,
    /// Bounds of the HTTP server.
    pub limits: HttpLimits,
    /// Threads of the runtime; 0 is one for each core.
    pub workers: usize,
}

/// Where the admin surface listens: never reachable from another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminListen {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged: a level, or directives as in `info,dekeys=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Payments over x402.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentConfig {
    /// How payments are settled.
    pub rail: Rail,
    /// The chain, CAIP-2.
    pub network: String,
    /// The token's contract.
    pub asset: String,
    /// The token's EIP-712 name.
    pub asset_name: String,
    /// The token's EIP-712 version.
    pub asset_version: String,
    /// Who is paid; always there unless the rail is off.
    pub pay_to: Option<String>,
    /// How long an authorization to pay may be valid.
    pub max_timeout: Ttl,
    /// The simulated rail's ledger; without it `payments.jsonl` in the data directory.
    pub ledger: Option<PathBuf>,
    /// Where the facilitator is; always there with the rail over HTTP.
    pub facilitator_url: Option<Url>,
    /// What the facilitator knows us by.
    pub facilitator_key_file: Option<PathBuf>,
    /// A node of the chain, which says what became of payments. Its address may hold a key.
    pub rpc_url: Option<Url>,
    /// How careful to be.
    pub rules: PaymentRules,
}

/// Backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupConfig {
    /// Where they go; without it `backups` in the data directory.
    pub folder: Option<PathBuf>,
    /// How often one is made; `None`: by hand alone.
    pub every: Option<Ttl>,
    /// How often the newest is tried; `None`: by hand alone.
    pub verify_every: Option<Ttl>,
    /// How many are kept.
    pub keep: usize,
}

/// How payments are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rail {
    /// Not at all: whatever has a price cannot be bought.
    Off,
    /// Simulated: signatures are checked, no money moves.
    Sim,
    /// A facilitator over HTTP.
    Http,
}

/// Bounds of the HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Longest request body, in bytes.
    pub body: usize,
    /// Longest request head, in bytes.
    pub header: usize,
    /// Longest wait for the head.
    pub header_timeout: Ttl,
    /// Longest wait for the body.
    pub body_timeout: Ttl,
    /// Longest time in which a client takes nothing of what is sent to it.
    pub send_timeout: Ttl,
    /// Longest work on one request.
    pub request_timeout: Ttl,
    /// Time from a forwarded request to the head of the vendor's answer.
    pub forward_timeout: Ttl,
    /// Longest pause in a forwarded body, either way.
    pub forward_idle: Ttl,
    /// Connections open at once.
    pub max_connections: usize,
}

/// The configuration and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One row for each key, in the order of [`KEYS`].
    pub origins: Vec<Origin>,
}

/// One value as `config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The key.
    pub key: &'static str,
    /// The value; a password in an address is masked, an absent value is empty.
    pub value: String,
    /// `default`, `file /etc/dekeys/dekeys.toml:3`, `environment DEKEYS_LISTEN`, `flag --listen`, `systemd credential`.
    pub origin: String,
}

/// Loads the configuration of this machine. `env` gives environment variables: [`process_env`].
///
/// # Errors
/// Everything that is wrong, each with its origin and fix.
pub fn load(flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigErrors> {
    load_from(flags, env, &Places::system())
}

/// Loads the configuration with other default places than this machine's: for tests.
///
/// # Errors
/// As [`load`].
pub fn load_from(flags: &Flags, env: &dyn Fn(&str) -> Option<String>, places: &Places) -> Result<Loaded, ConfigErrors> {
    layers::merge(flags, env, places)
}

impl Config {
    /// The defaults, with everything kept under `data_dir`.
    #[must_use]
    pub fn default_in(data_dir: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8402)),
            admin_listen: AdminListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8403))),
            database_url: format!("sqlite://{}", data_dir.join("dekeys.db").display()),
            database_url_file: None,
            data_dir,
            unseal_key_file: None,
            unseal_passphrase_file: None,
            public_url: None,
            checkpoint_copy: None,
            mark_file: None,
            log: LogConfig {
                format: LogFormat::Auto,
                level: "info".to_owned(),
            },
            payment: PaymentConfig::default(),
            backup: BackupConfig::default(),
            egress_private: Vec::new(),
            rotation: RotationRules::default(),
            reap_interval: Ttl::from_mins(5),
            limits: HttpLimits::default(),
            workers: 0,
        }
    }

    /// The simulated rail's ledger, also when no path was given.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        let given = self.payment.ledger.clone();
        given.unwrap_or_else(|| self.data_dir.join("payments.jsonl"))
    }

    /// The database's address without its password.
    #[must_use]
    pub fn shown_database_url(&self) -> String {
        value::mask(&self.database_url)
    }
}

impl Default for PaymentConfig {
    /// Off; the USDC token of the Base Sepolia test network.
    fn default() -> Self {
        Self {
            rail: Rail::Off,
            network: "eip155:84532".to_owned(),
            asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".to_owned(),
            asset_name: "USDC".to_owned(),
            asset_version: "2".to_owned(),
            pay_to: None,
            max_timeout: Ttl::from_secs(120),
            ledger: None,
            facilitator_url: None,
            facilitator_key_file: None,
            rpc_url: None,
            rules: PaymentRules::default(),
        }
    }
}

impl Default for BackupConfig {
    /// By hand; tried once a week once there is one.
    fn default() -> Self {
        Self {
            folder: None,
            every: None,
            verify_every: Some(Ttl::from_mins(7 * 24 * 60)),
            keep: 14,
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body: 256 * 1024,
            header: 16 * 1024,
            header_timeout: Ttl::from_secs(10),
            body_timeout: Ttl::from_secs(30),
            send_timeout: Ttl::from_mins(5),
            request_timeout: Ttl::from_secs(60),
            forward_timeout: Ttl::from_mins(10),
            forward_idle: Ttl::from_mins(5),
            max_connections: 4096,
        }
    }
}

impl fmt::Debug for Config {
    /// Every key and value as `config show` has it, so that no password gets into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = KEYS.iter().map(|key| (key.name, (key.show)(self)));
        f.debug_map().entries(rows).finish()
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl LogFormat {
    /// The word of the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Rail {
    /// The word of the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sim => "sim",
            Self::Http => "http",
        }
    }
}
