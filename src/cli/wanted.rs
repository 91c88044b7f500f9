//! References to keys in files: `dk://vendor/scope`, with `#field` where a key has several. Resolved for a prim.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::page::{rows, text};
use super::resolve::{PIN, first_problem, pointer};
use super::token;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::client::Request;
use crate::client::secret;
use crate::client::token::{Narrowing, TokenError, attenuate};
use crate::model::scope::{InvalidWord, Name, Reference};

/// The most that one request resolves.
const AT_ONCE: usize = 20;

/// One reference as it stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What.
    pub reference: Reference,
    /// Which field of the key, or `base_url`.
    pub field: Option<String>,
}

/// Who resolves, and with what.
pub(crate) struct Asked {
    /// The prim.
    pub prim: Name,
    /// The agent's token; `--token-file` if absent. Read anew each time.
    pub token: Option<PathBuf>,
}

/// A key.
pub(crate) struct Found {
    /// What it is.
    pub reference: Reference,
    /// Its lease.
    pub lease: String,
    /// When that ends.
    pub expires: Timestamp,
    fields: Vec<(String, SecretText)>,
    base_url: Option<String>,
}

impl FromStr for Wanted {
    type Err = InvalidWord;
    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let (reference, field) = match text.split_once('#') {
            Some((reference, field)) => (reference, Some(field.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            reference: reference.parse()?,
            field,
        })
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}#{field}", self.reference),
            None => write!(f, "{}", self.reference),
        }
    }
}

impl Wanted {
    /// Its value among what was found.
    ///
    /// # Errors
    /// The key has several fields and none is named, or not this one.
    pub(crate) fn of(&self, found: &[Found]) -> Result<SecretText, Failure> {
        let unclear = |names: &[&str]| {
            let fix = format!(
                "write {}#{}",
                self.reference,
                names.join(&format!(" or {}#", self.reference))
            );
            Failure::usage(format!("it is not clear which field of the key `{self}` means"), fix)
        };
        let one = found
            .iter()
            .find(|one| one.reference == self.reference)
            .ok_or_else(|| unclear(&[]))?;
        let names: Vec<&str> = one.fields.iter().map(|(name, _)| name.as_str()).collect();
        let field = match (&self.field, one.fields.as_slice()) {
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
            (Some(wanted), fields) => fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value),
        };
        let base_url = || {
            one.base_url
                .clone()
                .filter(|_| self.field.as_deref() == Some("base_url"))
        };
        match field {
            Some(field) => Ok(secret::joined(&[secret::Piece::Secret(field)])),
            None => base_url().map(SecretText::new).ok_or_else(|| unclear(&names)),
        }
    }
}

impl Found {
    /// What must not be seen.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretText> {
        self.fields.iter().map(|(_, value)| value)
    }
}

/// Resolves all of them, each reference once.
///
/// # Errors
/// The token cannot be read, or one of them is refused.
pub(crate) async fn find(asked: &Asked, wanted: &[Wanted], context: &mut Context<'_>) -> Result<Vec<Found>, Failure> {
    let mut references: Vec<&Reference> = wanted.iter().map(|wanted| &wanted.reference).collect();
    references.sort();
    references.dedup();
    let mut found = Vec::with_capacity(references.len());
    for some in references.chunks(AT_ONCE) {
        let unverified = pinned(asked, context)?;
        let items: Vec<Value> = some.iter().map(|reference| json!({ "reference": reference })).collect();
        let request = Request::post(&["v1", "resolve"]).json(&json!({ "items": items }));
        let answer = context.ask(&request.bearer(unverified)).await?.json();
        first_problem(&answer)?;
        for row in rows(&answer) {
            found.push(read(row).ok_or_else(|| {
                let fix = "check the address: dekeys status, --addr, DEKEYS_ADDR";
                Failure::new("not_dekeys", exit::FAILED, "an answer holds no key", fix)
            })?);
        }
    }
    Ok(found)
}

/// The agent's token, pinned to this prim as resolving asks for, unless nothing can be added to it.
fn pinned(asked: &Asked, context: &mut Context<'_>) -> Result<SecretText, Failure> {
    let unverified = token::read(asked.token.as_deref(), context)?;
    let narrowing = Narrowing {
        prims: vec![asked.prim.clone()],
        until: Some(context.now().plus(PIN)),
        ..Narrowing::default()
    };
    match attenuate(&unverified, &narrowing) {
        Err(TokenError::Final | TokenError::Profile(_)) => Ok(unverified),
        narrower => Ok(narrower?),
    }
}

fn read(row: &Value) -> Option<Found> {
    let names: Vec<&String> = row.pointer("/credential/fields")?.as_object()?.keys().collect();
    let field = |name: &&String| {
        let value = secret::at(row, &format!("/credential/fields/{}", pointer(name)))?;
        Some(((*name).clone(), value))
    };
    let fields: Vec<_> = names.iter().filter_map(field).collect();
    let base_url = row.pointer("/credential/inject/base_url").and_then(Value::as_str);
    (!fields.is_empty()).then_some(Found {
        reference: text(row, "/reference").parse().ok()?,
        lease: text(row, "/lease_id"),
        expires: Timestamp::parse_rfc3339(&text(row, "/expires"))?,
        fields,
        base_url: base_url.map(str::to_owned),
    })
}
