//! Operations: dekeys' own keys.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::keys::{KeyStatus, RotateAsk};

const POST: Operation = Operation {
    group: Group::Keys,
    who: Who::Operator,
    output: Some(shape::<KeyStatus>),
    admin: true,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "keyStatus",
        path: "/v1/sys/keys",
        summary: "dekeys' own keys: versions, ages, what waits to be sealed anew",
        group: Group::Keys,
        who: Who::Operator,
        output: Some(shape::<KeyStatus>),
        ..super::GET
    },
    Operation {
        id: "rotateKey",
        path: "/v1/sys/keys/rotate",
        summary: "Change the key that seals values, the one that signs tokens, or the one that signs the log",
        input: Some(shape::<RotateAsk>),
        ..POST
    },
    Operation {
        id: "beginRekey",
        path: "/v1/sys/rekey",
        summary: "Announce another unseal key; both open the vault until it is confirmed",
        input: Some(openapi::unseal_input),
        problems: &["unseal_key_invalid", "conflict"],
        ..POST
    },
    Operation {
        id: "confirmRekey",
        path: "/v1/sys/rekey/confirm",
        summary: "Give the announced unseal key once more; the one before opens nothing from then on",
        input: Some(openapi::unseal_input),
        problems: &["unseal_key_invalid", "conflict"],
        ..POST
    },
    Operation {
        id: "cancelRekey",
        path: "/v1/sys/rekey/cancel",
        summary: "Give up the announced unseal key",
        problems: &["conflict"],
        ..POST
    },
];
