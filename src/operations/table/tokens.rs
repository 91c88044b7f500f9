//! Operations: tokens, what they are worth and their end.

use super::super::{Encoding, Group, Operation, Who, openapi};
use super::shape;
use crate::model::revocation::RevocationPage;
use crate::service::feed::FeedAsk;
use crate::service::introspect::{Introspection, TokenAsk};

const GET: Operation = Operation {
    group: Group::Tokens,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Tokens,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "introspectToken",
        path: "/v1/token/introspect",
        summary: "Whether a token is active, and what it allows the caller (RFC 7662)",
        who: Who::PrimOrOperator,
        input: Some(shape::<TokenAsk>),
        body: Encoding::JsonOrForm,
        output: Some(shape::<Introspection>),
        ..POST
    },
    Operation {
        id: "revokeToken",
        path: "/v1/token/revoke",
        summary: "End a token, and every token narrowed from it (RFC 7009)",
        who: Who::Signer,
        input: Some(shape::<TokenAsk>),
        body: Encoding::JsonOrForm,
        output: Some(openapi::any_object),
        problems: &["rate_limited"],
        ..POST
    },
    Operation {
        id: "listRevocations",
        path: "/v1/revocations",
        summary: "What ended early, signed by the log: for those who check tokens offline",
        who: Who::Principal,
        query: Some(shape::<FeedAsk>),
        output: Some(shape::<RevocationPage>),
        stream: true,
        ..GET
    },
];
