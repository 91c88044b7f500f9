//! `dekeys config`: what is in force on this machine, and who said so.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::serve::DatabaseArgs;
use crate::config;

pub(crate) const EXAMPLE: &str = "Example: dekeys config show";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Every key, its value, and where it comes from
    #[command(after_help = "Example: dekeys config show --config ./dekeys.toml")]
    Show(DatabaseArgs),
}

const COLUMNS: &[Column] = &[
    Column("key", "/key", Kind::Plain),
    Column("value", "/value", Kind::Plain),
    Column("origin", "/origin", Kind::Plain),
];

/// Runs a verb.
pub(crate) fn run(verb: &Config, context: &mut Context<'_>) -> Result<(), Failure> {
    let Config::Show(args) = verb;
    let loaded = config::load(&args.flags(), &context.world.env)?;
    context.show_value(
        &json!({ "object": "list", "data": loaded.origins, "has_more": false }),
        COLUMNS,
    )
}
