//! One call of a manifest, and the request it becomes.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::VendorError;
use super::inject::{RootSecret, authorize_credential, authorize_root};
use super::manifest::Manifest;
use super::tables::{
    CreateTable, Encoding, ListTable, ProbeTable, RenewTable, RevokeTable, RootCallTable, Verb, WhoTable,
};
use super::template::{TemplateError, Text, Tree, Values, Wiped};
use crate::base::egress::{DEFAULT_TIMEOUT, Outgoing};
use crate::base::secret::SecretText;

/// The longest answer that is read: lists of many keys are long.
const MAX_BODY: usize = 8 << 20;

/// What all tables of calls have.
pub(crate) struct Call<'m> {
    /// The table's name.
    pub(crate) table: &'static str,
    pub(crate) verb: Verb,
    pub(crate) path: &'m Text,
    pub(crate) query: &'m BTreeMap<String, Text>,
    pub(crate) headers: &'m BTreeMap<String, Text>,
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<&'m Tree>,
}

macro_rules! calls {
    ($($table:ident = $name:literal),*) => {$(
        impl<'m> From<&'m $table> for Call<'m> {
            fn from(table: &'m $table) -> Self {
                Self {
                    table: $name,
                    verb: table.method,
                    path: &table.path,
                    query: &table.query,
                    headers: &table.headers,
                    encoding: table.encoding,
                    body: table.body.as_ref(),
                }
            }
        }
    )*};
}
calls!(
    CreateTable = "create",
    RevokeTable = "revoke",
    ProbeTable = "probe",
    RenewTable = "rotate/call",
    RootCallTable = "root/rotate/call"
);

impl<'m> From<&'m WhoTable> for Call<'m> {
    fn from(table: &'m WhoTable) -> Self {
        Self {
            table: "root/rotate/who",
            verb: Verb::Get,
            path: &table.path,
            query: no_texts(),
            headers: no_texts(),
            encoding: Encoding::Json,
            body: None,
        }
    }
}

impl<'m> From<&'m ListTable> for Call<'m> {
    fn from(table: &'m ListTable) -> Self {
        Self {
            table: "list",
            verb: table.method,
            path: &table.path,
            query: &table.query,
            headers: &table.headers,
            encoding: Encoding::Json,
            body: None,
        }
    }
}

/// Who a request is made as.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// As the root credential; the token of its login, where it needs one.
    Root(Option<&'a SecretText>),
    Credential(&'a SecretText),
}

impl Call<'_> {
    /// Whether the call names a variable anywhere.
    pub(crate) fn uses(&self, name: &str) -> bool {
        let in_body = self.body.map(Tree::texts).unwrap_or_default();
        let texts = in_body.into_iter().map(|(_, text)| text);
        texts
            .chain(self.query.values())
            .chain(self.headers.values())
            .chain([self.path])
            .any(|text| text.variables().any(|variable| variable.name == name))
    }

    /// The address of the call.
    pub(crate) fn url(&self, root: &RootSecret, values: &Values<'_>) -> Result<Url, VendorError> {
        let destination = root.destination();
        let path = self.path.render_path(values)?;
        let text = if path.starts_with('/') {
            format!("{}{}", destination.base.as_str().trim_end_matches('/'), *path)
        } else {
            path.to_string()
        };
        let mut url = Url::parse(&text).map_err(|_| TemplateError::Path)?;
        // The parser folds what it takes for a step up; nothing may have been folded.
        if url.as_str() != text {
            return Err(TemplateError::Path.into());
        }
        if !path.starts_with('/') {
            url = destination.at(&url)?;
        }
        for (key, value) in self.query {
            if let Some(value) = value.render(values)? {
                url.query_pairs_mut().append_pair(key, &value);
            }
        }
        Ok(url)
    }

    /// The request to `url`, with proof; refused when the root credential was not sealed for that place.
    pub(crate) fn request(
        &self,
        manifest: &Manifest,
        root: &RootSecret,
        proof: Proof<'_>,
        url: Url,
        values: &Values<'_>,
    ) -> Result<Outgoing, VendorError> {
        let mut outgoing = self.unproven(manifest, url, values)?;
        let (url, headers) = (&mut outgoing.url, &mut outgoing.headers);
        match proof {
            Proof::Root(login) => authorize_root(manifest, root, login, url, headers)?,
            Proof::Credential(secret) => authorize_credential(manifest, root, secret, url, headers)?,
        }
        Ok(outgoing)
    }

    /// The request to `url` without proof. Who sends it must have checked the place.
    pub(super) fn unproven(&self, manifest: &Manifest, url: Url, values: &Values<'_>) -> Result<Outgoing, VendorError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        set_headers(&mut headers, &manifest.http.headers, values)?;
        set_headers(&mut headers, self.headers, values)?;
        let mut outgoing = Outgoing::new(self.verb.method(), url);
        outgoing.body = self.body(values, &mut headers)?;
        outgoing.headers = headers;
        outgoing.timeout = manifest.http.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        outgoing.max_body = MAX_BODY;
        Ok(outgoing)
    }

    fn body(&self, values: &Values<'_>, headers: &mut HeaderMap) -> Result<Vec<u8>, VendorError> {
        let Some(body) = self.body.map(|tree| tree.render(values)).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        let body = Wiped(body);
        let (kind, bytes) = match self.encoding {
            Encoding::Json => (
                "application/json",
                serde_json::to_vec(&body.0).map_err(|_| VendorError::Corrupt)?,
            ),
            Encoding::Form => ("application/x-www-form-urlencoded", form(&body.0)),
        };
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
        Ok(bytes)
    }
}

/// For calls that have no query.
pub(super) const fn no_texts() -> &'static BTreeMap<String, Text> {
    static NONE: BTreeMap<String, Text> = BTreeMap::new();
    &NONE
}

/// A table as a form; lists and tables inside become JSON text, as Twilio wants its policies.
fn form(body: &Value) -> Vec<u8> {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (key, value) in body.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) => {
                out.append_pair(key, text);
            }
            other => {
                out.append_pair(key, &other.to_string());
            }
        }
    }
    out.finish().into_bytes()
}

fn set_headers(
    headers: &mut HeaderMap,
    named: &BTreeMap<String, Text>,
    values: &Values<'_>,
) -> Result<(), VendorError> {
    for (name, text) in named {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| TemplateError::Header)?;
        if let Some(value) = text.render_header(values)? {
            headers.insert(name, value);
        }
    }
    Ok(())
}
