//! The database from behind: what somebody with write access to it can do.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use super::TestApp;

/// A connection beside the server's.
pub(crate) struct Intruder(SqliteConnection);

impl Intruder {
    pub(crate) async fn at(app: &TestApp) -> Self {
        Self::open(&app.stage.data_dir.join("dekeys.db")).await
    }

    async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(false)
            .busy_timeout(std::time::Duration::from_secs(20));
        Self(SqliteConnection::connect_with(&options).await.unwrap())
    }

    /// Runs one statement; a change must touch something.
    pub(crate) async fn run(&mut self, sql: String) {
        let done = sqlx::query(AssertSqlSafe(sql.clone()))
            .execute(&mut self.0)
            .await
            .unwrap();
        let changes = ["INSERT", "UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word));
        assert!(!changes || done.rows_affected() > 0, "nothing was changed by: {sql}");
    }

    /// Runs one statement that the database itself refuses; why.
    pub(crate) async fn refused(&mut self, sql: &str) -> String {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut self.0).await;
        done.unwrap_err().to_string()
    }

    pub(crate) async fn rows(&mut self, sql: &str) -> Vec<SqliteRow> {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.0)
            .await
            .unwrap()
    }
}
