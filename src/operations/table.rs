//! The rows of the operation table, a file a group.

mod grants;
mod keys;
mod log;
mod payments;
mod people;
mod policies;
mod rotations;
mod system;
mod tokens;
mod vendors;
mod webhooks;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Encoding, Group, Method, Operation, Who};

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const GET: Operation = Operation {
    id: "",
    group: Group::System,
    method: Method::Get,
    path: "",
    summary: "",
    who: Who::Anyone,
    query: None,
    input: None,
    body: Encoding::Json,
    output: None,
    stream: false,
    ok: 200,
    problems: &[],
    while_sealed: false,
    admin: false,
};
const POST: Operation = Operation {
    method: Method::Post,
    ..GET
};
const PUT: Operation = Operation {
    method: Method::Put,
    ..GET
};

/// Problems any operation that reads a signature can answer.
pub const EVERYWHERE: &[&str] = &[
    "invalid_json",
    "unknown_field",
    "invalid_request",
    "unknown_parameter",
    "body_too_large",
    "unsupported_media_type",
    "invalid_token",
    "signature_invalid",
    "clock_skew",
    "body_timeout",
    "request_timeout",
    "signature_required",
    "not_allowed",
    "vault_sealed",
    "reconciling",
    "overloaded",
    "internal",
];

/// The groups, in the order of the documentation.
const GROUPS: &[&[Operation]] = &[
    system::OPERATIONS,
    grants::OPERATIONS,
    payments::OPERATIONS,
    tokens::OPERATIONS,
    policies::OPERATIONS,
    vendors::OPERATIONS,
    rotations::OPERATIONS,
    people::OPERATIONS,
    keys::OPERATIONS,
    log::OPERATIONS,
    webhooks::OPERATIONS,
];

/// Every operation, in the order of the documentation.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    GROUPS.iter().copied().flatten()
}
