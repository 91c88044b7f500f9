//! PostgreSQL: a key is a role with a password of its own.
//!
//! | call, after the database's name | does |
//! |---|---|
//! | `POST /roles` | creates the role `name` with `password` until `expires`, with `rights` in `schema` or of `group` |
//! | `GET /roles` | lists roles |
//! | `DELETE /roles/{name}` | ends its sessions, gives what it owns to the root role, drops it |
//! | `GET /me` | whether user and password are taken |
//! | `POST /me/password` | draws another password for the role that asks |
//!
//! The server is sent the SCRAM verifier of a password (RFC 5803), so neither its log nor its catalogue holds one.
//! Names are quoted by the server itself: each statement is built by its `format()`.

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls};
use zeroize::Zeroizing;

use super::{Asked, Reply, Trouble};
use crate::base::egress::{Egress, EgressError, Upgrade};
use crate::base::id::base32_lower;
use crate::base::random::{self, OsRandom};

/// The scheme of its URLs.
pub(super) const SCHEME: &str = "postgresql";

/// `SSLRequest`: its length and its code; `S` is a yes (PostgreSQL documentation, Message Formats).
const TLS: Upgrade = Upgrade {
    ask: &[0, 0, 0, 8, 4, 210, 22, 47],
    agreed: b'S',
};

/// A statement that waits for a lock, or runs, for longer than this is given up by the server.
const BOUNDS: &str = "SET statement_timeout = '8s'; SET lock_timeout = '4s'";

const CREATE: &str = "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L VALID UNTIL %L', $1::text, $2::text, $3::text)";
const READ: &str = "SELECT format('GRANT USAGE ON SCHEMA %2$I TO %1$I; \
                    GRANT SELECT ON ALL TABLES IN SCHEMA %2$I TO %1$I', $1::text, $2::text)";
const WRITE: &str = "SELECT format('GRANT USAGE ON SCHEMA %2$I TO %1$I; \
                     GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %2$I TO %1$I; \
                     GRANT USAGE ON ALL SEQUENCES IN SCHEMA %2$I TO %1$I', $1::text, $2::text)";
const GROUP: &str = "SELECT format('GRANT %2$I TO %1$I', $1::text, $2::text)";
const LIST: &str = "SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1";
const LOOK: &str = "SELECT oid, rolsuper OR rolname = current_user FROM pg_roles WHERE rolname = $1::text";
const LOCK: &str = "SELECT format('GRANT %1$I TO CURRENT_USER; ALTER ROLE %1$I NOLOGIN', $1::text)";
const SESSIONS: &str = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usesysid = $1";
const DROP: &str = "SELECT format('REASSIGN OWNED BY %1$I TO CURRENT_USER; DROP OWNED BY %1$I; DROP ROLE %1$I', \
                    $1::text)";
const PASSWORD: &str = "SELECT format('ALTER ROLE %I PASSWORD %L', current_user, $1::text)";

/// Does one call.
///
/// # Errors
/// [`EgressError`] where the server gave no answer; what it refused is a [`Reply`].
pub(super) async fn answer(egress: &Egress, asked: &Asked) -> Result<Reply, EgressError> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let done = match (asked.method.as_str(), path.as_slice()) {
        ("POST", [database, "roles"]) => create(egress, asked, database).await,
        ("GET", [database, "roles"]) => list(egress, asked, database).await,
        ("DELETE", [database, "roles", name]) => end(egress, asked, database, name).await,
        ("GET", [database, "me"]) => open(egress, asked, database).await.map(|_| Reply::empty(200)),
        ("POST", [database, "me", "password"]) => renew(egress, asked, database).await,
        _ => Ok(Reply::empty(404)),
    };
    match done {
        Ok(reply) | Err(Trouble::Said(reply)) => Ok(reply),
        Err(Trouble::Lost(error)) => Err(error),
    }
}

impl From<tokio_postgres::Error> for Trouble {
    /// An error after the session was opened: without an answer of the server the effect is unknown.
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) => Self::Said(Reply::empty(status(code))),
            None => Self::Lost(EgressError::Broken {
                why: "the server closed the session",
                sent: true,
            }),
        }
    }
}

/// The status of HTTP that means the same as an SQLSTATE. 500 and 503 leave open whether anything was done.
fn status(code: &SqlState) -> u16 {
    match code.code() {
        "42501" => 403,
        "42710" | "2BP01" => 409,
        // No such role or schema, a right that makes no sense, no such database.
        "42704" | "3F000" | "0LP01" | "3D000" | "22023" | "22007" | "22008" => 422,
        other if other.starts_with("28") => 401,
        // Resources, shutdown, a lock that was not given: the transaction was rolled back, later it may work.
        _ => 503,
    }
}

/// A session. Its socket is closed when it is dropped.
struct Session {
    client: Client,
    pump: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn open(egress: &Egress, asked: &Asked, database: &str) -> Result<Session, Trouble> {
    let lost = |why| Trouble::Lost(EgressError::Broken { why, sent: false });
    let line = egress.line(&asked.url, Some(TLS)).await.map_err(Trouble::Lost)?;
    let mut config = Config::new();
    config
        .user(&asked.user)
        .password(asked.password.as_bytes())
        .dbname(database)
        .application_name("dekeys");
    let opened = config.connect_raw(line, NoTls).await;
    let (client, connection) = opened.map_err(|error| match error.code() {
        Some(code) => Trouble::Said(Reply::empty(status(code))),
        // What the library itself refuses is a way to prove the password that it does not know.
        None => lost("it speaks no PostgreSQL, or asks for another proof than a password"),
    })?;
    let pump = tokio::spawn(async move { drop(connection.await) });
    Ok(Session { client, pump })
}

impl Session {
    /// The session of the root role, with bounds.
    async fn of_root(egress: &Egress, asked: &Asked, database: &str) -> Result<Self, Trouble> {
        let session = open(egress, asked, database).await?;
        session.client.batch_execute(BOUNDS).await.map_err(unsent)?;
        Ok(session)
    }

    /// A statement as the server's own `format()` builds it from `template`.
    async fn built(&self, template: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Zeroizing<String>, Trouble> {
        let row = self.client.query_one(template, values).await.map_err(unsent)?;
        Ok(Zeroizing::new(row.try_get(0).map_err(unsent)?))
    }
}

/// An error before anything was changed.
fn unsent(error: tokio_postgres::Error) -> Trouble {
    match Trouble::from(error) {
        Trouble::Lost(_) => Trouble::Lost(EgressError::Connect),
        Trouble::Said(reply) => Trouble::Said(reply),
    }
}

async fn create(egress: &Egress, asked: &Asked, database: &str) -> Result<Reply, Trouble> {
    let session = Session::of_root(egress, asked, database).await?;
    let (name, schema, group) = (asked.text("name"), asked.text("schema"), asked.text("group"));
    let verifier = Zeroizing::new(postgres_protocol::password::scram_sha_256(
        asked.text("password").as_bytes(),
    ));
    let role = session
        .built(CREATE, &[&name, &verifier.as_str(), &asked.text("expires")])
        .await?;
    let mut statements = vec![role];
    for right in asked.texts("rights") {
        let (template, of) = match right {
            "read" => (READ, schema),
            "write" => (WRITE, schema),
            "group" => (GROUP, group),
            _ => return Ok(Reply::empty(422)),
        };
        if of.is_empty() {
            return Ok(Reply::empty(422));
        }
        statements.push(session.built(template, &[&name, &of]).await?);
    }
    // One message is one transaction: the role with all its rights, or nothing.
    let whole: Vec<&str> = statements.iter().map(|statement| statement.as_str()).collect();
    let whole = Zeroizing::new(whole.join("; "));
    session.client.batch_execute(&whole).await?;
    Ok(Reply::new(201, json!({ "name": name })))
}

async fn list(egress: &Egress, asked: &Asked, database: &str) -> Result<Reply, Trouble> {
    let session = Session::of_root(egress, asked, database).await?;
    let rows = session.client.query(LIST, &[]).await?;
    let names = rows.iter().map(|row| row.try_get::<_, String>(0));
    let roles = names.map(|name| name.map(|name| json!({ "name": name })));
    let roles = roles.collect::<Result<Vec<_>, _>>()?;
    Ok(Reply::new(200, json!({ "roles": roles })))
}

/// In three steps, each of which may be done again: nobody logs in as it any more, nobody is logged in, it is gone.
async fn end(egress: &Egress, asked: &Asked, database: &str, name: &str) -> Result<Reply, Trouble> {
    let session = Session::of_root(egress, asked, database).await?;
    let Some(row) = session.client.query_opt(LOOK, &[&name]).await? else {
        return Ok(Reply::empty(404));
    };
    let (role, untouchable): (u32, bool) = (row.try_get(0)?, row.try_get(1)?);
    if untouchable {
        return Ok(Reply::empty(422));
    }
    let lock = session.built(LOCK, &[&name]).await?;
    session.client.batch_execute(&lock).await?;
    terminate(&session, role).await?;
    let dropping = session.built(DROP, &[&name]).await?;
    session.client.batch_execute(&dropping).await?;
    // One that was logging in while the lock came.
    terminate(&session, role).await?;
    Ok(Reply::empty(204))
}

async fn terminate(session: &Session, role: u32) -> Result<(), Trouble> {
    let rows = session.client.query(SESSIONS, &[&role]).await?;
    let ended: Result<Vec<bool>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    if ended?.into_iter().all(|ended| ended) {
        return Ok(());
    }
    Err(Trouble::Said(Reply::empty(503)))
}

async fn renew(egress: &Egress, asked: &Asked, database: &str) -> Result<Reply, Trouble> {
    let session = Session::of_root(egress, asked, database).await?;
    let drawn = Zeroizing::new(random::bytes::<25>(&OsRandom));
    let password = Zeroizing::new(base32_lower(drawn.as_slice()));
    let verifier = Zeroizing::new(postgres_protocol::password::scram_sha_256(password.as_bytes()));
    let statement = session.built(PASSWORD, &[&verifier.as_str()]).await?;
    session.client.batch_execute(&statement).await?;
    Ok(Reply::new(200, json!({ "password": password.as_str() })))
}
