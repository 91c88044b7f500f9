//! The tables of a manifest file, as they are written. What they mean is told in `vendors/README.md`.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jwt::{Shown, Signer};
use super::login::Login;
use super::made::{Generate, IdFrom, Poll, Source, Step};
pub(crate) use super::rotate::{RenewTable, RotateTable};
pub(crate) use super::rotate_root::{RootCallTable, RootRotateTable, WhoTable};
use super::template::{Text, Tree};
use super::words::{Charset, Pointer, RetryAfter};
pub use crate::model::rotation::RotateMode;
use crate::model::scope::{Name, Scope};

/// `[vendor]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct VendorTable {
    pub(crate) id: Name,
    pub(crate) title: String,
    pub(crate) docs: Option<String>,
    pub(crate) class: u8,
    pub(crate) isolates: Isolates,
    pub(crate) evidence: Evidence,
    pub(crate) evidence_source: Option<String>,
    pub(crate) evidence_date: Option<String>,
    pub(crate) resale: Resale,
    #[serde(default)]
    pub(crate) can_mint: bool,
    /// Whether a key in vain costs, so that it is paid for before it is made.
    pub(crate) settle_first: Option<bool>,
    /// Name of the vendor's own interface document that the manifest is checked against.
    pub(crate) spec: Option<String>,
}

/// Whether keys of one account can harm each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolates {
    /// Each key has limits and data of its own.
    Key,
    /// All keys of an account share them.
    Account,
}

/// How well the manifest is known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Written from documents.
    Draft,
    /// Every call is checked against the vendor's own document where there is one, and the whole life of a key was
    /// run against a mock vendor.
    Test,
    /// Its whole life was run against the vendor.
    Live,
}

/// Whether the vendor's terms let keys be sold on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resale {
    /// Yes.
    Allowed,
    /// No.
    Forbidden,
    /// Nobody has looked.
    Unknown,
}

/// One entry of `[params]`: what the operator fills in once per account; not secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ParamTable {
    #[serde(default)]
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) optional: bool,
    /// Characters allowed, such as `a-z0-9-`.
    pub(crate) charset: Option<Charset>,
    pub(crate) max: Option<usize>,
    /// A made-up value, for examples and the checks against the vendor's document.
    pub(crate) sample: Option<String>,
}

/// `[root]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RootTable {
    pub(crate) fields: BTreeMap<String, RootField>,
    pub(crate) auth: Auth,
    /// How the vendor's API makes another root credential; absent where people do.
    pub(crate) rotate: Option<RootRotateTable>,
}

/// One secret field of a root credential.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RootField {
    #[serde(default)]
    pub(crate) title: String,
    /// What every such secret begins with; catches a secret pasted into the wrong field.
    #[serde(default)]
    pub(crate) prefix: String,
}

/// How the root credential proves itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// `Authorization: Bearer …`.
    Bearer { value: Text },
    /// `Authorization: Basic …` (RFC 7617).
    Basic { user: Text, password: Text },
    /// Headers of the vendor's own.
    Header { headers: BTreeMap<String, Text> },
    /// Query parameters, for vendors that know no other way.
    Query { params: BTreeMap<String, Text> },
    /// A call that gives a token for a while: OAuth client credentials, or a vendor's own login.
    Login(Box<Login>),
    /// A JSON Web Token (RFC 7519) that dekeys signs for a short while.
    Jwt(Box<Shown>),
    /// Nothing: the secret stands in the bodies.
    None {},
}

/// `[http]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct HttpTable {
    pub(crate) base: Text,
    pub(crate) hosts: Vec<Text>,
    pub(crate) timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
}

/// The unit of an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryUnit {
    /// `2026-11-20T20:31:07Z`.
    Rfc3339Utc,
    /// Seconds since 1970.
    UnixS,
    /// Milliseconds since 1970.
    UnixMs,
    /// Seconds from now.
    Seconds,
    /// Minutes from now, rounded up.
    MinutesCeil,
    /// Hours from now, rounded up.
    HoursCeil,
    /// Days from now, rounded up.
    DaysCeil,
    /// A span such as `15m`, in whole minutes, rounded up: Go and Elasticsearch read it alike.
    Duration,
    /// A span such as `900s`: Google's JSON.
    DurationS,
    /// `2026-11-21`, rounded up to the next midnight in UTC.
    DateCeil,
    /// The vendor ends no key by itself; dekeys does.
    #[default]
    None,
}

impl ExpiryUnit {
    /// Whether the vendor ends keys by itself.
    pub const fn ends(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// `[expiry]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ExpiryTable {
    pub(crate) unit: ExpiryUnit,
    pub(crate) min_s: Option<i64>,
    pub(crate) max_s: Option<i64>,
}

/// A method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    #[default]
    Json,
    Form,
}

/// Who a call is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum As {
    Root,
    Credential,
}

/// `[create]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct CreateTable {
    /// The key is a token signed here, whose claims are the `body`; nothing is called.
    pub(crate) sign: Option<Signer>,
    #[serde(default = "post")]
    pub(crate) method: Verb,
    #[serde(default = "nowhere")]
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    #[serde(default)]
    pub(crate) ok: BTreeSet<u16>,
    /// The key in the answer; absent where it has several `fields` or dekeys draws it.
    pub(crate) secret: Option<Pointer>,
    /// A key of several fields: each one's place in the answer.
    #[serde(default)]
    pub(crate) fields: BTreeMap<String, Source>,
    pub(crate) generate: Option<Generate>,
    pub(crate) id: Option<Pointer>,
    #[serde(default)]
    pub(crate) id_from: IdFrom,
    pub(crate) expires: Option<Pointer>,
    pub(crate) expires_unit: Option<ExpiryUnit>,
    #[serde(default)]
    pub(crate) name: Shape,
    #[serde(default)]
    pub(crate) idempotency: Idempotency,
    pub(crate) poll: Option<Poll>,
    /// Calls that follow; when one fails the key is ended again.
    #[serde(default)]
    pub(crate) then: Vec<Step>,
}

/// How the vendor-side name is shaped.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table", default)]
pub(crate) struct Shape {
    pub(crate) charset: Charset,
    pub(crate) max: usize,
}

/// What makes a repeated creation harmless.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Idempotency {
    /// The name: dekeys looks for it before it repeats.
    #[default]
    AdoptByName,
    /// A header that the vendor remembers, for `window_s` seconds where that is said.
    Header { name: String, window_s: Option<i64> },
}

/// `[list]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ListTable {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default = "ok_200")]
    pub(crate) ok: BTreeSet<u16>,
    pub(crate) items: Pointer,
    pub(crate) id: Pointer,
    pub(crate) name: Pointer,
    #[serde(default)]
    pub(crate) page: Page,
}

/// How a list goes on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "style", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Page {
    /// All keys are on one page.
    #[default]
    None,
    /// Page numbers.
    #[serde(rename = "page")]
    Number {
        param: String,
        #[serde(default = "first_page")]
        first: u64,
        size: Option<u64>,
        size_param: Option<String>,
    },
    /// The number of keys to leave out.
    Offset {
        param: String,
        size: Option<u64>,
        size_param: Option<String>,
    },
    /// A mark taken from the page before.
    Cursor {
        param: String,
        from: Pointer,
        more: Option<Pointer>,
        size: Option<u64>,
        size_param: Option<String>,
    },
    /// The address of the next page, in the answer.
    Url { from: Pointer },
    /// The address of the next page, in a `Link` header (RFC 8288).
    LinkHeader {},
}

/// `[revoke]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RevokeTable {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    pub(crate) ok: BTreeSet<u16>,
    #[serde(default = "gone_404")]
    pub(crate) gone: BTreeSet<u16>,
    #[serde(rename = "as", default = "as_root")]
    pub(crate) as_: As,
    #[serde(default)]
    pub(crate) settle_s: i64,
    /// Calls that come before, such as taking rights away; what is gone already is no failure.
    #[serde(default)]
    pub(crate) first: Vec<Step>,
}

/// `[probe]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ProbeTable {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    #[serde(rename = "as", default = "as_credential")]
    pub(crate) as_: As,
    #[serde(default = "ok_200")]
    pub(crate) ok: BTreeSet<u16>,
    #[serde(default = "dead_401")]
    pub(crate) dead: BTreeSet<u16>,
    #[serde(default)]
    pub(crate) propagate_retry_s: i64,
}

/// `[errors]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct ErrorTable {
    pub(crate) rules: Vec<Rule>,
    pub(crate) success: Option<Success>,
    /// A 2xx answer with something at one of these places is an error: GraphQL.
    pub(crate) fail_if: Vec<Pointer>,
    pub(crate) retry_after: Vec<RetryAfter>,
    /// Statuses of a creation that prove that nothing was made.
    pub(crate) not_created: Option<BTreeSet<u16>>,
}

/// One rule: all its conditions hold, then its class counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Rule {
    pub(crate) status: Option<u16>,
    pub(crate) body_pointer: Option<Pointer>,
    pub(crate) contains: Option<String>,
    pub(crate) class: RuleClass,
    pub(crate) created: Option<RuleCreated>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuleClass {
    Auth,
    Quota,
    RateLimited,
    Permanent,
    Retryable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuleCreated {
    No,
    Maybe,
}

/// For vendors that answer 200 with an error inside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Success {
    pub(crate) pointer: Pointer,
    pub(crate) equals: Value,
}

/// One entry of `[[defects]]`: a fault of the vendor's own document, so that it is not taken for the manifest's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Defect {
    /// Where the check finds it, as in `create.body/limit`.
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Limits {
    /// Most keys that one root credential may have alive.
    pub max_keys: Option<u32>,
    /// Most keys made per minute.
    pub per_minute: Option<u32>,
    /// Most calls about keys at once, of those that dekeys makes by itself.
    pub at_once: Option<u32>,
}

/// `[proxy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ProxyTable {
    pub(crate) hosts: Vec<Text>,
    pub(crate) inject: Vec<Slot>,
    #[serde(default)]
    pub(crate) allow: Vec<PathRule>,
    #[serde(default)]
    pub(crate) deny: Vec<PathRule>,
    #[serde(default)]
    pub(crate) strip_response: Vec<String>,
    #[serde(default)]
    pub(crate) redact: Vec<String>,
}

/// Where a key stands in a caller's request. `{secret}` in a format is the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "snake_case", deny_unknown_fields)]
pub enum Slot {
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        format: String,
    },
    /// A query parameter; only for vendors that know no other way.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        format: String,
    },
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
}

/// A method and a path that may, or may not, be forwarded. `*` is one segment, `**` any number; no method is every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct PathRule {
    /// The method; absent is every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path, from the root of the host.
    pub path: String,
    /// The scope a request needs; absent where the vendor has only one, or where any of them will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether the request may become a `WebSocket` (RFC 6455).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub websocket: bool,
}

/// `[mock]`: what a mock vendor needs and a manifest does not say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(crate) struct MockTable {
    /// What made keys begin with.
    pub(crate) secret_prefix: String,
    /// What the vendor's ids begin with.
    pub(crate) id_prefix: String,
    pub(crate) routes: Vec<MockRoute>,
}

/// A route that a key is for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct MockRoute {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default = "status_200")]
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// The scope a key needs, where the vendor has scopes.
    pub(crate) scope: Option<Scope>,
    /// What is answered as server-sent events to a request whose JSON says `"stream": true`; text is sent as it is.
    #[serde(default)]
    pub(crate) events: Vec<Value>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            charset: Charset::plain(),
            max: 64,
        }
    }
}

pub(super) fn ok_200() -> BTreeSet<u16> {
    BTreeSet::from([200])
}

fn gone_404() -> BTreeSet<u16> {
    BTreeSet::from([404])
}

fn dead_401() -> BTreeSet<u16> {
    BTreeSet::from([401, 403])
}

const fn first_page() -> u64 {
    1
}

const fn status_200() -> u16 {
    200
}

const fn as_root() -> As {
    As::Root
}

const fn as_credential() -> As {
    As::Credential
}

const fn post() -> Verb {
    Verb::Post
}

fn nowhere() -> Text {
    Text::fixed("")
}
