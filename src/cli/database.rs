//! `dekeys db`: the database of this machine, looked at without the server.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
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
    /// Copy a SQLite database into an empty PostgreSQL database, and compare what is there
    #[command(
        name = "to-postgres",
        after_help = "Example: dekeys db to-postgres --data-dir ./data --to-file ./postgres-url --dry-run\n\n\
            Stop the server first. Afterwards set `database_url_file`, and keep the SQLite file as a backup."
    )]
    ToPostgres(ToPostgresArgs),
}

/// What `to-postgres` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["to", "to_file"]))]
pub(crate) struct ToPostgresArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The target, `postgres://…` without a password
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// A file with the target's address, which may hold a password; `-` is standard input
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
    /// Only look whether it could be done, and how much there is
    #[arg(long)]
    dry_run: bool,
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
    let args = match verb {
        Db::Status(args) | Db::Migrate(args) => args,
        Db::ToPostgres(args) => return to_postgres(args, context).await,
    };
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

const TABLES: &[Column] = &[
    Column("table", "/table", Kind::Plain),
    Column("rows", "/rows", Kind::Plain),
];

async fn to_postgres(args: &ToPostgresArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let loaded = config::load(&args.database.flags(), &context.world.env)?;
    let target = match (&args.to, &args.to_file) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => context.read_text(path)?.trim().to_owned(),
        (None, None) => return Err(Failure::usage("there is no target", "--to or --to-file")),
    };
    if !args.dry_run {
        context.confirm("Copy the database into PostgreSQL?")?;
    }
    let moved = hook::to_postgres(&loaded, &target, args.dry_run).await?;
    let rows: Vec<_> = moved
        .tables
        .iter()
        .map(|(table, rows)| json!({ "table": table, "rows": rows }))
        .collect();
    let facts = json!({
        "object": "list", "data": rows, "has_more": false, "instance": moved.instance, "events": moved.events,
        "root": moved.root, "dry_run": args.dry_run,
    });
    context.show_value(&facts, TABLES)?;
    let (events, root) = (moved.events, &moved.root);
    if args.dry_run {
        return context.say(&format!(
            "it can be done: {events} events, log root {root}; nothing was changed"
        ));
    }
    context.say(&format!(
        "rows, log head and root are the same there: {events} events, log root {root}"
    ))?;
    context.say("now set `database_url_file` to the new address and start; do not start the old file again, keep it as a backup")
}
