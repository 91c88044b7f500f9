//! Redis and Valkey: a key is a user of the access control list.
//!
//! | call, after the host | does |
//! |---|---|
//! | `POST /users` | makes the user `name` with `password`, with `rights` on keys and channels that begin with `prefix` |
//! | `GET /users` | lists users |
//! | `DELETE /users/{name}` | removes the user; the server closes its connections |
//! | `GET /me` | whether user and password are taken |
//! | `POST /me/password` | draws another password for the user that asks, and forgets the ones before |
//!
//! The server is sent the SHA-256 of a new password (Redis documentation, ACL), so neither its list nor its file holds one.
//! A change is kept in the server's ACL file where it has one (`ACL SAVE`). *Not protected:* without such a file users are
//! in memory, and gone after a restart.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, RedisError, Value, cmd};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::{Asked, Reply, Trouble};
use crate::base::egress::{Egress, EgressError};
use crate::base::id::base32_lower;
use crate::base::random::{self, OsRandom};

/// The scheme of its URLs.
pub(super) const SCHEME: &str = "redis";

/// What every key may do: prove itself, ping, join commands to a transaction.
const ALWAYS: [&str; 3] = ["-@all", "+@connection", "+@transaction"];

/// What no key may do, whatever its rights are: ACL categories.
const NEVER: [&str; 2] = ["-@dangerous", "-@admin"];

/// Commands that show the names of keys beyond every prefix.
const NAMES: [&str; 2] = ["-scan", "-randomkey"];

/// Does one call.
///
/// # Errors
/// [`EgressError`] where the server gave no answer; what it refused is a [`Reply`].
pub(super) async fn answer(egress: &Egress, asked: &Asked) -> Result<Reply, EgressError> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let done = match (asked.method.as_str(), path.as_slice()) {
        ("POST", ["users"]) => create(egress, asked).await,
        ("GET", ["users"]) => list(egress, asked).await,
        ("DELETE", ["users", name]) => end(egress, asked, name).await,
        ("GET", ["me"]) => open(egress, asked).await.map(|_| Reply::empty(200)),
        ("POST", ["me", "password"]) => renew(egress, asked).await,
        _ => Ok(Reply::empty(404)),
    };
    match done {
        Ok(reply) | Err(Trouble::Said(reply)) => Ok(reply),
        Err(Trouble::Lost(error)) => Err(error),
    }
}

impl From<RedisError> for Trouble {
    /// An error after the proof: without an answer of the server the effect is unknown.
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Said(Reply::empty(status(code))),
            None => Self::Lost(EgressError::Broken {
                why: "the server closed the connection",
                sent: true,
            }),
        }
    }
}

/// The status of HTTP that means the same as the first word of an error. 503 leaves open whether anything was done.
fn status(code: &str) -> u16 {
    match code {
        "WRONGPASS" | "NOAUTH" => 401,
        "NOPERM" => 403,
        "ERR" => 422,
        // Loading, busy, a replica, out of memory: later it may work.
        _ => 503,
    }
}

/// A connection that has proved who it is. Its socket is closed when it is dropped.
struct Session {
    server: MultiplexedConnection,
    pump: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn open(egress: &Egress, asked: &Asked) -> Result<Session, Trouble> {
    let lost = |_| {
        Trouble::Lost(EgressError::Broken {
            why: "it does not speak as Redis does",
            sent: false,
        })
    };
    let line = egress.line(&asked.url, None).await.map_err(Trouble::Lost)?;
    // The library proves nobody: of a refused password it does not tell a server that is still loading.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    // How long a call may take is said around all of it.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let made = MultiplexedConnection::new_with_config(&nobody, line, config).await;
    let (server, pump) = made.map_err(lost)?;
    let mut session = Session {
        server,
        pump: tokio::spawn(pump),
    };
    let mut proof = cmd("AUTH");
    proof.arg(&asked.user).arg(asked.password.as_bytes());
    let proved: Result<(), RedisError> = proof.query_async(&mut session.server).await;
    match proved {
        Err(error) if error.code().is_none() => Err(lost(error)),
        proved => proved.map(|()| session).map_err(Trouble::from),
    }
}

async fn create(egress: &Egress, asked: &Asked) -> Result<Reply, Trouble> {
    let (name, password, prefix) = (asked.text("name"), asked.text("password"), asked.text("prefix"));
    let Some(rules) = rules(asked.texts("rights"), prefix).filter(|_| !name.is_empty() && !password.is_empty()) else {
        return Ok(Reply::empty(422));
    };
    let mut session = open(egress, asked).await?;
    let known: Value = cmd("ACL")
        .arg("GETUSER")
        .arg(name)
        .query_async(&mut session.server)
        .await?;
    if known != Value::Nil {
        return Ok(Reply::empty(409));
    }
    let mut set = cmd("ACL");
    set.arg("SETUSER")
        .arg(name)
        .arg("reset")
        .arg("on")
        .arg(verifier(password));
    for rule in rules {
        set.arg(rule);
    }
    let (): () = set.query_async(&mut session.server).await?;
    save(&mut session).await?;
    Ok(Reply::empty(201))
}

/// What the rights are in the server's words, on keys and channels with a prefix. `None`: a right that is not known, none
/// at all, or a prefix that is a pattern.
fn rules(rights: impl Iterator<Item = impl AsRef<str>>, prefix: &str) -> Option<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_-./{}".contains(&byte);
    if !prefix.bytes().all(plain) {
        return None;
    }
    let mut rules = ALWAYS.map(str::to_owned).to_vec();
    for right in rights {
        let words: &[String] = match right.as_ref() {
            "read" => &[format!("%R~{prefix}*"), "+@read".to_owned()],
            "write" => &[format!("~{prefix}*"), "+@read".to_owned(), "+@write".to_owned()],
            "channels" => &[format!("&{prefix}*"), "+@pubsub".to_owned()],
            _ => return None,
        };
        rules.extend_from_slice(words);
    }
    if rules.len() == ALWAYS.len() {
        return None;
    }
    rules.extend(NEVER.map(str::to_owned));
    if !prefix.is_empty() {
        rules.extend(NAMES.map(str::to_owned));
    }
    Some(rules)
}

/// A password as the server keeps it.
fn verifier(password: &str) -> String {
    let digest = Sha256::digest(password.as_bytes());
    format!("#{}", data_encoding::HEXLOWER.encode(&digest))
}

/// Writes the list into the server's ACL file, where it has one.
async fn save(session: &mut Session) -> Result<(), Trouble> {
    let saved: Result<(), RedisError> = cmd("ACL").arg("SAVE").query_async(&mut session.server).await;
    match saved {
        // A server without such a file says so, in words.
        Err(error) if error.code() == Some("ERR") && error.kind() != ErrorKind::Io => {
            let has_none = error
                .detail()
                .is_some_and(|words| words.contains("not configured to use an ACL file"));
            if has_none {
                Ok(())
            } else {
                Err(Trouble::Said(Reply::empty(503)))
            }
        }
        saved => saved.map_err(Trouble::from),
    }
}

async fn list(egress: &Egress, asked: &Asked) -> Result<Reply, Trouble> {
    let mut session = open(egress, asked).await?;
    let names: Vec<String> = cmd("ACL").arg("USERS").query_async(&mut session.server).await?;
    let users: Vec<_> = names.into_iter().map(|name| json!({ "name": name })).collect();
    Ok(Reply::new(200, json!({ "users": users })))
}

/// The user that asks, and the one everybody is without a proof, are not removed.
async fn end(egress: &Egress, asked: &Asked, name: &str) -> Result<Reply, Trouble> {
    if name == "default" || name == asked.user {
        return Ok(Reply::empty(403));
    }
    let mut session = open(egress, asked).await?;
    let removed: i64 = cmd("ACL")
        .arg("DELUSER")
        .arg(name)
        .query_async(&mut session.server)
        .await?;
    save(&mut session).await?;
    Ok(Reply::empty(if removed == 0 { 404 } else { 204 }))
}

async fn renew(egress: &Egress, asked: &Asked) -> Result<Reply, Trouble> {
    let mut session = open(egress, asked).await?;
    let password = base32_lower(&random::bytes::<20>(&OsRandom));
    let mut set = cmd("ACL");
    set.arg("SETUSER")
        .arg(&asked.user)
        .arg("resetpass")
        .arg(verifier(&password));
    let (): () = set.query_async(&mut session.server).await?;
    save(&mut session).await?;
    Ok(Reply::new(200, json!({ "password": password })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_on_a_prefix_and_never_dangerous() {
        let read = rules(["read"].into_iter(), "app:").unwrap();
        let wanted = "-@all +@connection +@transaction %R~app:* +@read -@dangerous -@admin -scan -randomkey";
        assert_eq!(read.join(" "), wanted);
        assert!(!rules(["write"].into_iter(), "").unwrap().contains(&"-scan".to_owned()));
        for (rights, prefix) in [
            (vec![], "app:"),
            (vec!["admin"], ""),
            (vec!["read"], "a*"),
            (vec!["read"], "a b"),
        ] {
            assert_eq!(rules(rights.into_iter(), prefix), None, "{prefix}");
        }
    }

    #[test]
    fn a_verifier_is_the_digest_that_redis_takes() {
        let known = "#9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(verifier("test"), known);
    }
}
