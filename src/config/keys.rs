//! The table of keys: one row each, for reading, showing and documenting.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use url::Url;

use super::Config;
use super::value::{
    Bad, account, admin_listen, at_least_one, count, cut, database_url, days, days_or_off, log_format, log_level,
    network, number, path, payment_timeout, public_url, rail, ranges, rotation, rpc_url, show_size, size, socket, span,
    words,
};
use crate::base::time::Ttl;
use crate::model::rotation::RotationRules;

/// One key.
pub struct Key {
    /// Its name in the file: `payment.rail` is `rail` under `[payment]`.
    pub name: &'static str,
    /// Its flag; keys without one are set by `--set name=value`.
    pub flag: Option<&'static str>,
    /// The default, in words.
    pub default: &'static str,
    /// What it is.
    pub meaning: &'static str,
    /// Its value as it may be shown; empty when it is not set.
    pub show: fn(&Config) -> String,
    pub(super) set: fn(&mut Config, &str) -> Result<(), Bad>,
}

impl Key {
    /// Its environment variable: `payment.rail` is `DEKEYS_PAYMENT_RAIL`.
    #[must_use]
    pub fn env(&self) -> String {
        format!("DEKEYS_{}", self.name.to_ascii_uppercase().replace('.', "_"))
    }
}

/// Every key. `data_dir` comes first, since defaults depend on it.
pub const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        flag: Some("--data-dir"),
        default: "`/var/lib/dekeys` if it is writable, else `$XDG_DATA_HOME/dekeys` or `~/.local/share/dekeys`",
        meaning: "Where dekeys keeps its files.",
        show: |config| config.data_dir.display().to_string(),
        set: |config, text| {
            *config = Config::default_in(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "listen",
        flag: Some("--listen"),
        default: "`127.0.0.1:8402`",
        meaning: "Address and port for agents, prims and people.",
        show: |config| config.listen.to_string(),
        set: |config, text| {
            config.listen = socket(text)?;
            Ok(())
        },
    },
    Key {
        name: "admin_listen",
        flag: Some("--admin-listen"),
        default: "`127.0.0.1:8403`",
        meaning: "Where the vault is unsealed and sealed: a loopback address, or `unix:` and a path.",
        show: |config| config.admin_listen.to_string(),
        set: |config, text| {
            config.admin_listen = admin_listen(text)?;
            Ok(())
        },
    },
    Key {
        name: "database_url",
        flag: Some("--database-url"),
        default: "`sqlite://` and `dekeys.db` in `data_dir`",
        meaning: "`sqlite://` and a path, or `postgres://…`. Shown without its password.",
        show: |config| config.shown_database_url(),
        set: |config, text| {
            config.database_url = database_url(text)?;
            Ok(())
        },
    },
    Key {
        name: "database_url_file",
        flag: None,
        default: "",
        meaning: "File that holds `database_url`, for addresses with a password.",
        show: |config| optional(config.database_url_file.as_ref()),
        set: |config, text| from_file(config, text),
    },
    Key {
        name: "unseal_key_file",
        flag: Some("--unseal-key-file"),
        default: "systemd's credential `unseal-key`, if there is one",
        meaning: "File with the unseal key; the vault is unsealed at start. Without it a person unseals.",
        show: |config| optional(config.unseal_key_file.as_ref()),
        set: |config, text| {
            config.unseal_key_file = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "unseal_passphrase_file",
        flag: Some("--unseal-passphrase-file"),
        default: "",
        meaning: "File with the unseal passphrase, instead of a key.",
        show: |config| optional(config.unseal_passphrase_file.as_ref()),
        set: |config, text| {
            config.unseal_passphrase_file = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "public_url",
        flag: Some("--public-url"),
        default: "",
        meaning: "The address by which others reach this instance, as in `https://dekeys.example.org`.",
        show: |config| optional_url(config.public_url.as_ref()),
        set: |config, text| {
            config.public_url = Some(public_url(text)?);
            Ok(())
        },
    },
    Key {
        name: "checkpoint_copy",
        flag: None,
        default: "`checkpoint` in `data_dir`",
        meaning: "Second place for the latest signed checkpoint of the audit log: a file that is replaced whole. Best on another disk or machine.",
        show: |config| optional(config.checkpoint_copy.as_ref()),
        set: |config, text| {
            config.checkpoint_copy = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "mark_file",
        flag: None,
        default: "`mark` in `data_dir`",
        meaning: "What is known of the database outside it: a database that does not fit it is a copy or was rolled back, and is reconciled first. Each instance needs its own. Best on another disk than the database, and one that outlives the container.",
        show: |config| optional(config.mark_file.as_ref()),
        set: |config, text| {
            config.mark_file = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "egress_private",
        flag: None,
        default: "",
        meaning: "Private address ranges that vendors may be in: a list in the file, separated by commas elsewhere.",
        show: |config| config.egress_private.join(","),
        set: |config, text| {
            config.egress_private = ranges(text)?;
            Ok(())
        },
    },
    Key {
        name: "reap_interval",
        flag: None,
        default: "`5m`",
        meaning: "How often each vendor's list of keys is compared with what is on record, 1s to 1h.",
        show: |config| config.reap_interval.to_string(),
        set: |config, text| {
            config.reap_interval = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "workers",
        flag: None,
        default: "`0`",
        meaning: "Threads of the runtime, up to 1024; 0 is one for each core.",
        show: |config| config.workers.to_string(),
        set: |config, text| {
            config.workers = number(text, 1024)?;
            Ok(())
        },
    },
    Key {
        name: "log.format",
        flag: Some("--log-format"),
        default: "`auto`",
        meaning: "`auto` (text on a terminal, JSON otherwise), `text` or `json`.",
        show: |config| config.log.format.as_str().to_owned(),
        set: |config, text| {
            config.log.format = log_format(text)?;
            Ok(())
        },
    },
    Key {
        name: "log.level",
        flag: Some("--log-level"),
        default: "`info`",
        meaning: "`error`, `warn`, `info`, `debug`, `trace`, or directives as in `info,dekeys=debug`.",
        show: |config| config.log.level.clone(),
        set: |config, text| {
            config.log.level = log_level(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.rail",
        flag: None,
        default: "`off`",
        meaning: "`off`; `sim`: signatures are checked, no money moves; or `http`: a facilitator settles.",
        show: |config| config.payment.rail.as_str().to_owned(),
        set: |config, text| {
            config.payment.rail = rail(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.network",
        flag: None,
        default: "`eip155:84532`",
        meaning: "The chain, CAIP-2.",
        show: |config| config.payment.network.clone(),
        set: |config, text| {
            config.payment.network = network(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.asset",
        flag: None,
        default: "`0x036CbD53842c5426634e7929541eC2318f3dCF7e`",
        meaning: "The token's contract.",
        show: |config| config.payment.asset.clone(),
        set: |config, text| {
            config.payment.asset = account(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.asset_name",
        flag: None,
        default: "`USDC`",
        meaning: "The token's EIP-712 name, as its contract has it.",
        show: |config| config.payment.asset_name.clone(),
        set: |config, text| {
            config.payment.asset_name = words(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.asset_version",
        flag: None,
        default: "`2`",
        meaning: "The token's EIP-712 version.",
        show: |config| config.payment.asset_version.clone(),
        set: |config, text| {
            config.payment.asset_version = words(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.pay_to",
        flag: None,
        default: "",
        meaning: "The account that is paid. Must be set unless the rail is off; one account for one instance.",
        show: |config| config.payment.pay_to.clone().unwrap_or_default(),
        set: |config, text| {
            config.payment.pay_to = Some(account(text)?);
            Ok(())
        },
    },
    Key {
        name: "payment.max_timeout",
        flag: None,
        default: "`2m`",
        meaning: "How long an authorization to pay may be valid, 60s to 1h.",
        show: |config| config.payment.max_timeout.to_string(),
        set: |config, text| {
            config.payment.max_timeout = payment_timeout(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.ledger",
        flag: None,
        default: "`payments.jsonl` in `data_dir`",
        meaning: "The simulated rail's ledger.",
        show: |config| optional(config.payment.ledger.as_ref()),
        set: |config, text| {
            config.payment.ledger = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "payment.facilitator_url",
        flag: None,
        default: "",
        meaning: "Where the facilitator is, for the rail `http`: what stands before `/verify` and `/settle`.",
        show: |config| optional_url(config.payment.facilitator_url.as_ref()),
        set: |config, text| {
            config.payment.facilitator_url = Some(public_url(text)?);
            Ok(())
        },
    },
    Key {
        name: "payment.facilitator_key_file",
        flag: None,
        default: "",
        meaning: "What the facilitator knows us by: a file with one line `Header: value`, or with the JSON of a Coinbase API key (Ed25519), which signs each request.",
        show: |config| optional(config.payment.facilitator_key_file.as_ref()),
        set: |config, text| {
            config.payment.facilitator_key_file = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "payment.rpc_url",
        flag: None,
        default: "",
        meaning: "A node of the chain (JSON-RPC), for the rail `http`: it says what became of payments, and no facilitator is believed without it. Shown without path and query, where providers put a key.",
        show: |config| shown_origin(config.payment.rpc_url.as_ref()),
        set: |config, text| {
            config.payment.rpc_url = Some(rpc_url(text)?);
            Ok(())
        },
    },
    Key {
        name: "payment.pay_within",
        flag: None,
        default: "`1day`",
        meaning: "How long a grant that people approved waits for its payment, 1s to 30d.",
        show: |config| config.payment.rules.pay_within.to_string(),
        set: |config, text| {
            config.payment.rules.pay_within = days(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.trusted_after",
        flag: None,
        default: "`1`",
        meaning: "How often a payer must have paid before keys are made for it ahead of the payment, up to 1000; until then it pays first. 0 trusts everybody.",
        show: |config| config.payment.rules.trusted_after.to_string(),
        set: |config, text| {
            config.payment.rules.trusted_after = count(text, 1000)?;
            Ok(())
        },
    },
    Key {
        name: "payment.strike",
        flag: None,
        default: "`7days`",
        meaning: "How long a payer pays first after its payment was refused when its keys had been made, 1s to 30d.",
        show: |config| config.payment.rules.strike.to_string(),
        set: |config, text| {
            config.payment.rules.strike = days(text)?;
            Ok(())
        },
    },
    Key {
        name: "payment.held_keys",
        flag: None,
        default: "`50`",
        meaning: "Most keys at one vendor, in 24 hours, that are held unpaid or were made in vain, up to 1000000. Above it everybody pays first.",
        show: |config| config.payment.rules.held_keys.to_string(),
        set: |config, text| {
            config.payment.rules.held_keys = count(text, 1_000_000)?;
            Ok(())
        },
    },
    Key {
        name: "rotation.every",
        flag: None,
        default: "`30days`",
        meaning: "How often keys that are shared, and root credentials whose vendor can, are rotated, ±10 %, 1m to 90d. A policy or a manifest may say otherwise.",
        show: |config| config.rotation.every.to_string(),
        set: |config, text| {
            config.rotation.every = rotation(text, RotationRules::SHORTEST, RotationRules::LONGEST)?;
            Ok(())
        },
    },
    Key {
        name: "rotation.grace",
        flag: None,
        default: "`15m`",
        meaning: "How long requests may go on with the key before, 0s to 24h.",
        show: |config| config.rotation.grace.to_string(),
        set: |config, text| {
            config.rotation.grace = rotation(text, Ttl::default(), RotationRules::MOST_GRACE)?;
            Ok(())
        },
    },
    Key {
        name: "backup.folder",
        flag: None,
        default: "`backups` in `data_dir`",
        meaning: "Where backups go. Best on another disk or machine than the database.",
        show: |config| optional(config.backup.folder.as_ref()),
        set: |config, text| {
            config.backup.folder = Some(path(text)?);
            Ok(())
        },
    },
    Key {
        name: "backup.every",
        flag: None,
        default: "`off`",
        meaning: "How often a backup is made, 1s to 30d, or `off`.",
        show: |config| or_off(config.backup.every),
        set: |config, text| {
            config.backup.every = days_or_off(text)?;
            Ok(())
        },
    },
    Key {
        name: "backup.verify_every",
        flag: None,
        default: "`7days`",
        meaning: "How often the newest backup is restored beside everything to be tried, 1s to 30d, or `off`.",
        show: |config| or_off(config.backup.verify_every),
        set: |config, text| {
            config.backup.verify_every = days_or_off(text)?;
            Ok(())
        },
    },
    Key {
        name: "backup.keep",
        flag: None,
        default: "`14`",
        meaning: "How many backups are kept, 1 to 10000; older ones are removed when a new one is there.",
        show: |config| config.backup.keep.to_string(),
        set: |config, text| {
            config.backup.keep = at_least_one(text, 10_000)?;
            Ok(())
        },
    },
    Key {
        name: "limits.body",
        flag: None,
        default: "`256 KiB`",
        meaning: "Longest request body, 1 KiB to 16 MiB.",
        show: |config| show_size(config.limits.body),
        set: |config, text| {
            config.limits.body = size(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.header",
        flag: None,
        default: "`16 KiB`",
        meaning: "Longest request head, 1 KiB to 16 MiB.",
        show: |config| show_size(config.limits.header),
        set: |config, text| {
            config.limits.header = size(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.header_timeout",
        flag: None,
        default: "`10s`",
        meaning: "Longest wait for a request's head, 1s to 1h.",
        show: |config| config.limits.header_timeout.to_string(),
        set: |config, text| {
            config.limits.header_timeout = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.body_timeout",
        flag: None,
        default: "`30s`",
        meaning: "Longest wait for a request's body, 1s to 1h.",
        show: |config| config.limits.body_timeout.to_string(),
        set: |config, text| {
            config.limits.body_timeout = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.send_timeout",
        flag: None,
        default: "`5m`",
        meaning: "Longest time in which a client takes nothing of what is sent to it, 1s to 1h; then its connection is closed.",
        show: |config| config.limits.send_timeout.to_string(),
        set: |config, text| {
            config.limits.send_timeout = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.request_timeout",
        flag: None,
        default: "`1m`",
        meaning: "Longest work on one request, 1s to 1h.",
        show: |config| config.limits.request_timeout.to_string(),
        set: |config, text| {
            config.limits.request_timeout = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.forward_timeout",
        flag: None,
        default: "`10m`",
        meaning: "Longest wait for the head of a vendor's answer to a forwarded request, 1s to 1h.",
        show: |config| config.limits.forward_timeout.to_string(),
        set: |config, text| {
            config.limits.forward_timeout = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.forward_idle",
        flag: None,
        default: "`5m`",
        meaning: "Longest pause in the body of a forwarded request or its answer, 1s to 1h.",
        show: |config| config.limits.forward_idle.to_string(),
        set: |config, text| {
            config.limits.forward_idle = span(text)?;
            Ok(())
        },
    },
    Key {
        name: "limits.max_connections",
        flag: None,
        default: "`4096`",
        meaning: "Connections open at once, 1 to 1000000.",
        show: |config| config.limits.max_connections.to_string(),
        set: |config, text| {
            config.limits.max_connections = at_least_one(text, 1_000_000)?;
            Ok(())
        },
    },
];

/// The table of keys in Markdown, for `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from("| key | meaning | default | environment | flag |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let flag = key.flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
        let (name, meaning, default, env) = (key.name, key.meaning, key.default, key.env());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {meaning} | {default} | `{env}` | {flag} |");
    }
    text
}

/// Longest file that holds an address, in bytes.
const MAX_ADDRESS: u64 = 4096;

fn from_file(config: &mut Config, text: &str) -> Result<(), Bad> {
    let file = path(text)?;
    let unreadable = || Bad {
        message: format!("the file `{}` cannot be read as a short text", cut(text)),
        fix: "check that it exists, that dekeys may read it, and that it holds one address".to_owned(),
    };
    let mut address = String::new();
    let open = File::open(&file).map_err(|_| unreadable())?;
    open.take(MAX_ADDRESS)
        .read_to_string(&mut address)
        .map_err(|_| unreadable())?;
    config.database_url = database_url(address.trim())?;
    config.database_url_file = Some(file);
    Ok(())
}

fn optional_url(url: Option<&Url>) -> String {
    url.map(ToString::to_string).unwrap_or_default()
}

fn shown_origin(url: Option<&Url>) -> String {
    url.map(|url| format!("{}/***", url.origin().ascii_serialization()))
        .unwrap_or_default()
}

fn or_off(span: Option<Ttl>) -> String {
    span.map_or_else(|| "off".to_owned(), |span| span.to_string())
}

fn optional(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
