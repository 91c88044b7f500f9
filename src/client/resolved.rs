//! A resolved key in the hands of a prim: what it is, how long, and how it goes into a request.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::inject;
use crate::base::id::{EventId, LeaseId};
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::Reference;

/// A key counts as over so long before its lease ends: the request it is for has still to arrive.
const MARGIN: Ttl = Ttl::from_secs(1);

/// A vendor key, and how to use it. Without `Debug`: it is the key.
pub struct Resolved {
    /// What was asked for.
    pub reference: Reference,
    /// The lease.
    pub lease_id: LeaseId,
    /// The version of the lease's key.
    pub version: i64,
    /// When the lease ends.
    pub expires: Timestamp,
    /// The event on record.
    pub event: EventId,
    /// Where requests go.
    pub base_url: Url,
    fields: Vec<(String, SecretText)>,
    places: Vec<Place>,
}

/// Where a key goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Place {
    Header { header: String, format: String },
    Query { query: String, format: String },
    Basic { basic_user: String, basic_password: String },
}

/// One item of an answer to `POST /v1/resolve`.
#[derive(Deserialize)]
pub(super) struct Item {
    pub(super) lease_id: LeaseId,
    pub(super) expires: Timestamp,
    event: EventId,
    #[serde(default)]
    pub(super) unchanged: bool,
    credential: Option<Credential>,
}

#[derive(Deserialize)]
struct Credential {
    version: i64,
    fields: Fields,
    inject: Injection,
}

#[derive(Deserialize)]
struct Injection {
    base_url: Url,
    #[serde(flatten)]
    place: Place,
    #[serde(default)]
    also: Vec<Place>,
}

/// Moved into wiped memory as they are read.
struct Fields(Vec<(String, SecretText)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = std::collections::BTreeMap::<String, String>::deserialize(deserializer)?;
        let fields = fields.into_iter().map(|(name, value)| (name, SecretText::new(value)));
        Ok(Self(fields.collect()))
    }
}

impl Resolved {
    pub(super) fn of(reference: &Reference, item: Item) -> Option<Self> {
        let credential = item.credential?;
        let mut places = vec![credential.inject.place];
        places.extend(credential.inject.also);
        Some(Self {
            reference: reference.clone(),
            lease_id: item.lease_id,
            version: credential.version,
            expires: item.expires,
            event: item.event,
            base_url: credential.inject.base_url,
            fields: credential.fields.0,
            places,
        })
    }

    /// Whether the key may still be used.
    #[must_use]
    pub fn lives(&self, now: Timestamp) -> bool {
        now.plus(MARGIN) < self.expires
    }

    /// The key; of a key of several fields the first.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretText> {
        self.fields.first().map(|(_, secret)| secret)
    }

    /// One field of the key: `api_key`, or what its vendor calls it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&SecretText> {
        self.fields
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, secret)| secret)
    }

    /// The first header that carries the key, marked as sensitive; `None` where it goes into the query.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.places.iter().find_map(|place| self.header_of(place))
    }

    /// All headers that carry the key.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.places.iter().filter_map(|place| self.header_of(place)).collect()
    }

    /// The query parameters that carry the key; for most vendors none.
    #[must_use]
    pub fn query(&self) -> Vec<(String, SecretText)> {
        let parameter = |place: &Place| match place {
            Place::Query { query, format } => Some((query.clone(), inject::fill(format, &self.fields))),
            Place::Header { .. } | Place::Basic { .. } => None,
        };
        self.places.iter().filter_map(parameter).collect()
    }

    fn header_of(&self, place: &Place) -> Option<(HeaderName, HeaderValue)> {
        match place {
            Place::Header { header, format } => Some((
                header.parse().ok()?,
                inject::value(&inject::fill(format, &self.fields))?,
            )),
            Place::Basic {
                basic_user,
                basic_password,
            } => {
                let (user, password) = (
                    inject::fill(basic_user, &self.fields),
                    inject::fill(basic_password, &self.fields),
                );
                Some((http::header::AUTHORIZATION, inject::basic(&user, &password)?))
            }
            Place::Query { .. } => None,
        }
    }
}
