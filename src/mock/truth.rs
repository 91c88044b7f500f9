//! The truth about a mock vendor's keys: in memory, and line by line in a file that outlives the process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use http::Method;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::fresh;
use super::request::{Wanted, Which};
use crate::base::random::OsRandom;
use crate::base::time::{Clock, SystemClock, Timestamp, Ttl};
use crate::vendor::Manifest;
use crate::vendor::made::{IdFrom, Source};
use crate::vendor::template::Values;

/// One key of a mock vendor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MockKey {
    /// The vendor's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The key itself; worth nothing.
    pub secret: String,
    /// The values before it that still work, each until a time.
    pub previous: Vec<(String, Timestamp)>,
    /// The vendor's words for its scopes, as they were asked for.
    pub scopes: Value,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When it was ended.
    pub revoked: Option<Timestamp>,
    /// `live`, `expired` or `revoked`, at the time of the question.
    pub state: &'static str,
}

impl MockKey {
    /// Whether it worked at the time of the question.
    pub fn is_live(&self) -> bool {
        self.state == "live"
    }

    fn seen_at(mut self, now: Timestamp) -> Self {
        self.state = self.state_at(now);
        self
    }

    fn state_at(&self, now: Timestamp) -> &'static str {
        match (self.revoked, self.expires) {
            (Some(_), _) => "revoked",
            (None, Some(expires)) if expires <= now => "expired",
            (None, _) => "live",
        }
    }
}

/// One call to a mock vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// `create`, `list`, `revoke`, `probe`, `route`, or `unknown`.
    pub op: String,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The status of the reply, whether or not it was dropped.
    pub status: u16,
}

pub(super) struct Truth {
    manifest: Manifest,
    params: Vec<(String, String)>,
    prefixes: (String, String),
    clock: SystemClock,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: Vec<MockKey>,
    calls: Vec<Call>,
    /// Keys by the header that makes a creation the same one.
    requests: HashMap<String, String>,
    file: Option<File>,
}

impl Truth {
    pub(super) fn open(manifest: &Manifest, params: Vec<(String, String)>, file: Option<&Path>) -> io::Result<Self> {
        let file = file
            .map(|path| OpenOptions::new().create(true).append(true).open(path))
            .transpose()?;
        Ok(Self {
            manifest: manifest.clone(),
            params,
            prefixes: (manifest.mock.id_prefix.clone(), manifest.mock.secret_prefix.clone()),
            clock: SystemClock::default(),
            kept: Mutex::new(Kept {
                file,
                ..Kept::default()
            }),
        })
    }

    pub(super) fn keys(&self) -> Vec<MockKey> {
        let now = self.clock.now();
        self.kept
            .lock()
            .keys
            .iter()
            .cloned()
            .map(|key| key.seen_at(now))
            .collect()
    }

    /// Keys that work, oldest first: what a list shows.
    pub(super) fn live(&self) -> Vec<MockKey> {
        self.keys().into_iter().filter(MockKey::is_live).collect()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.kept.lock().calls.clone()
    }

    /// Makes a key, unless the same request was seen before: then it is the same key.
    pub(super) fn create(&self, wanted: &Wanted) -> MockKey {
        let Some(mark) = &wanted.idempotency else {
            return self.make(wanted);
        };
        let known = self.kept.lock().requests.get(mark).cloned();
        let found = known.and_then(|id| self.keys().into_iter().find(|key| key.id == id));
        found.unwrap_or_else(|| {
            let key = self.make(wanted);
            self.kept.lock().requests.insert(mark.clone(), key.id.clone());
            key
        })
    }

    pub(super) fn make(&self, wanted: &Wanted) -> MockKey {
        let now = self.clock.now();
        let made = format!("{}{}", self.prefixes.0, fresh(&OsRandom));
        let secret = self.secret(wanted, &made);
        let key = MockKey {
            id: match self.manifest.create.as_ref().map(|create| create.id_from) {
                Some(IdFrom::Name) => wanted.name.clone(),
                Some(IdFrom::Secret) => secret.clone(),
                _ => made,
            },
            name: wanted.name.clone(),
            secret,
            previous: Vec::new(),
            scopes: wanted.scopes.clone(),
            created: now,
            expires: wanted.expires(now),
            revoked: None,
            state: "live",
        };
        let mut kept = self.kept.lock();
        kept.note("created", &key);
        kept.keys.push(key.clone());
        key
    }

    /// A key that is there from the beginning, for vendors that make none.
    pub(super) fn stored(&self, secret: String) {
        let key = MockKey {
            id: "stored".to_owned(),
            name: "stored".to_owned(),
            secret,
            previous: Vec::new(),
            scopes: Value::Null,
            created: self.clock.now(),
            expires: None,
            revoked: None,
            state: "live",
        };
        self.kept.lock().keys.push(key);
    }

    /// A key that was signed elsewhere, unless it was met before.
    pub(super) fn meet(&self, secret: String, scopes: Value, expires: Option<Timestamp>) {
        let id = fresh(&OsRandom);
        let key = MockKey {
            name: id.clone(),
            id,
            secret,
            previous: Vec::new(),
            scopes,
            created: self.clock.now(),
            expires,
            revoked: None,
            state: "live",
        };
        let mut kept = self.kept.lock();
        if !kept.keys.iter().any(|known| known.secret == key.secret) {
            kept.note("met", &key);
            kept.keys.push(key);
        }
    }

    /// A fresh key, in the form in which dekeys keeps it: several fields are a JSON object.
    fn secret(&self, wanted: &Wanted, id: &str) -> String {
        let drawn = || wanted.generated.clone().unwrap_or_default();
        let fresh = || format!("{}{}", self.prefixes.1, fresh(&OsRandom));
        let Some(create) = &self.manifest.create else {
            return fresh();
        };
        if create.fields.is_empty() {
            return if create.secret.is_some() { fresh() } else { drawn() };
        }
        let values = Values::default()
            .with("name", wanted.name.as_str())
            .with("generated", drawn());
        let values = self.params.iter().fold(values, |values, (name, value)| {
            values.with(&format!("params.{name}"), value.as_str())
        });
        let field = |source: &Source| match source {
            Source::Answer(pointer) if create.id.as_ref() == Some(pointer) => id.to_owned(),
            Source::Answer(_) => fresh(),
            Source::Text(text) => text
                .render(&values)
                .ok()
                .flatten()
                .map(|text| text.to_string())
                .unwrap_or_default(),
        };
        let fields = create
            .fields
            .iter()
            .map(|(name, source)| (name.clone(), Value::String(field(source))));
        Value::Object(fields.collect()).to_string()
    }

    /// Gives a key that works another value; the one before works for `overlap` seconds more.
    pub(super) fn renew(&self, which: &Which, overlap: i64) -> Option<MockKey> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let live = |key: &&mut MockKey| which.is(&self.manifest, key) && key.state_at(now) == "live";
        let key = kept.keys.iter_mut().find(live)?;
        let value = format!("{}{}", self.prefixes.1, fresh(&OsRandom));
        let before = std::mem::replace(&mut key.secret, value);
        if overlap > 0 {
            key.previous.push((before, now.plus(Ttl::from_secs(overlap))));
        }
        let renewed = key.clone();
        kept.note("renewed", &renewed);
        Some(renewed)
    }

    /// Ends a key that works; whether there was one.
    pub(super) fn revoke(&self, which: &Which) -> bool {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let live = |key: &&mut MockKey| which.is(&self.manifest, key) && key.state_at(now) == "live";
        let Some(key) = kept.keys.iter_mut().find(live) else {
            return false;
        };
        key.revoked = Some(now);
        let key = key.clone();
        kept.note("revoked", &key);
        true
    }

    /// The key that works and is meant.
    pub(super) fn find(&self, which: &Which) -> Option<MockKey> {
        let now = self.clock.now();
        let by_value = |key: &MockKey| which.is(&self.manifest, key);
        // A value that was replaced works until its time is over.
        let before = |key: &MockKey| {
            let old = key.previous.iter().filter(|(_, until)| *until > now);
            old.cloned()
                .any(|(secret, _)| by_value(&MockKey { secret, ..key.clone() }))
        };
        self.live().into_iter().find(|key| by_value(key) || before(key))
    }

    /// Whether the vendor lets one more key be alive.
    pub(super) fn has_room(&self) -> bool {
        let most = self.manifest.rotate.as_ref().and_then(|rotate| rotate.max);
        most.is_none_or(|most| self.live().len() < usize::try_from(most).unwrap_or(usize::MAX))
    }

    pub(super) fn called(&self, op: &str, method: &Method, path: &str, status: u16) {
        self.kept.lock().calls.push(Call {
            op: op.to_owned(),
            method: method.to_string(),
            path: path.to_owned(),
            status,
        });
    }
}

impl Kept {
    /// Appends to the file. A truth that cannot be written is worth nothing, so it is said loudly.
    fn note(&mut self, event: &str, key: &MockKey) {
        let line = json!({ "event": event, "id": key.id, "name": key.name, "at": key.revoked.unwrap_or(key.created), "expires": key.expires });
        if let Some(Err(error)) = self.file.as_mut().map(|file| writeln!(file, "{line}")) {
            tracing::error!(%error, "the mock vendor's truth file cannot be written");
        }
    }
}
