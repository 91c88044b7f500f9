//! How a caller that holds a key uses it: what resolve answers beside the key.

use schemars::JsonSchema;
use serde::Serialize;
use url::Url;

use super::VendorError;
use super::inject::destination;
use super::manifest::Manifest;
use super::tables::Slot;

/// How a caller that holds a key must use it: what resolve answers beside the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Injection {
    /// Where requests go.
    #[schemars(with = "String")]
    pub base_url: Url,
    /// Where the key stands.
    #[serde(flatten)]
    pub place: InjectionPlace,
    /// Further places, where a vendor wants the key twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<InjectionPlace>,
    /// The names of the fields of a key that has several: formats then name these instead of `{secret}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Where a key stands, as callers read it: `{"header": "Authorization", "format": "Bearer {secret}"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum InjectionPlace {
    /// In a header.
    Header {
        /// Its name.
        header: String,
        /// Its value; `{secret}` is the key.
        format: String,
    },
    /// In the query.
    Query {
        /// The parameter.
        query: String,
        /// Its value; `{secret}` is the key.
        format: String,
    },
    /// As user name and password (RFC 7617).
    Basic {
        /// The user name.
        basic_user: String,
        /// The password.
        basic_password: String,
    },
}

impl From<&Slot> for InjectionPlace {
    fn from(slot: &Slot) -> Self {
        match slot.clone() {
            Slot::Header { name, format } => Self::Header { header: name, format },
            Slot::Query { name, format } => Self::Query { query: name, format },
            Slot::Basic { user, password } => Self::Basic {
                basic_user: user,
                basic_password: password,
            },
        }
    }
}

/// How a made key is used. `base_url` and `params` are those of the stored root credential; they are not secret.
///
/// # Errors
/// [`VendorError`] when they do not fit the manifest.
pub fn injection(
    manifest: &Manifest,
    base_url: Option<&Url>,
    params: &[(String, String)],
) -> Result<Injection, VendorError> {
    let mut places = manifest.proxy.inject.iter().map(InjectionPlace::from);
    Ok(Injection {
        base_url: destination(manifest, base_url, params)?.base,
        place: places.next().ok_or(VendorError::Corrupt)?,
        also: places.collect(),
        fields: manifest
            .create
            .iter()
            .flat_map(|create| create.fields.keys().cloned())
            .collect(),
    })
}
