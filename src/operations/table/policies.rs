//! Operations: policies and what people decide.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::approve::{ApprovalView, ReviewAsk};
use crate::service::enroll::List;
use crate::service::propose::{ExplainAsk, PolicyView, Proposal, ProposeAsk};

const GET: Operation = Operation {
    group: Group::Policies,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Policies,
    ..super::POST
};
const PUT: Operation = Operation {
    group: Group::Policies,
    ..super::PUT
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listPolicies",
        path: "/v1/policies",
        summary: "The policies in force",
        who: Who::Principal,
        output: Some(shape::<List<PolicyView>>),
        ..GET
    },
    Operation {
        id: "showPolicy",
        path: "/v1/policies/{name}",
        summary: "One policy",
        who: Who::Principal,
        query: Some(openapi::version_query),
        output: Some(shape::<PolicyView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "proposePolicy",
        path: "/v1/policies/{name}",
        summary: "Propose a policy file; opens an approval request",
        who: Who::Principal,
        input: Some(shape::<ProposeAsk>),
        output: Some(shape::<Proposal>),
        ok: 202,
        problems: &["not_found", "policy_invalid", "vendor_not_connected", "conflict"],
        ..PUT
    },
    Operation {
        id: "validatePolicy",
        path: "/v1/policies/validate",
        summary: "Look at a policy file without keeping it",
        who: Who::Principal,
        input: Some(shape::<ProposeAsk>),
        output: Some(shape::<Proposal>),
        problems: &["policy_invalid", "vendor_not_connected", "conflict"],
        ..POST
    },
    Operation {
        id: "explainPolicy",
        path: "/v1/policies/explain",
        summary: "Which rule would decide a request",
        who: Who::Principal,
        input: Some(shape::<ExplainAsk>),
        output: Some(openapi::any_object),
        problems: &["not_found"],
        ..POST
    },
    Operation {
        id: "listApprovals",
        path: "/v1/approvals",
        summary: "Requests that people decide",
        who: Who::Principal,
        query: Some(openapi::approvals_query),
        output: Some(shape::<List<ApprovalView>>),
        ..GET
    },
    Operation {
        id: "showApproval",
        path: "/v1/approvals/{id}",
        summary: "One request, with what would change",
        who: Who::Principal,
        output: Some(shape::<ApprovalView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "reviewApproval",
        path: "/v1/approvals/{id}/reviews",
        summary: "A signed verdict",
        who: Who::Principal,
        input: Some(shape::<ReviewAsk>),
        output: Some(shape::<ApprovalView>),
        ok: 201,
        problems: &[
            "not_found",
            "approval_closed",
            "self_approval",
            "digest_mismatch",
            "already_voted",
            "vendor_unavailable",
            "conflict",
        ],
        ..POST
    },
    Operation {
        id: "cancelApproval",
        path: "/v1/approvals/{id}/cancel",
        summary: "Take a request back",
        who: Who::Principal,
        output: Some(shape::<ApprovalView>),
        problems: &["not_found", "approval_closed"],
        ..POST
    },
];
