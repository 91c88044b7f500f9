//! The layers, and how they are laid over each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};
use super::keys::{KEYS, Key};
use super::places::{Places, systemd_unseal_key};
use super::value::cut;
use super::{Config, Flags, Loaded, Origin, Rail};

/// Longest configuration file, in bytes.
const MAX_FILE: usize = 256 * 1024;

/// A value as a layer gives it, and where.
struct Given {
    text: String,
    origin: String,
}

type Env<'e> = &'e dyn Fn(&str) -> Option<String>;
type Layer = BTreeMap<String, Given>;

pub(super) fn merge(flags: &Flags, env: Env<'_>, places: &Places) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let file = read_file(flags, env, places, &mut errors);
    let flags = from_flags(flags, &mut errors);
    let mut origins = Vec::with_capacity(KEYS.len());
    let mut config = Config::default_in(places.data_dir(env).unwrap_or_default());
    for key in KEYS {
        let from_env = from_env(key, env);
        let given = flags.get(key.name).or(from_env.as_ref()).or_else(|| file.get(key.name));
        let origin = match given {
            Some(given) => apply(key, given, &mut config, &mut errors),
            None => fall_back(key, env, &mut config),
        };
        origins.push((key, origin));
    }
    cross_check(&config, &origins, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let origins = origins.into_iter().map(|(key, origin)| Origin {
        key: key.name,
        value: (key.show)(&config),
        origin,
    });
    let origins = origins.collect();
    Ok(Loaded { config, origins })
}

/// An empty variable counts as not set, as compose files and units write it.
fn from_env(key: &Key, env: Env<'_>) -> Option<Given> {
    let text = env(&key.env()).filter(|text| !text.is_empty())?;
    let origin = format!("environment {}", key.env());
    Some(Given { text, origin })
}

fn apply(key: &Key, given: &Given, config: &mut Config, errors: &mut Vec<ConfigError>) -> String {
    if let Err(bad) = (key.set)(config, &given.text) {
        errors.push(ConfigError {
            key: key.name.to_owned(),
            origin: given.origin.clone(),
            message: bad.message,
            fix: bad.fix,
        });
    }
    given.origin.clone()
}

/// What holds when no layer has the key.
fn fall_back(key: &Key, env: Env<'_>, config: &mut Config) -> String {
    let credential = (key.name == "unseal_key_file")
        .then(|| systemd_unseal_key(env))
        .flatten();
    if credential.is_some() {
        config.unseal_key_file = credential;
        return "systemd credential".to_owned();
    }
    DEFAULT.to_owned()
}

const DEFAULT: &str = "default";

/// What no single value can tell.
fn cross_check(config: &Config, origins: &[(&Key, String)], errors: &mut Vec<ConfigError>) {
    let origin = |name: &str| {
        origins
            .iter()
            .find(|(key, _)| key.name == name)
            .map_or(DEFAULT, |(_, origin)| origin)
    };
    let mut refuse = |key: &str, message: &str, fix: &str| {
        errors.push(ConfigError {
            key: key.to_owned(),
            origin: origin(key).to_owned(),
            message: message.to_owned(),
            fix: fix.to_owned(),
        });
    };
    if config.data_dir.as_os_str().is_empty() && origin("data_dir") == DEFAULT {
        let message = "no data directory: `/var/lib/dekeys` cannot be written and there is no home";
        refuse("data_dir", message, "give `--data-dir`, or set DEKEYS_DATA_DIR");
    }
    if origin("database_url") != DEFAULT && origin("database_url_file") != DEFAULT {
        let message = "`database_url` and `database_url_file` are both set";
        refuse("database_url_file", message, "keep one of them");
    }
    if config.unseal_key_file.is_some() && config.unseal_passphrase_file.is_some() {
        let message = "`unseal_key_file` and `unseal_passphrase_file` are both set";
        refuse(
            "unseal_passphrase_file",
            message,
            "keep the one the vault was made with",
        );
    }
    if config.payment.rail != Rail::Off && config.payment.pay_to.is_none() && origin("payment.pay_to") == DEFAULT {
        let message = "the payment rail is on, but nobody is paid";
        refuse(
            "payment.pay_to",
            message,
            "write the account: `pay_to = \"0x…\"` under `[payment]`",
        );
    }
    if config.payment.rail == Rail::Http && config.payment.facilitator_url.is_none() {
        let message = "the payment rail is `http`, and no facilitator is named";
        refuse(
            "payment.facilitator_url",
            message,
            "write its address: `facilitator_url = \"https://…\"` under `[payment]`",
        );
    }
}

fn from_flags(flags: &Flags, errors: &mut Vec<ConfigError>) -> Layer {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let named = [
        ("listen", flags.listen.clone()),
        ("admin_listen", flags.admin_listen.clone()),
        ("database_url", flags.database_url.clone()),
        ("data_dir", path(&flags.data_dir)),
        ("unseal_key_file", path(&flags.unseal_key_file)),
        ("unseal_passphrase_file", path(&flags.unseal_passphrase_file)),
        ("public_url", flags.public_url.clone()),
        ("log.format", flags.log_format.clone()),
        ("log.level", flags.log_level.clone()),
    ];
    let mut layer = Layer::new();
    for (name, text) in &flags.set {
        let origin = format!("flag --set {name}");
        if KEYS.iter().any(|key| key.name == name) {
            let text = text.clone();
            layer.insert(name.clone(), Given { text, origin });
        } else {
            errors.push(unknown(name, &origin));
        }
    }
    for (name, text) in named {
        if let Some(text) = text {
            let flag = KEYS
                .iter()
                .find(|key| key.name == name)
                .and_then(|key| key.flag)
                .unwrap_or(name);
            let origin = format!("flag {flag}");
            layer.insert(name.to_owned(), Given { text, origin });
        }
    }
    layer
}

fn read_file(flags: &Flags, env: Env<'_>, places: &Places, errors: &mut Vec<ConfigError>) -> Layer {
    let named = match (&flags.config, env("DEKEYS_CONFIG")) {
        (Some(path), _) => Some((path.clone(), "flag --config")),
        (None, Some(path)) => Some((PathBuf::from(path), "environment DEKEYS_CONFIG")),
        (None, None) => None,
    };
    let (path, named_by) = match named {
        Some((path, by)) => (path, by),
        None if places.config.is_file() => (places.config.clone(), "default"),
        None => return Layer::new(),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() <= MAX_FILE => parse_file(&text, &path, errors),
        _ => {
            errors.push(ConfigError {
                key: String::new(),
                origin: named_by.to_owned(),
                message: format!("the configuration file `{}` cannot be read", path.display()),
                fix: "check that it exists, that dekeys may read it, and that it is text of at most 256 KiB".to_owned(),
            });
            Layer::new()
        }
    }
}

fn parse_file(text: &str, path: &Path, errors: &mut Vec<ConfigError>) -> Layer {
    let mut file = File {
        text,
        path,
        layer: Layer::new(),
        errors,
    };
    match DeTable::parse(text) {
        Ok(document) => file.table("", document.get_ref()),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let message = format!("not TOML: {}", error.message().replace('\n', ", "));
            file.refuse("", start, message, "put the syntax right".to_owned());
        }
    }
    file.layer
}

/// A configuration file while it is read.
struct File<'f> {
    text: &'f str,
    path: &'f Path,
    layer: Layer,
    errors: &'f mut Vec<ConfigError>,
}

impl File<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let start = value.span().start;
            match value.get_ref() {
                DeValue::Table(inner) if prefix.is_empty() && is_table(&name) => {
                    self.table(&format!("{name}."), inner);
                }
                _ if !KEYS.iter().any(|key| key.name == name) => {
                    let origin = self.origin(key.span().start);
                    self.errors.push(unknown(&name, &origin));
                }
                value => match plain(value) {
                    Some(text) => {
                        let origin = self.origin(start);
                        self.layer.insert(name, Given { text, origin });
                    }
                    None => self.refuse(
                        &name,
                        start,
                        "must be text or a number".to_owned(),
                        "put it in quotes".to_owned(),
                    ),
                },
            }
        }
    }

    fn refuse(&mut self, key: &str, start: usize, message: String, fix: String) {
        let origin = self.origin(start);
        let key = key.to_owned();
        self.errors.push(ConfigError {
            key,
            origin,
            message,
            fix,
        });
    }

    /// `file dekeys.toml:3`.
    fn origin(&self, byte: usize) -> String {
        let before = self.text.get(..byte.min(self.text.len())).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        format!("file {}:{line}", self.path.display())
    }
}

fn is_table(name: &str) -> bool {
    KEYS.iter()
        .any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// A value of the file as text; a list of texts is joined by commas, as the environment writes it.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

fn unknown(name: &str, origin: &str) -> ConfigError {
    let as_file = format!("{name}_file");
    let fix = if KEYS.iter().any(|key| key.name == as_file) {
        format!("secrets are given as files: write it to a file and set `{as_file}`")
    } else {
        nearest(name).map_or_else(
            || "remove it; `dekeys config show` lists every key".to_owned(),
            |near| format!("did you mean `{near}`?"),
        )
    };
    ConfigError {
        key: cut(name),
        origin: origin.to_owned(),
        message: "there is no such key".to_owned(),
        fix,
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
