//! What every command takes, from its layers: flag, then environment, then profile, then default. Each value knows
//! where it came from, for `dekeys config show`.

use std::path::PathBuf;

use clap::ValueEnum as _;
use serde::Serialize;

use super::Globals;
use super::failure::Failure;
use super::output::Format;
use super::profile::{self, Profile};
use super::world::World;
use crate::base::time::Ttl;

/// The default addresses.
pub(crate) const ADDR: &str = "http://127.0.0.1:8402";
/// Where the vault is unsealed.
pub(crate) const ADMIN: &str = "http://127.0.0.1:8403";
/// How long one request may take.
pub(crate) const TIMEOUT: Ttl = Ttl::from_secs(75);

/// One value as `config show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub key: &'static str,
    pub value: String,
    pub origin: String,
}

/// The layers, laid over each other.
pub(crate) struct Settings {
    pub globals: Globals,
    pub format: Format,
    pub list: Vec<Setting>,
}

/// Lays them; where they make no sense the defaults hold, and the failure says why.
pub(crate) fn lay(flags: &Globals, world: &World) -> (Settings, Result<(), Failure>) {
    let env = |name: &str| (world.env)(name).filter(|value| !value.is_empty());
    let mut globals = flags.clone();
    globals.profile = globals.profile.or_else(|| env("DEKEYS_PROFILE"));
    globals.no_input |= env("DEKEYS_NO_INPUT").is_some();
    // Whoever sets a profile up cannot be told that it is not there.
    let loaded = if globals.sets_up {
        Ok(None)
    } else {
        profile::load(world, globals.profile.as_deref())
    };
    let (loaded, unloaded) = match loaded {
        Ok(loaded) => (loaded, None),
        Err(failure) => (None, Some(failure)),
    };
    let (profile, from) = loaded.unwrap_or_default();
    let list = merge(&globals, &profile, &from, &env);
    let set = |key: &str| {
        let setting = list
            .iter()
            .find(|setting| setting.key == key && setting.origin != DEFAULT);
        setting.map(|setting| setting.value.clone())
    };
    globals.addr = set("addr");
    globals.admin_addr = set("admin_addr");
    globals.key_file = set("key_file").map(PathBuf::from);
    globals.token_file = set("token_file").map(PathBuf::from);
    globals.timeout = globals.timeout.or(profile.timeout);
    let (format, unread) = match format(&list) {
        Ok(format) => (format, None),
        Err(failure) => (Format::Text, Some(failure)),
    };
    let settings = Settings { globals, format, list };
    (settings, unloaded.or(unread).map_or(Ok(()), Err))
}

const DEFAULT: &str = "default";

/// One key in its layers.
struct Layers {
    key: &'static str,
    flag: &'static str,
    given: Option<String>,
    variable: &'static str,
    kept: Option<String>,
    default: String,
}

fn merge(globals: &Globals, profile: &Profile, from: &str, env: &dyn Fn(&str) -> Option<String>) -> Vec<Setting> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let span = |span: Option<Ttl>| span.map(|span| span.to_string());
    let word = |format: Format| format.to_possible_value().map(|value| value.get_name().to_owned());
    let form = if globals.json {
        Some(Format::Json)
    } else {
        globals.output
    };
    let layers = |key, flag, given, variable, kept, default: &str| Layers {
        key,
        flag,
        given,
        variable,
        kept,
        default: default.to_owned(),
    };
    let (kept, given) = (profile.clone(), globals.clone());
    let all = [
        layers("addr", "--addr", given.addr, "DEKEYS_ADDR", kept.addr, ADDR),
        layers(
            "admin_addr",
            "--admin-addr",
            given.admin_addr,
            "DEKEYS_ADMIN_ADDR",
            kept.admin_addr,
            ADMIN,
        ),
        layers(
            "key_file",
            "--key-file",
            path(&given.key_file),
            "DEKEYS_KEY_FILE",
            path(&kept.key_file),
            "",
        ),
        layers(
            "token_file",
            "--token-file",
            path(&given.token_file),
            "DEKEYS_TOKEN_FILE",
            path(&kept.token_file),
            "",
        ),
        layers(
            "output",
            "--output",
            form.and_then(word),
            "DEKEYS_OUTPUT",
            kept.output,
            "text",
        ),
        layers(
            "timeout",
            "--timeout",
            span(given.timeout),
            "",
            span(kept.timeout),
            &TIMEOUT.to_string(),
        ),
    ];
    all.into_iter().map(|layers| layers.win(from, env)).collect()
}

impl Layers {
    /// The value that wins, and why.
    fn win(self, from: &str, env: &dyn Fn(&str) -> Option<String>) -> Setting {
        let flag = self.given.map(|text| (text, format!("flag {}", self.flag)));
        let variable = || env(self.variable).map(|text| (text, format!("environment {}", self.variable)));
        let kept = self.kept.map(|text| (text, from.to_owned()));
        let found = flag.or_else(variable).or(kept);
        let (value, origin) = found.unwrap_or_else(|| (self.default, DEFAULT.to_owned()));
        Setting {
            key: self.key,
            value,
            origin,
        }
    }
}

fn format(list: &[Setting]) -> Result<Format, Failure> {
    let Some(setting) = list.iter().find(|setting| setting.key == "output") else {
        return Ok(Format::Text);
    };
    Format::from_str(&setting.value, false).map_err(|_| {
        let name = setting.origin.strip_prefix("environment ").unwrap_or(&setting.origin);
        let what = format!("{name} is `{}`", setting.value);
        Failure::usage(what, "write text, json or jsonl")
    })
}
