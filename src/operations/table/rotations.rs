//! Operations: keys that give way to others.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::enroll::List;
use crate::service::rotate::{DueView, RotateAsk, RotationView};

const GET: Operation = Operation {
    group: Group::Rotations,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Rotations,
    who: Who::Operator,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listRotations",
        path: "/v1/rotations",
        summary: "Keys that are rotated from time to time, and when each is due",
        who: Who::Operator,
        output: Some(shape::<List<DueView>>),
        ..GET
    },
    Operation {
        id: "rotateCredential",
        path: "/v1/credentials/{id}/rotate",
        summary: "Rotate the key that a policy's grants share: by the policy's name, or a credential's id",
        input: Some(shape::<RotateAsk>),
        output: Some(shape::<RotationView>),
        problems: &[
            "not_found",
            "conflict",
            "rotation_failed",
            "vendor_not_connected",
            "integrity_failed",
        ],
        ..POST
    },
    Operation {
        id: "rotateRoot",
        path: "/v1/vendors/{name}/rotate-root",
        summary: "Replace a root credential: by the vendor's API, or by one that somebody made there",
        input: Some(openapi::rotate_root_input),
        output: Some(shape::<RotationView>),
        problems: &["not_found", "conflict", "rotation_failed", "integrity_failed"],
        ..POST
    },
];
