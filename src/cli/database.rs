//! `dekeys db`: the database of this machine, looked at without the server.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::hook;
use super::output::{Column, Kind};
use super::serve::DatabaseArgs;
use crate::config;

pub(crate) const EXAMPLE: &str = "Example: dekeys db status";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Which database it is, how large, and which migrations it has
    #[command(after_help = "Example: dekeys db status --data-dir ./data")]
    Status(DatabaseArgs),
    /// Bring the database to this binary's migrations, as `serve` does when it starts
    #[command(after_help = "Example: dekeys db migrate --data-dir ./data")]
    Migrate(DatabaseArgs),
}

const COLUMNS: &[Column] = &[
    Column("database", "/database", Kind::Plain),
    Column("engine", "/engine", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
    Column("migrations", "/migrations", Kind::Plain),
    Column("known here", "/known", Kind::Plain),
    Column("bytes", "/bytes", Kind::Plain),
    Column("wal bytes", "/wal_bytes", Kind::Plain),
    Column("in use", "/in_use", Kind::Plain),
];

/// Runs a verb. Fails when the database is newer than this binary, or is none.
pub(crate) async fn run(verb: &Db, context: &mut Context<'_>) -> Result<(), Failure> {
    let (Db::Status(args) | Db::Migrate(args)) = verb;
    let loaded = config::load(&args.flags(), &context.world.env)?;
    if matches!(verb, Db::Migrate(_)) {
        hook::migrate(&loaded).await?;
    }
    let looked = hook::look_at_database(&loaded).await?;
    let facts = json!({
        "object": "database",
        "database": loaded.config.shown_database_url(),
        "engine": looked.engine,
        "instance": looked.instance,
        "migrations": looked.migrations,
        "known": looked.known,
        "bytes": looked.bytes,
        "wal_bytes": looked.wal_bytes,
        "in_use": looked.in_use,
    });
    context.show_value(&facts, COLUMNS)?;
    if looked.migrations > looked.known {
        let what = "the database is newer than this binary";
        let failure = Failure::new(
            "migration_mismatch",
            exit::FAILED,
            what,
            "install the version that wrote it, or restore a backup",
        );
        return Err(failure.because(format!(
            "It has migration {}, this binary knows {}. Starting could damage it, so nothing was written.",
            looked.migrations, looked.known
        )));
    }
    if looked.migrations < looked.known {
        context.say("behind: `dekeys serve` brings it up to date when it starts, `dekeys db migrate` now")?;
    }
    Ok(())
}
