//! `dekeys config`: what is in force on this machine, and who said so.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind};
use super::principal::nearest;
use super::profile;
use super::serve::DatabaseArgs;
use crate::config::{self, Flags, KEYS};

pub(crate) const EXAMPLE: &str = "Example: dekeys config show";

/// The configuration file of a service.
const FILE: &str = "/etc/dekeys/dekeys.toml";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Every key, its value, and where it comes from: the command line's own, then the server's
    #[command(after_help = "Example: dekeys config show --config ./dekeys.toml")]
    Show(DatabaseArgs),
    /// Say whether the server's configuration is valid, and what is not
    #[command(after_help = "Example: dekeys config check --config ./dekeys.toml")]
    Check(DatabaseArgs),
    /// The value of one key
    #[command(after_help = "Example: dekeys config get listen\nExample: dekeys config get addr")]
    Get {
        /// The key
        key: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Write one key into the configuration file, or into a profile of yours
    #[command(
        after_help = "Example: dekeys config set listen 127.0.0.1:8412 --config ./dekeys.toml\n\
        Example: dekeys config set addr https://dekeys.example.org --profile work"
    )]
    Set {
        /// A key of the server, or of a profile: addr, `admin_addr`, `key_file`, `token_file`, output, timeout
        key: String,
        /// The value
        value: String,
        /// The configuration file; `DEKEYS_CONFIG`, else /etc/dekeys/dekeys.toml, if absent
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

const COLUMNS: &[Column] = &[
    Column("key", "/key", Kind::Plain),
    Column("value", "/value", Kind::Plain),
    Column("origin", "/origin", Kind::Plain),
];

const CHECKED: &[Column] = &[
    Column("valid", "/valid", Kind::Plain),
    Column("keys", "/keys", Kind::Plain),
    Column("file", "/file", Kind::Plain),
];

/// Runs a verb.
pub(crate) fn run(verb: &Config, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Config::Show(args) => {
            let rows = rows(args, context)?;
            context.show_value(&json!({ "object": "list", "data": rows, "has_more": false }), COLUMNS)
        }
        Config::Check(args) => {
            let loaded = config::load(&args.flags(), &context.world.env)?;
            let set = loaded
                .origins
                .iter()
                .filter(|origin| origin.origin != "default")
                .count();
            let file = loaded
                .origins
                .iter()
                .find_map(|origin| origin.origin.strip_prefix("file "));
            let file = file.and_then(|place| place.rsplit_once(':')).map(|(file, _)| file);
            context.show_value(
                &json!({ "object": "config_check", "valid": true, "keys": set, "file": file }),
                CHECKED,
            )
        }
        Config::Get { key, database } => get(key, database, context),
        Config::Set { key, value, config } => set(key, value, config.as_deref(), context),
    }
}

fn rows(args: &DatabaseArgs, context: &Context<'_>) -> Result<Vec<serde_json::Value>, Failure> {
    let loaded = config::load(&args.flags(), &context.world.env)?;
    let own = context.settings.iter().map(|setting| json!(setting));
    Ok(own.chain(loaded.origins.iter().map(|origin| json!(origin))).collect())
}

fn get(key: &str, args: &DatabaseArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    known(key)?;
    // A broken configuration file is no reason to hide what the command line itself goes by.
    let own = context
        .settings
        .iter()
        .find(|setting| setting.key == key)
        .map(|setting| json!(setting));
    let row = match own {
        Some(row) => row,
        None => rows(args, context)?
            .into_iter()
            .find(|row| row.get("key").and_then(serde_json::Value::as_str) == Some(key))
            .unwrap_or_default(),
    };
    if context.style.format == Format::Text {
        return context.print(row.get("value").and_then(serde_json::Value::as_str).unwrap_or_default());
    }
    context.show_value(&row, COLUMNS)
}

fn known(key: &str) -> Result<(), Failure> {
    let names = || KEYS.iter().map(|key| key.name).chain(profile::KEYS);
    if names().any(|name| name == key) {
        return Ok(());
    }
    let fix = nearest(key, names().map(str::to_owned)).map_or_else(
        || "dekeys config show lists every key".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Err(Failure::usage(format!("there is no key `{key}`"), fix))
}

fn set(key: &str, text: &str, file: Option<&Path>, context: &mut Context<'_>) -> Result<(), Failure> {
    known(key)?;
    if profile::KEYS.contains(&key) {
        let path = profile::set(context.world, context.globals.profile.as_deref(), key, text)?;
        return context.say(&format!("set in {}", path.display()));
    }
    let named = file.map(Path::to_owned);
    let path = named
        .or_else(|| (context.world.env)("DEKEYS_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(FILE));
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unwritable(&path, &error)),
    };
    let after = edited(&before, key, text).ok_or_else(|| {
        let what = format!("`{}` is not TOML", path.display());
        Failure::new("config_invalid", exit::USAGE, what, "dekeys config check says where")
    })?;
    write_checked(&path, &after, key, context)?;
    context.say(&format!(
        "set in {}; a running server reads it when it starts again",
        path.display()
    ))
}

/// The file with one key changed; comments and order stay.
fn edited(before: &str, key: &str, text: &str) -> Option<String> {
    let mut document: DocumentMut = before.parse().ok()?;
    let (table, name) = match key.split_once('.') {
        Some((table, name)) => {
            let entry = document.entry(table).or_insert_with(|| Item::Table(Table::new()));
            (entry.as_table_mut()?, name)
        }
        None => (document.as_table_mut(), key),
    };
    let mut new: Value = text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from);
    match table.get_mut(name) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *new.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(new);
        }
        None => {
            table.insert(name, Item::Value(new));
        }
    }
    Some(document.to_string())
}

/// Writes the file only if the configuration is valid with it. What else is wrong with the configuration, by flags or
/// environment, does not count.
fn write_checked(path: &Path, text: &str, key: &str, context: &Context<'_>) -> Result<(), Failure> {
    let beside = path.with_extension("toml.new");
    std::fs::write(&beside, text).map_err(|error| unwritable(path, &error))?;
    let flags = Flags {
        config: Some(beside.clone()),
        ..Flags::default()
    };
    let env = |name: &str| (context.world.env)(name).filter(|_| !name.starts_with("DEKEYS_"));
    let wrong = config::load(&flags, &env).err();
    let of_key = wrong.and_then(|errors| errors.0.into_iter().find(|error| error.key == key));
    let outcome = match of_key {
        Some(error) => Err(Failure::usage(error.message, error.fix)),
        None => std::fs::rename(&beside, path).map_err(|error| unwritable(path, &error)),
    };
    if outcome.is_err() {
        // Best effort: the failure is what counts.
        let _ = std::fs::remove_file(&beside);
    }
    outcome
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("`{}` cannot be changed: {}", path.display(), error.kind());
    Failure::new(
        "file",
        exit::FAILED,
        what,
        "name another file with --config, or act as its owner",
    )
}
