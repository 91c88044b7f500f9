//! Operations: the audit log and receipts.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::audit::{CheckpointView, EventView, EventsAsk, ProofView, Verification};
use crate::service::enroll::List;
use crate::service::follow::{EventList, FollowAsk};

const GET: Operation = Operation {
    group: Group::Log,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Log,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listEvents",
        path: "/v1/audit/events",
        summary: "The audit log",
        who: Who::Person,
        query: Some(shape::<EventsAsk>),
        output: Some(shape::<List<EventView>>),
        ..GET
    },
    Operation {
        id: "followEvents",
        path: "/v1/events",
        summary: "What happens: a list, newest first, or a stream that goes on",
        who: Who::Holder,
        query: Some(shape::<FollowAsk>),
        output: Some(shape::<EventList>),
        stream: true,
        problems: &["event_gone"],
        ..GET
    },
    Operation {
        id: "latestCheckpoint",
        path: "/v1/audit/checkpoints/latest",
        summary: "The signed state of the log",
        output: Some(shape::<CheckpointView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "showProof",
        path: "/v1/audit/proofs/{id}",
        summary: "The proof that an event is in the log",
        who: Who::Person,
        output: Some(shape::<ProofView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "verifyAudit",
        path: "/v1/audit/verify",
        summary: "Read and check the whole log",
        who: Who::Person,
        output: Some(shape::<Verification>),
        ..POST
    },
    Operation {
        id: "showReceipt",
        path: "/v1/receipts/{id}",
        summary: "A receipt, with its proof once there is one",
        output: Some(openapi::any_object),
        problems: &["not_found"],
        ..GET
    },
];
