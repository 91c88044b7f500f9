//! The root credentials that a mock vendor accepts: the one it began with, and those made from it.

use http::HeaderMap;
use parking_lot::Mutex;
use url::Url;

use super::fresh;
use super::request::{Asked, Reading, Seen, parse, variable};
use crate::base::random::OsRandom;
use crate::base::secret::SecretText;
use crate::base::time::{Clock, SystemClock, Timestamp, Ttl};
use crate::vendor::call::Call;
use crate::vendor::{Manifest, RootSecret, VendorError, authorize_root, pack_root};

/// A root credential of a mock vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockRoot {
    /// The vendor's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its fields; worth nothing.
    pub fields: Vec<(String, String)>,
    /// When it ends, or ended.
    pub until: Option<Timestamp>,
}

pub(super) struct Roots {
    clock: SystemClock,
    kept: Mutex<Vec<(MockRoot, RootSecret)>>,
}

impl Roots {
    pub(super) fn new() -> Self {
        Self {
            clock: SystemClock::default(),
            kept: Mutex::default(),
        }
    }

    /// Accepts one more.
    pub(super) fn add(
        &self,
        manifest: &Manifest,
        (url, params): (&Url, &[(String, String)]),
        name: &str,
        fields: &[(String, String)],
    ) -> Result<(), VendorError> {
        let secrets = fields
            .iter()
            .map(|(name, value)| (name.clone(), SecretText::new(value.clone())))
            .collect();
        let secret = RootSecret::unpack(pack_root(manifest, Some(url), params, secrets)?)?;
        let root = MockRoot {
            id: format!("root_{}", fresh(&OsRandom)),
            name: name.to_owned(),
            fields: fields.to_vec(),
            until: None,
        };
        self.kept.lock().push((root, secret));
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<MockRoot> {
        self.kept.lock().iter().map(|(root, _)| root.clone()).collect()
    }

    fn lives(&self, root: &MockRoot) -> bool {
        root.until.is_none_or(|until| until > self.clock.now())
    }

    /// The id of the one whose proof stands in a request, and works.
    pub(super) fn presented(
        &self,
        manifest: &Manifest,
        url: &Url,
        token: impl Fn(&RootSecret, Timestamp) -> Option<SecretText>,
        shows: impl Fn(&Url, &HeaderMap) -> bool,
    ) -> Option<String> {
        let kept = self.kept.lock();
        let mut living = kept.iter().filter(|(root, _)| self.lives(root));
        let now = self.clock.now();
        let found = living.find(|(_, secret)| {
            let (mut url, mut headers) = (url.clone(), HeaderMap::new());
            token(secret, now).is_some_and(|token| {
                authorize_root(manifest, secret, Some(&token), &mut url, &mut headers).is_ok() && shows(&url, &headers)
            })
        });
        found.map(|(root, _)| root.id.clone())
    }

    /// The id of the one all of whose values stand in a body.
    pub(super) fn in_body(&self, body: &str) -> Option<String> {
        let kept = self.kept.lock();
        let mut living = kept.iter().filter(|(root, _)| self.lives(root));
        let found = living.find(|(root, _)| root.fields.iter().all(|(_, value)| body.contains(value.as_str())));
        found.map(|(root, _)| root.id.clone())
    }

    /// What a living root credential says about a text.
    pub(super) fn find<T>(&self, read: impl Fn(&RootSecret, Timestamp) -> Option<T>) -> Option<T> {
        let now = self.clock.now();
        let kept = self.kept.lock();
        let mut living = kept.iter().filter(|(root, _)| self.lives(root));
        living.find_map(|(_, secret)| read(secret, now))
    }

    /// Ends one that lives, now or in a while; whether there was one.
    pub(super) fn end(&self, id: &str, after: Ttl) -> bool {
        let until = self.clock.now().plus(after);
        let mut kept = self.kept.lock();
        let found = kept.iter_mut().find(|(root, _)| root.id == id && self.lives(root));
        found.map(|(root, _)| root.until = Some(until)).is_some()
    }
}

impl Reading {
    /// The calls that replace a root credential.
    pub(super) fn replacing(&self, seen: &Seen<'_>) -> Option<Asked> {
        let table = self.root_rotation()?;
        let asking = || self.presented_root(seen);
        if table
            .who
            .as_ref()
            .is_some_and(|who| self.is(&Call::from(who), seen).is_some())
        {
            let unauthorized = Asked::Unauthorized { operation: "root_id" };
            return Some(asking().map_or(unauthorized, Asked::RootId));
        }
        if let Some(end) = &table.end
            && let Some(found) = self.is(&Call::from(end), seen)
            && let Some(id) = found.get("id").filter(|id| id.starts_with("root_"))
        {
            let unauthorized = Asked::Unauthorized { operation: "root_end" };
            return Some(asking().map_or(unauthorized, |_| Asked::EndRoot(id.clone())));
        }
        let call = Call::from(&table.call);
        let found = self.is(&call, seen)?;
        let Some(asking) = asking() else {
            return Some(Asked::Unauthorized {
                operation: "root_rotate",
            });
        };
        let body = parse(call.encoding, call.body.is_some(), seen.body).unwrap_or_default();
        let variable = |name: &str| variable(&call, &found, &seen.query, &body, name);
        let overlap = variable("overlap").and_then(|value| value.as_i64()).unwrap_or(0);
        let name = variable("name").and_then(|value| value.as_str().map(str::to_owned));
        Some(Asked::AnotherRoot {
            asking,
            name: name.unwrap_or_default(),
            overlap,
        })
    }
}

/// Makes another root credential: the values of all its fields.
pub(super) fn another_root(reading: &Reading, asking: &str, name: &str, overlap: i64) -> Option<Vec<(String, String)>> {
    let table = reading.root_rotation()?;
    let mut fields = reading.roots.all().into_iter().find(|root| root.id == asking)?.fields;
    for (name, value) in &mut fields {
        if table.call.fields.contains_key(name) {
            let prefix = reading.manifest.root.fields.get(name).map(|field| field.prefix.clone());
            *value = format!("{}{}", prefix.unwrap_or_default(), fresh(&OsRandom));
        }
    }
    reading.accept_root(name, &fields).ok()?;
    if !table.mode.makes_another() {
        reading.roots.end(asking, Ttl::from_secs(overlap));
    }
    Some(fields)
}
