//! The operation table: everything the HTTP interface offers, once. The router, the OpenAPI document, the list of
//! routes that answer while sealed and the documentation are made from it (DESIGN 4).

pub mod openapi;
mod table;
pub mod texts;

use schemars::{Schema, SchemaGenerator};

pub use table::{EVERYWHERE, operations};

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Does.
    Post,
    /// Proposes or enters something at a name.
    Put,
    /// Removes configuration.
    Delete,
}

impl Method {
    /// As HTTP writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Which part of the interface an operation belongs to: a tag of the OpenAPI document, and a file of the HTTP surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What this instance is and how it stands.
    System,
    /// Offers, grants, leases and the keys behind them.
    Grants,
    /// Policies and what people decide.
    Policies,
    /// Vendors and their root credentials.
    Vendors,
    /// Keys that give way to others.
    Rotations,
    /// Everybody dekeys knows.
    Principals,
    /// dekeys' own keys.
    Keys,
    /// The audit log and receipts.
    Log,
    /// Tokens: what they are worth, and their end.
    Tokens,
    /// Who is told of events.
    Webhooks,
    /// What was paid.
    Payments,
}

impl Group {
    /// As the OpenAPI document names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Grants => "grants",
            Self::Policies => "policies",
            Self::Vendors => "vendors",
            Self::Rotations => "rotations",
            Self::Principals => "principals",
            Self::Keys => "keys",
            Self::Log => "log",
            Self::Tokens => "tokens",
            Self::Webhooks => "webhooks",
            Self::Payments => "payments",
        }
    }
}

/// What a caller must prove (table "Who proves what").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Nothing.
    Anyone,
    /// Nothing, a payment, or a signature.
    Buyer,
    /// The grant's holder, owner, or an operator.
    Holder,
    /// A prim.
    Prim,
    /// A prim for its own, or an operator.
    PrimOrOperator,
    /// Whoever has the token and signs with a key of its own, known here or not.
    Signer,
    /// Any known principal.
    Principal,
    /// A human or operator.
    Person,
    /// An operator.
    Operator,
    /// Whoever reaches the admin address.
    Admin,
}

impl Who {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Buyer => "anyone; a payment or a signature decides whose grant it is",
            Self::Holder => "the grant's holder or owner, by signature; an operator",
            Self::Prim => "a prim, by signature or session, with the agent's token",
            Self::PrimOrOperator => "a prim for its own leases, an operator for all",
            Self::Signer => "whoever has the token, by a signature with any key",
            Self::Principal => "any enrolled principal, by signature or session",
            Self::Person => "a human or operator, by signature or session",
            Self::Operator => "an operator, by signature or session",
            Self::Admin => "whoever reaches the admin address",
        }
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As JSON.
    Json,
    /// As JSON or as a form, which OAuth's endpoints take.
    JsonOrForm,
}

/// Makes the schema of a type.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
pub struct Operation {
    /// Unique, camel case; clients are generated with it.
    pub id: &'static str,
    /// The part of the interface.
    pub group: Group,
    /// The method.
    pub method: Method,
    /// The path, parameters in braces.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What a caller must prove.
    pub who: Who,
    /// The query's shape: an object whose properties are the parameters.
    pub query: Option<Shape>,
    /// The body's shape.
    pub input: Option<Shape>,
    /// How the body is written.
    pub body: Encoding,
    /// The shape of a good answer.
    pub output: Option<Shape>,
    /// With `Accept: text/event-stream` it answers as a stream that goes on.
    pub stream: bool,
    /// The status of a good answer.
    pub ok: u16,
    /// Codes of the problems it can answer besides those every operation can.
    pub problems: &'static [&'static str],
    /// Answers while the vault is sealed.
    pub while_sealed: bool,
    /// On the admin address instead of the public one.
    pub admin: bool,
}

/// The operation with an id.
#[must_use]
pub fn operation(id: &str) -> Option<&'static Operation> {
    operations().find(|operation| operation.id == id)
}
