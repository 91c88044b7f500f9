//! Vendors: manifests as data, root credentials sealed with their destination, and the adapter that makes, finds,
//! probes and ends keys by them.
//!
//! What it keeps: a request goes only to hosts that the root credential was sealed for; lists are read for ids and
//! names only; what a vendor says in words never leaves this module; a lost or unreadable answer to a creation is
//! "maybe made", never "not made".

mod adapter;
mod answer;
pub(crate) mod call;
mod check;
mod conform;
mod create;
pub(crate) mod expiry;
mod findings;
mod forward;
mod inject;
mod injection;
pub(crate) mod jwt;
pub(crate) mod login;
pub(crate) mod made;
mod manifest;
mod native;
mod pace;
mod pages;
mod present;
pub(crate) mod private_key;
mod recovery;
mod rotate;
mod rotate_root;
mod route;
pub(crate) mod tables;
pub(crate) mod template;
pub(crate) mod words;

use std::fmt;
use std::sync::LazyLock;

use rust_embed::RustEmbed;

use crate::base::canonical::Digest;
use crate::base::money::Money;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::{Name, Scope};

pub use adapter::{Adapter, Declared};
pub use conform::{Miss, Report, Tally, conform};
pub use findings::{Finding, ManifestErrors};
pub use forward::{forward_base, inject_key, inject_root};
pub use inject::{Destination, RootSecret, fields, inject, pack_root};
pub(crate) use inject::{authorize_login, authorize_root};
pub use injection::{Injection, InjectionPlace, injection};
pub use login::Logins;
pub use manifest::{Facts, Field, Manifest};
pub use present::presented;
pub use recovery::Recovery;
pub use rotate::RenewAsk;
pub use route::{NoRoute, Route, route};
pub use tables::{Evidence, ExpiryUnit, Isolates, Limits, PathRule, Resale, RotateMode, Slot};
pub use template::TemplateError;

#[derive(RustEmbed)]
#[folder = "vendors"]
struct Files;

/// The manifests that come with dekeys, by name, in order.
#[must_use]
pub fn shipped() -> Vec<(Name, &'static str)> {
    static TEXTS: LazyLock<Vec<(Name, String)>> = LazyLock::new(|| {
        let named = Files::iter().filter_map(|file| {
            let name = file.strip_suffix(".toml")?.parse().ok()?;
            let text = String::from_utf8(Files::get(&file)?.data.into_owned()).ok()?;
            Some((name, text))
        });
        let mut named: Vec<(Name, String)> = named.collect();
        named.sort();
        named
    });
    TEXTS.iter().map(|(name, text)| (name.clone(), text.as_str())).collect()
}

/// A root credential or a call that does not fit its manifest. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VendorError {
    /// A field that the manifest does not name.
    #[error("`{0}` is not a field of this vendor's root credential")]
    UnknownField(String),
    /// A field that is not given, or given twice.
    #[error("the root credential needs the field `{0}` once")]
    MissingField(String),
    /// A field that is empty or begins otherwise.
    #[error("the field `{name}` is empty or does not begin with `{prefix}`")]
    FieldForm {
        /// The field.
        name: String,
        /// What it begins with.
        prefix: String,
    },
    /// A field that should hold a private key and does not. The words hold nothing of it.
    #[error("the field `{field}` {words}")]
    Key {
        /// The field.
        field: String,
        /// What is wrong.
        words: &'static str,
    },
    /// A parameter that the manifest does not name.
    #[error("`{0}` is not a parameter of this vendor")]
    UnknownParam(String),
    /// A parameter that is not given.
    #[error("the parameter `{0}` is missing")]
    MissingParam(String),
    /// A parameter of another form.
    #[error("the parameter `{0}` is empty, too long, or has characters that it may not have")]
    ParamForm(String),
    /// A base that is more than scheme, host and port, or a host that is none.
    #[error("the base address must be scheme, host and port only, and every host an exact host")]
    Base,
    /// The manifest differs from the one the root credential was entered for.
    #[error("the root credential was entered for other hosts or another way of proof: enter it again")]
    OtherManifest,
    /// The request goes elsewhere.
    #[error("the request goes to a host that the root credential is not for")]
    OtherPlace,
    /// A template that cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The sealed bytes are not a root credential.
    #[error("the stored root credential cannot be read")]
    Corrupt,
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct CreateAsk {
    /// The name at the vendor; shaped to what the vendor takes.
    pub name: String,
    /// The scopes, all of the manifest.
    pub scopes: Vec<Scope>,
    /// The time now.
    pub now: Timestamp,
    /// When the key must still live; the vendor ends it then or a little later, if it can.
    pub expires: Timestamp,
    /// The most it may cost at the vendor, in USD. Refused where the vendor knows no limit.
    pub cost_cap: Option<Money>,
    /// For vendors that remember creations by a header.
    pub idempotency_key: String,
}

/// A key that was made.
pub struct Created {
    /// The key.
    pub secret: SecretText,
    /// The vendor's id of it.
    pub vendor_key_id: String,
    /// When the vendor ends it by itself.
    pub vendor_expires: Option<Timestamp>,
    /// The digest of the answer as it came.
    pub answer: Digest,
}

/// A key in a vendor's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The vendor's id of it.
    pub vendor_key_id: String,
    /// Its name at the vendor.
    pub name: String,
}

/// How a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The vendor ended it now.
    Revoked,
    /// The vendor does not know it.
    AlreadyGone,
}

/// What a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// The vendor takes the key.
    Alive,
    /// The vendor refuses the key.
    Dead,
    /// The answer tells neither, or the manifest has no probe.
    Unknown,
}

/// Why a vendor did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The root credential is not accepted.
    Auth,
    /// A limit of the account is reached.
    Quota,
    /// Too many calls; later.
    RateLimited,
    /// The same call will always fail.
    Permanent,
    /// The same call may work later.
    Retryable,
    /// None of these can be told.
    Unknown,
    /// dekeys itself did not send it.
    Refused,
}

impl FailureClass {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::Permanent => "permanent",
            Self::Retryable => "retryable",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
        }
    }
}

/// Whether a failed creation left a key behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// No key was made.
    No,
    /// A key may have been made: look for its name before anything else.
    Maybe,
    /// A key was made, and this is the vendor's id of it, but its value is lost.
    Yes(String),
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorFailure {
    /// Why.
    pub class: FailureClass,
    /// Whether a creation left a key behind; `No` for other calls.
    pub created: Existence,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// How long the vendor asks to wait.
    pub retry_after: Option<Ttl>,
    /// What happened, in words that may be shown; none of the vendor's.
    pub words: String,
}

impl fmt::Display for VendorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words, self.class.as_str())
    }
}

impl std::error::Error for VendorFailure {}

impl VendorFailure {
    /// dekeys did not send the call.
    fn refused(words: impl Into<String>) -> Self {
        Self {
            class: FailureClass::Refused,
            created: Existence::No,
            status: None,
            retry_after: None,
            words: words.into(),
        }
    }
}

impl From<VendorError> for VendorFailure {
    fn from(error: VendorError) -> Self {
        Self::refused(error.to_string())
    }
}
