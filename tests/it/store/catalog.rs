//! What both engines must have in common, and what opening a database refuses.

use std::fs;
use std::path::Path;

use dekeys::store::{Store, StoreError};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::{Database, sqlite, sqlite_url};

/// Every public method of the store is called by the suite, on both engines.
#[test]
fn no_method_is_without_a_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let suite = texts(&root.join("tests/it/store")) + &fs::read_to_string(root.join("tests/it/store.rs")).unwrap();
    let code = texts(&root.join("src/store")) + &fs::read_to_string(root.join("src/store.rs")).unwrap();
    let methods: Vec<_> = code
        .split("pub async fn ")
        .skip(1)
        .map(|rest| rest.split('(').next().unwrap())
        .collect();
    assert!(methods.len() > 90, "only {} found", methods.len());
    let called = |method: &str| suite.contains(&format!(".{method}(")) || suite.contains(&format!("Store::{method}("));
    let missing: Vec<_> = methods.into_iter().filter(|method| !called(method)).collect();
    assert!(missing.is_empty(), "no check calls {missing:?}");
}

fn texts(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &texts(&path);
        } else {
            all += &fs::read_to_string(path).unwrap();
        }
    }
    all
}

/// Table, column, type, whether it may be NULL, in order.
type Column = (String, String, String, bool);

#[tokio::test]
async fn the_two_catalogs_have_the_same_columns() {
    let Some(database) = Database::create().await else {
        return;
    };
    database.store().await.close().await;
    let mut postgres = PgConnection::connect(&database.url()).await.unwrap();
    let text = "SELECT c.table_name::text, c.column_name::text, c.data_type::text, c.is_nullable = 'YES' \
         FROM information_schema.columns AS c WHERE c.table_schema = 'public' AND c.table_name NOT LIKE '\\_sqlx%' \
         ORDER BY c.table_name COLLATE \"C\", c.ordinal_position";
    let in_postgres: Vec<Column> = sqlx::query_as(text).fetch_all(&mut postgres).await.unwrap();
    postgres.close().await.unwrap();

    let place = tempfile::tempdir().unwrap();
    sqlite(&place).await.close().await;
    let mut sqlite = SqliteConnection::connect(&sqlite_url(&place)).await.unwrap();
    let text = "SELECT t.name, c.name, CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE \
         lower(c.type) END, c.\"notnull\" = 0 FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c \
         WHERE t.type = 'table' AND t.schema = 'main' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
         AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY t.name, c.cid";
    let in_sqlite: Vec<Column> = sqlx::query_as(text).fetch_all(&mut sqlite).await.unwrap();
    assert!(in_sqlite.len() > 150, "{in_sqlite:?}");
    assert_eq!(in_sqlite, in_postgres);
    let loose: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND schema = 'main' AND strict = 0 \
         AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_one(&mut sqlite)
    .await
    .unwrap();
    assert_eq!(loose, 0, "tables that are not STRICT");
    database.drop().await;
}

/// The number of the latest migration, by its file.
pub(super) fn latest() -> i64 {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let files = fs::read_dir(folder).unwrap();
    let number = |name: String| name.split('_').next().unwrap().parse().unwrap();
    files
        .map(|file| number(file.unwrap().file_name().into_string().unwrap()))
        .max()
        .unwrap()
}

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     SELECT 999, 'of the future', success, checksum, 0 FROM _sqlx_migrations LIMIT 1";

#[tokio::test]
async fn a_newer_sqlite_database_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let store = sqlite(&place).await;
    let mut beside = SqliteConnection::connect(&sqlite_url(&place)).await.unwrap();
    sqlx::query(NEWER).execute(&mut beside).await.unwrap();
    let mismatch = |outcome| {
        matches!(
            outcome,
            Err(StoreError::MigrationMismatch {
                database: 999,
                binary,
            }) if binary == latest()
        )
    };
    assert!(mismatch(store.migrate().await));
    store.close().await;
    beside.close().await.unwrap();
    let before = fs::read(place.path().join("dekeys.db")).unwrap();
    assert!(mismatch(Store::open(&sqlite_url(&place)).await.map(drop)));
    assert_eq!(fs::read(place.path().join("dekeys.db")).unwrap(), before);
}

#[tokio::test]
async fn a_newer_postgres_database_is_left_alone() {
    let Some(database) = Database::create().await else {
        return;
    };
    database.store().await.close().await;
    let mut beside = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::query(NEWER).execute(&mut beside).await.unwrap();
    let outcome = Store::open(&database.url()).await;
    assert!(matches!(
        outcome,
        Err(StoreError::MigrationMismatch {
            database: 999,
            binary,
        }) if binary == latest()
    ));
    beside.close().await.unwrap();
    database.drop().await;
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused() {
    let Some(database) = Database::create().await else {
        return;
    };
    database
        .on_server(format!("ALTER DATABASE {} SET synchronous_commit = off", database.name))
        .await;
    let outcome = Store::open(&database.url()).await;
    assert!(matches!(outcome, Err(StoreError::SynchronousCommit(setting)) if setting == "off"));
    database.drop().await;
}

#[tokio::test]
async fn addresses_of_nothing_are_refused() {
    for url in [
        "",
        "mysql://x/y",
        "sqlite:x.db",
        "sqlite://",
        "sqlite://:memory:",
        "sqlite://x.db?mode=ro",
    ] {
        assert!(matches!(Store::open(url).await, Err(StoreError::Address)), "{url}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let store = sqlite(&place).await;
    for name in ["dekeys.db", "dekeys.db-wal"] {
        let mode = fs::metadata(place.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
    store.close().await;
}

/// The partial indexes are found: a grant with a long history costs no more than a new one.
#[tokio::test]
async fn the_hot_path_reads_by_index() {
    let place = tempfile::tempdir().unwrap();
    sqlite(&place).await.close().await;
    let mut sqlite = SqliteConnection::connect(&sqlite_url(&place)).await.unwrap();
    for (text, index) in [
        (
            "SELECT id FROM leases WHERE grant_id = 'g' AND item = 0 AND prim = 'p' AND state IN ('pending', 'active')",
            "leases_live",
        ),
        (
            "SELECT id FROM credentials WHERE grant_id = 'g' AND item = 0 AND state = 'active' AND prim IS NULL",
            "credentials_held",
        ),
        (
            "SELECT n FROM events WHERE n >= 7 ORDER BY n LIMIT 9",
            "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)",
        ),
        (
            "SELECT id FROM credentials WHERE next_at IS NOT NULL AND next_at <= 9 ORDER BY next_at",
            "credentials_due",
        ),
        (
            "SELECT id FROM leases WHERE state IN ('pending', 'active') AND expires <= 9 ORDER BY expires",
            "leases_due",
        ),
    ] {
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")))
            .fetch_all(&mut sqlite)
            .await
            .unwrap();
        assert!(plan.iter().any(|step| step.3.contains(index)), "{text}: {plan:?}");
    }
}
