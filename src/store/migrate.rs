//! The tables' versions: SQL files built into the binary, run in order, never back.

use rust_embed::RustEmbed;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::connect::Pools;
use super::{Engine, StoreError};

#[derive(RustEmbed)]
#[folder = "migrations/sqlite/"]
struct Sqlite;

#[derive(RustEmbed)]
#[folder = "migrations/postgres/"]
struct Postgres;

pub(super) async fn run(pools: &Pools) -> Result<(), StoreError> {
    refuse_newer(applied(pools).await?, known(engine(pools))?)?;
    run_up_to(pools, i64::MAX).await
}

/// As far as `version`, which this binary must know.
pub(super) async fn run_to(pools: &Pools, version: i64) -> Result<(), StoreError> {
    refuse_newer(version, known(engine(pools))?)?;
    run_up_to(pools, version).await
}

async fn run_up_to(pools: &Pools, version: i64) -> Result<(), StoreError> {
    let migrator = migrator(engine(pools), version)?;
    let outcome = match pools {
        Pools::Sqlite { write, .. } => migrator.run(write).await,
        Pools::Postgres { write, .. } => migrator.run(write).await,
    };
    outcome.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            error.into()
        }
        _ => StoreError::MigrationChanged,
    })
}

/// A database that knows more than the binary is left alone.
pub(super) const fn refuse_newer(database: i64, binary: i64) -> Result<(), StoreError> {
    if database > binary {
        return Err(StoreError::MigrationMismatch { database, binary });
    }
    Ok(())
}

/// The latest migration the database has; 0 for none.
pub(super) async fn applied(pools: &Pools) -> Result<i64, StoreError> {
    const LATEST: &str = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM _sqlx_migrations";
    let (there, latest): (i64, _) = match pools {
        Pools::Sqlite { write, .. } => {
            let tables = "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'";
            let there = sqlx::query_scalar(tables).fetch_one(write).await?;
            (there, sqlx::query_scalar(LATEST).fetch_one(write).await)
        }
        Pools::Postgres { read, .. } => {
            let tables = "SELECT CAST(count(to_regclass('_sqlx_migrations')) AS BIGINT)";
            let there = sqlx::query_scalar(tables).fetch_one(read).await?;
            (there, sqlx::query_scalar(LATEST).fetch_one(read).await)
        }
    };
    if there == 0 { Ok(0) } else { Ok(latest?) }
}

/// The latest migration of this binary.
pub(super) fn known(engine: Engine) -> Result<i64, StoreError> {
    Ok(migrator(engine, i64::MAX)?
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0))
}

const fn engine(pools: &Pools) -> Engine {
    match pools {
        Pools::Sqlite { .. } => Engine::Sqlite,
        Pools::Postgres { .. } => Engine::Postgres,
    }
}

fn migrator(engine: Engine, most: i64) -> Result<Migrator, StoreError> {
    let migrations = match engine {
        Engine::Sqlite => files::<Sqlite>(),
        Engine::Postgres => files::<Postgres>(),
    };
    let mut migrations = migrations.ok_or(StoreError::MigrationChanged)?;
    migrations.retain(|migration| migration.version <= most);
    Ok(Migrator::with_migrations(migrations))
}

fn files<F: RustEmbed>() -> Option<Vec<Migration>> {
    F::iter()
        .filter(|name| name.ends_with(".sql"))
        .map(|name| migration::<F>(&name))
        .collect()
}

/// `0001_first.sql` is migration 1, "first".
fn migration<F: RustEmbed>(name: &str) -> Option<Migration> {
    let (version, title) = name.strip_suffix(".sql")?.split_once('_')?;
    let text = String::from_utf8(F::get(name)?.data.into_owned()).ok()?;
    Some(Migration::new(
        version.parse().ok()?,
        title.replace('_', " ").into(),
        MigrationType::Simple,
        AssertSqlSafe(text).into_sql_str(),
        false,
    ))
}
