//! Root credentials with their destination, and how keys are put into requests.
//!
//! A root credential is sealed together with the hosts it is for, the account's parameters and the way it proves
//! itself (DESIGN 15). A request to any other place, or a manifest that says otherwise, is refused here: changing
//! them means entering the credential again.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::VendorError;
use super::check::is_host;
use super::login::Login;
use super::manifest::Manifest;
use super::native;
use super::tables::{Auth, Slot};
use super::template::{TemplateError, Text, Values, Wiped, header_value};
use crate::base::canonical::Digest;
use crate::base::egress::Origin;
use crate::base::secret::{SecretBytes, SecretText};
use crate::model::sealed::MAX_SECRET;

/// Where a root credential may be sent, and how it proves itself there. Sealed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The vendor.
    pub vendor: String,
    /// The manifest's hosts when the credential was entered, account parameters filled in.
    pub hosts: Vec<String>,
    /// Scheme, host and port of every place that may be called.
    pub origins: Vec<String>,
    /// What paths are put after.
    pub base: Url,
    /// The account's parameters.
    pub params: BTreeMap<String, String>,
    /// The manifest's auth style when the credential was entered.
    pub auth: Value,
}

impl Destination {
    /// An address of the manifest as this credential may call it: a test instance moves all hosts to its own.
    pub(super) fn at(&self, url: &Url) -> Result<Url, VendorError> {
        let origin = Origin::of(url).ok_or(VendorError::Base)?;
        if self.origins.iter().any(|known| known == origin.as_str()) {
            return Ok(url.clone());
        }
        let same = |host: &String| {
            Url::parse(&format!("https://{host}"))
                .ok()
                .and_then(|url| Origin::of(&url))
                == Some(origin.clone())
        };
        let named = self.hosts.iter().any(same);
        if !named {
            return Err(VendorError::OtherPlace);
        }
        let mut there = self.base.clone();
        there.set_path("/");
        moved(url, &there)
    }
}

/// A root credential, opened: its secret fields and its destination.
pub struct RootSecret {
    fields: BTreeMap<String, SecretText>,
    destination: Destination,
}

impl RootSecret {
    /// Reads what [`pack_root`] wrote.
    ///
    /// # Errors
    /// [`VendorError::Corrupt`].
    pub fn unpack(plaintext: SecretBytes) -> Result<Self, VendorError> {
        let value: Value = serde_json::from_slice(plaintext.expose()).map_err(|_| VendorError::Corrupt)?;
        drop(plaintext);
        let packed = Wiped(value);
        let destination = packed.0.get("destination").ok_or(VendorError::Corrupt)?;
        let fields = packed
            .0
            .get("fields")
            .and_then(Value::as_object)
            .ok_or(VendorError::Corrupt)?;
        let field =
            |(name, value): (&String, &Value)| Some((name.clone(), SecretText::new(value.as_str()?.to_owned())));
        Ok(Self {
            fields: fields
                .iter()
                .map(field)
                .collect::<Option<_>>()
                .ok_or(VendorError::Corrupt)?,
            destination: Destination::deserialize(destination).map_err(|_| VendorError::Corrupt)?,
        })
    }

    /// Where it may be sent.
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The credential as a key, for vendors where dekeys makes none: its one field, or all fields as a JSON object
    /// (see [`fields`]).
    #[must_use]
    pub fn key(&self) -> SecretText {
        let mut named = self.fields.iter();
        if let (Some((_, only)), None) = (named.next(), named.next()) {
            return SecretText::new(only.expose().to_owned());
        }
        let texts = self.fields.iter();
        let texts = texts.map(|(name, secret)| (name.clone(), Value::String(secret.expose().to_owned())));
        let whole = Wiped(Value::Object(texts.collect()));
        SecretText::new(whole.0.to_string())
    }

    /// This credential with other values in some fields, sealed for the same destination: the plaintext that the vault
    /// seals.
    ///
    /// # Errors
    /// [`VendorError`] for a field that is unknown or not of the manifest's form.
    pub(super) fn with(
        &self,
        manifest: &Manifest,
        changed: Vec<(String, SecretText)>,
    ) -> Result<SecretBytes, VendorError> {
        let kept = self
            .fields
            .iter()
            .filter(|(name, _)| !changed.iter().any(|(other, _)| other == *name));
        let kept: Vec<_> = kept
            .map(|(name, secret)| (name.clone(), SecretText::new(secret.expose().to_owned())))
            .collect();
        let fields = changed.into_iter().chain(kept).collect();
        pack(manifest, &self.destination, fields)
    }

    /// A digest of the whole credential, by which what belongs to it is remembered in memory.
    pub(crate) fn digest(&self) -> Digest {
        let mut text = Zeroizing::new(serde_json::to_string(&self.destination).unwrap_or_default());
        for (name, secret) in &self.fields {
            text.push_str(name);
            text.push('\0');
            text.push_str(secret.expose());
            text.push('\0');
        }
        Digest::of(text.as_bytes())
    }

    /// The variables `root.…` and `params.…`.
    pub(crate) fn values(&self) -> Values<'_> {
        let params = params(&self.destination.params);
        let named = self.fields.iter();
        named.fold(params, |values, (name, secret)| {
            values.secret(&format!("root.{name}"), secret)
        })
    }
}

/// Writes a root credential with its destination: the plaintext that the vault seals. `base_url` replaces scheme,
/// host and port of the manifest's base, for test instances; the base's path stays.
///
/// # Errors
/// [`VendorError`] for fields or parameters that are missing, unknown, or not of the manifest's form, and for a
/// `base_url` that is more than scheme, host and port.
pub fn pack_root(
    manifest: &Manifest,
    base_url: Option<&Url>,
    params: &[(String, String)],
    fields: Vec<(String, SecretText)>,
) -> Result<SecretBytes, VendorError> {
    pack(manifest, &destination(manifest, base_url, params)?, fields)
}

fn pack(
    manifest: &Manifest,
    destination: &Destination,
    fields: Vec<(String, SecretText)>,
) -> Result<SecretBytes, VendorError> {
    check_fields(manifest, &fields)?;
    let texts: serde_json::Map<String, Value> = fields
        .into_iter()
        .map(|(name, secret)| (name, Value::String(secret.expose().to_owned())))
        .collect();
    let packed = Wiped(serde_json::json!({ "destination": destination, "fields": texts }));
    // Room enough that the text is not moved while it grows, which would leave copies.
    let mut out = Vec::with_capacity(16 * 1024);
    serde_json::to_writer(&mut out, &packed.0).map_err(|_| VendorError::Corrupt)?;
    Ok(SecretBytes::new(out))
}

fn check_fields(manifest: &Manifest, fields: &[(String, SecretText)]) -> Result<(), VendorError> {
    for (name, secret) in fields {
        let table = manifest
            .root
            .fields
            .get(name)
            .ok_or_else(|| VendorError::UnknownField(name.clone()))?;
        if secret.is_empty() || !secret.expose().starts_with(&table.prefix) {
            return Err(VendorError::FieldForm {
                name: name.clone(),
                prefix: table.prefix.clone(),
            });
        }
    }
    let given = |name: &String| fields.iter().filter(|(given, _)| given == name).count() == 1;
    if let Some(name) = manifest.root.fields.keys().find(|name| !given(name)) {
        return Err(VendorError::MissingField(name.clone()));
    }
    let values = || {
        let named = fields.iter();
        named.fold(Values::default(), |values, (name, secret)| {
            values.secret(&format!("root.{name}"), secret)
        })
    };
    manifest.signers().try_for_each(|signer| signer.check(&values()))
}

pub(super) fn destination(
    manifest: &Manifest,
    base_url: Option<&Url>,
    given: &[(String, String)],
) -> Result<Destination, VendorError> {
    let params = check_params(manifest, given)?;
    let hosts = hosts(manifest, &params)?;
    let base = plain(&manifest.http.base, &params)?;
    let mut base = Url::parse(&base).map_err(|_| VendorError::Base)?;
    let scheme = base.scheme().to_owned();
    let mut origins = hosts
        .iter()
        .map(|host| {
            Url::parse(&format!("{scheme}://{host}"))
                .ok()
                .and_then(|url| Origin::of(&url))
        })
        .map(|origin| origin.map(|origin| origin.as_str().to_owned()).ok_or(VendorError::Base))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(other) = base_url {
        base = moved(&base, other)?;
        origins = vec![Origin::of(&base).ok_or(VendorError::Base)?.as_str().to_owned()];
    }
    Ok(Destination {
        vendor: manifest.name().to_string(),
        hosts,
        origins,
        base,
        params,
        auth: auth(manifest),
    })
}

/// `base` with scheme, host and port of `other`.
pub(super) fn moved(base: &Url, other: &Url) -> Result<Url, VendorError> {
    // The URL of a database has no `/` of its own.
    let only_origin = matches!(other.path(), "/" | "") && other.query().is_none() && other.fragment().is_none();
    if !only_origin
        || !other.username().is_empty()
        || !(matches!(other.scheme(), "http" | "https") || native::speaks(other.scheme()))
    {
        return Err(VendorError::Base);
    }
    let origin = other.as_str().trim_end_matches('/');
    Url::parse(&format!("{origin}{}", base.path())).map_err(|_| VendorError::Base)
}

fn check_params(manifest: &Manifest, given: &[(String, String)]) -> Result<BTreeMap<String, String>, VendorError> {
    for (name, value) in given {
        let table = manifest
            .params
            .get(name)
            .ok_or_else(|| VendorError::UnknownParam(name.clone()))?;
        let letters = table
            .charset
            .as_ref()
            .is_none_or(|set| value.chars().all(|letter| set.contains(letter)));
        if value.is_empty() || !letters || value.chars().count() > table.max.unwrap_or(256) {
            return Err(VendorError::ParamForm(name.clone()));
        }
    }
    let params: BTreeMap<_, _> = given.iter().cloned().collect();
    let missing =
        |(name, table): &(&String, &super::tables::ParamTable)| !table.optional && !params.contains_key(*name);
    match manifest.params.iter().find(missing) {
        Some((name, _)) => Err(VendorError::MissingParam(name.clone())),
        None => Ok(params),
    }
}

fn hosts(manifest: &Manifest, params: &BTreeMap<String, String>) -> Result<Vec<String>, VendorError> {
    let hosts = manifest.http.hosts.iter().map(|host| plain(host, params));
    let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    // A parameter must not turn into another host, a port or a user name.
    if hosts.iter().all(|host| is_host(host)) {
        Ok(hosts)
    } else {
        Err(VendorError::Base)
    }
}

fn params(params: &BTreeMap<String, String>) -> Values<'static> {
    params.iter().fold(Values::default(), |values, (name, value)| {
        values.with(&format!("params.{name}"), value.as_str())
    })
}

pub(super) fn plain(text: &Text, given: &BTreeMap<String, String>) -> Result<String, VendorError> {
    let text = text.render(&params(given))?.ok_or(VendorError::Base)?;
    Ok(text.to_string())
}

fn auth(manifest: &Manifest) -> Value {
    serde_json::to_value(&manifest.root.auth).unwrap_or_default()
}

/// Refuses a manifest that differs from what the credential was sealed for, and any other place.
pub(super) fn admit(manifest: &Manifest, root: &RootSecret, url: &Url) -> Result<(), VendorError> {
    let sealed = &root.destination;
    let same = sealed.vendor == manifest.name().as_str()
        && sealed.auth == auth(manifest)
        && hosts(manifest, &sealed.params)? == sealed.hosts;
    if !same {
        return Err(VendorError::OtherManifest);
    }
    let origin = Origin::of(url);
    let within = origin.is_some_and(|origin| sealed.origins.iter().any(|allowed| allowed == origin.as_str()));
    if within && url.username().is_empty() && url.password().is_none() {
        Ok(())
    } else {
        Err(VendorError::OtherPlace)
    }
}

/// Puts the root credential into a request.
pub(crate) fn authorize_root(
    manifest: &Manifest,
    root: &RootSecret,
    login: Option<&SecretText>,
    url: &mut Url,
    headers: &mut HeaderMap,
) -> Result<(), VendorError> {
    admit(manifest, root, url)?;
    let values = root.values();
    match &manifest.root.auth {
        Auth::None {} => {}
        Auth::Query { params } => {
            for (name, text) in params {
                url.query_pairs_mut().append_pair(name, &filled(text, &values)?);
            }
        }
        Auth::Login(table) => put_token(&table.header, &table.format, login, headers)?,
        Auth::Jwt(shown) => put_token(&shown.header, &shown.format, login, headers)?,
        Auth::Bearer { value } => {
            let token = filled(value, &values)?;
            headers.insert(
                AUTHORIZATION,
                header_value(&Zeroizing::new(format!("Bearer {}", *token)))?,
            );
        }
        Auth::Basic { user, password } => {
            headers.insert(
                AUTHORIZATION,
                basic(&filled(user, &values)?, &filled(password, &values)?)?,
            );
        }
        Auth::Header { headers: named } => {
            for (name, text) in named {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| TemplateError::Header)?;
                headers.insert(name, header_value(&filled(text, &values)?)?);
            }
        }
    }
    Ok(())
}

/// The token of a login, or one that was signed here.
fn put_token(name: &str, format: &str, token: Option<&SecretText>, headers: &mut HeaderMap) -> Result<(), VendorError> {
    let token = token.ok_or_else(|| TemplateError::Unset("token".to_owned()))?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| TemplateError::Header)?;
    let value = Zeroizing::new(format.replace("{token}", token.expose()));
    headers.insert(name, header_value(&value)?);
    Ok(())
}

/// Puts a made key into a request to the vendor it was made at.
pub(crate) fn authorize_credential(
    manifest: &Manifest,
    root: &RootSecret,
    secret: &SecretText,
    url: &mut Url,
    headers: &mut HeaderMap,
) -> Result<(), VendorError> {
    admit(manifest, root, url)?;
    inject(&manifest.proxy.inject, secret, url, headers)
}

/// Puts a key into a caller's request, at the manifest's places. Whatever stood there is replaced.
///
/// # Errors
/// When the key cannot stand in a header.
pub fn inject(slots: &[Slot], secret: &SecretText, url: &mut Url, headers: &mut HeaderMap) -> Result<(), VendorError> {
    let with = |format: &str| put(format, secret);
    for slot in slots {
        match slot {
            Slot::Header { name, format } => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| TemplateError::Header)?;
                headers.insert(name, header_value(&with(format)?)?);
            }
            Slot::Basic { user, password } => {
                headers.insert(AUTHORIZATION, basic(&with(user)?, &with(password)?)?);
            }
            Slot::Query { name, format } => {
                // The other parameters stay byte for byte as they came.
                let of_slot = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(key, _)| key == *name);
                let given = url.query().unwrap_or_default().split('&');
                let kept: Vec<&str> = given.filter(|pair| !pair.is_empty() && !of_slot(pair)).collect();
                let kept = kept.join("&");
                url.set_query(Some(kept.as_str()).filter(|kept| !kept.is_empty()));
                url.query_pairs_mut().append_pair(name, &with(format)?);
            }
        }
    }
    Ok(())
}

/// A format filled in: `{secret}` is the whole key, `{name}` one field of a key that has several.
fn put(format: &str, secret: &SecretText) -> Result<Zeroizing<String>, VendorError> {
    let parts = placeholders(format)
        .any(|name| name != "secret")
        .then(|| fields(secret));
    let mut out = Zeroizing::new(String::with_capacity(format.len() + secret.expose().len()));
    let mut rest = format;
    while let Some((before, name, after)) = next_placeholder(rest) {
        out.push_str(before);
        let field = parts.as_ref().and_then(|parts| parts.get(name));
        match (name, field) {
            (_, Some(field)) => out.push_str(field.expose()),
            ("secret", None) => out.push_str(secret.expose()),
            (other, None) => return Err(TemplateError::Unset(other.to_owned()).into()),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The names between braces in a format, in order.
pub(super) fn placeholders(format: &str) -> impl Iterator<Item = &str> {
    let mut rest = format;
    std::iter::from_fn(move || {
        let (_, name, after) = next_placeholder(rest)?;
        rest = after;
        Some(name)
    })
}

/// Text before the next `{name}`, the name, and the text after it. Braces around anything else are text.
pub(super) fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text.get(from..)?.find('{')?;
        let inside = text.get(open + 1..)?;
        let close = inside.find('}')?;
        let name = inside.get(..close)?;
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Some((text.get(..open)?, name, inside.get(close + 1..)?));
        }
        from = open + 1;
    }
}

/// Whether a new key can be kept and put into a request: not too long, and on one line.
pub(super) fn is_usable(secret: &SecretText) -> bool {
    let broken = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
    secret.len() <= MAX_SECRET && !secret.expose().bytes().any(broken)
}

/// What stands for the id of a key that is its own id: a digest, since ids are stored and shown.
pub(super) fn key_is_id(secret: &SecretText) -> String {
    let digest = Digest::of(secret.expose().as_bytes());
    let half = digest.as_bytes().get(..20).unwrap_or_default();
    format!("digest-{}", crate::base::id::base32_lower(half))
}

/// The fields of a key that has several; empty for a key that is one text.
#[must_use]
pub fn fields(secret: &SecretText) -> BTreeMap<String, SecretText> {
    if !secret.expose().starts_with('{') {
        return BTreeMap::new();
    }
    let Ok(value) = serde_json::from_str::<Value>(secret.expose()) else {
        return BTreeMap::new();
    };
    let whole = Wiped(value);
    let named = whole.0.as_object().into_iter().flatten();
    named
        .filter_map(|(name, value)| Some((name.clone(), SecretText::new(value.as_str()?.to_owned()))))
        .collect()
}

/// Refuses any place that the root credential was not sealed for, and gives the headers of a login's own proof.
pub(crate) fn authorize_login(
    manifest: &Manifest,
    root: &RootSecret,
    table: &Login,
    url: &Url,
    headers: &mut HeaderMap,
) -> Result<(), VendorError> {
    admit(manifest, root, url)?;
    if let Some(pair) = &table.basic {
        let values = root.values();
        let value = basic(&filled(&pair.user, &values)?, &filled(&pair.password, &values)?)?;
        headers.insert(AUTHORIZATION, value);
    }
    Ok(())
}

fn filled(text: &Text, values: &Values<'_>) -> Result<Zeroizing<String>, VendorError> {
    text.render(values)?
        .ok_or_else(|| TemplateError::Unset(text.source().to_owned()).into())
}

/// RFC 7617: the user name must not hold a colon.
fn basic(user: &str, password: &str) -> Result<HeaderValue, VendorError> {
    if user.contains(':') {
        return Err(TemplateError::Header.into());
    }
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    Ok(header_value(&Zeroizing::new(format!("Basic {}", *encoded)))?)
}
