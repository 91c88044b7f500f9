//! The rows of the operation table.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Method, Operation, Who, openapi};
use crate::model::offer::Offer;
use crate::service::approve::{ApprovalView, ReviewAsk};
use crate::service::audit::{CheckpointView, EventView, EventsAsk, ProofView, Verification};
use crate::service::buy::BuyAsk;
use crate::service::connect::{VendorTest, VendorView};
use crate::service::credential::CredentialView;
use crate::service::enroll::{EnrollAsk, List, PageAsk, PrincipalView};
use crate::service::grant::{EndAsk, Ended, GrantView, RenewAsk};
use crate::service::lease::LeaseView;
use crate::service::propose::{ExplainAsk, PolicyView, Proposal, ProposeAsk};
use crate::service::resolve::ResolveRequest;
use crate::service::session::SessionAsk;
use crate::service::status::{PublicKeys, Readiness, Status};
use crate::service::unseal::SealStatus;

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const GET: Operation = Operation {
    id: "",
    method: Method::Get,
    path: "",
    summary: "",
    who: Who::Anyone,
    query: None,
    input: None,
    output: None,
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
    "invalid_token",
    "signature_invalid",
    "request_timeout",
    "signature_required",
    "not_allowed",
    "vault_sealed",
    "overloaded",
    "internal",
];

/// The table, in the order of the documentation.
pub static OPERATIONS: &[Operation] = &[
    Operation {
        id: "healthz",
        path: "/healthz",
        summary: "Whether the process runs",
        while_sealed: true,
        ..GET
    },
    Operation {
        id: "readyz",
        path: "/readyz",
        summary: "Whether this instance can serve; 503 when it cannot",
        output: Some(shape::<Readiness>),
        while_sealed: true,
        ..GET
    },
    Operation {
        id: "openapi",
        path: "/openapi.json",
        summary: "This document",
        while_sealed: true,
        ..GET
    },
    Operation {
        id: "problem",
        path: "/problems/{code}",
        summary: "What a problem code means and what to do",
        problems: &["not_found"],
        while_sealed: true,
        ..GET
    },
    Operation {
        id: "publicKeys",
        path: "/v1/keys",
        summary: "The keys that sign tokens, checkpoints and receipts",
        output: Some(shape::<PublicKeys>),
        ..GET
    },
    Operation {
        id: "sealStatus",
        path: "/v1/sys/seal-status",
        summary: "Whether the vault is sealed",
        output: Some(shape::<SealStatus>),
        while_sealed: true,
        ..GET
    },
    Operation {
        id: "unseal",
        path: "/v1/sys/unseal",
        summary: "Open the vault",
        who: Who::Admin,
        input: Some(openapi::unseal_input),
        output: Some(shape::<SealStatus>),
        problems: &["unseal_key_invalid", "already_unsealed", "integrity_failed"],
        while_sealed: true,
        admin: true,
        ..POST
    },
    Operation {
        id: "seal",
        path: "/v1/sys/seal",
        summary: "Drop the keys at once",
        who: Who::Operator,
        input: Some(shape::<EndAsk>),
        output: Some(shape::<SealStatus>),
        admin: true,
        ..POST
    },
    Operation {
        id: "status",
        path: "/v1/sys/status",
        summary: "The state of this instance in figures",
        who: Who::Person,
        output: Some(shape::<Status>),
        ..GET
    },
    Operation {
        id: "openSession",
        path: "/v1/sessions",
        summary: "One signature for many cheaper proofs",
        who: Who::Principal,
        input: Some(shape::<SessionAsk>),
        output: Some(openapi::session_output),
        ok: 201,
        ..POST
    },
    Operation {
        id: "whoami",
        path: "/v1/whoami",
        summary: "Who the caller is",
        who: Who::Principal,
        output: Some(shape::<PrincipalView>),
        ..GET
    },
    Operation {
        id: "listOffers",
        path: "/v1/offers",
        summary: "What can be had, under which policy, at what price",
        output: Some(shape::<List<Offer>>),
        ..GET
    },
    Operation {
        id: "createGrant",
        path: "/v1/grants",
        summary: "Buy a grant, or be given one",
        who: Who::Buyer,
        input: Some(shape::<BuyAsk>),
        output: Some(openapi::bought_output),
        ok: 201,
        problems: &[
            "payment_required",
            "payment_invalid",
            "payment_conflict",
            "payment_unknown",
            "payment_unavailable",
            "idempotency_running",
            "policy_not_approved",
            "approval_pending",
            "idempotency_mismatch",
            "vendor_not_connected",
            "vendor_unavailable",
            "vendor_refused",
            "rate_limited",
            "budget_reached",
            "integrity_failed",
            "conflict",
        ],
        ..POST
    },
    Operation {
        id: "listGrants",
        path: "/v1/grants",
        summary: "The caller's grants",
        who: Who::Holder,
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<GrantView>>),
        ..GET
    },
    Operation {
        id: "showGrant",
        path: "/v1/grants/{id}",
        summary: "One grant",
        who: Who::Holder,
        output: Some(shape::<GrantView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "freshToken",
        path: "/v1/grants/{id}/tokens",
        summary: "A fresh token for a live grant, free of charge",
        who: Who::Holder,
        output: Some(openapi::bought_output),
        ok: 201,
        problems: &["not_found", "grant_expired"],
        ..POST
    },
    Operation {
        id: "renewGrant",
        path: "/v1/grants/{id}/renew",
        summary: "Prolong a free grant",
        who: Who::Holder,
        input: Some(shape::<RenewAsk>),
        output: Some(shape::<GrantView>),
        problems: &["not_found", "grant_expired", "policy_not_approved", "conflict"],
        ..POST
    },
    Operation {
        id: "revokeGrant",
        path: "/v1/grants/{id}/revoke",
        summary: "End a grant, its tokens and its keys",
        who: Who::Holder,
        input: Some(shape::<EndAsk>),
        output: Some(shape::<Ended>),
        problems: &["not_found", "grant_expired"],
        ..POST
    },
    Operation {
        id: "resolve",
        path: "/v1/resolve",
        summary: "Swap an agent's token for the key of a lease",
        who: Who::Prim,
        input: Some(shape::<ResolveRequest>),
        output: Some(openapi::resolve_output),
        problems: &[
            "insufficient_scope",
            "body_too_large",
            "grant_expired",
            "used_up",
            "rate_limited",
            "too_many_leases",
            "vendor_not_connected",
            "vendor_unavailable",
            "vendor_refused",
            "integrity_failed",
        ],
        ..POST
    },
    Operation {
        id: "listLeases",
        path: "/v1/leases",
        summary: "Keys that are out",
        who: Who::PrimOrOperator,
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<LeaseView>>),
        ..GET
    },
    Operation {
        id: "showLease",
        path: "/v1/leases/{id}",
        summary: "One lease",
        who: Who::PrimOrOperator,
        output: Some(shape::<LeaseView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "revokeLease",
        path: "/v1/leases/{id}/revoke",
        summary: "End a lease and its key",
        who: Who::PrimOrOperator,
        input: Some(shape::<EndAsk>),
        output: Some(shape::<Ended>),
        problems: &["not_found"],
        ..POST
    },
    Operation {
        id: "listCredentials",
        path: "/v1/credentials",
        summary: "Every key ever asked for, and where it stands",
        who: Who::Operator,
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<CredentialView>>),
        ..GET
    },
    Operation {
        id: "showCredential",
        path: "/v1/credentials/{id}",
        summary: "One credential",
        who: Who::Operator,
        output: Some(shape::<CredentialView>),
        problems: &["not_found"],
        ..GET
    },
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
        problems: &["policy_invalid", "vendor_not_connected", "conflict"],
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
    Operation {
        id: "listVendors",
        path: "/v1/vendors",
        summary: "Vendors, connected and available",
        who: Who::Principal,
        output: Some(shape::<List<VendorView>>),
        ..GET
    },
    Operation {
        id: "showVendor",
        path: "/v1/vendors/{name}",
        summary: "One vendor",
        who: Who::Principal,
        output: Some(shape::<VendorView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "connectVendor",
        path: "/v1/vendors/{name}/root-credential",
        summary: "Enter a root credential",
        who: Who::Operator,
        input: Some(openapi::connect_input),
        output: Some(shape::<VendorView>),
        problems: &["not_found", "manifest_invalid"],
        ..PUT
    },
    Operation {
        id: "testVendor",
        path: "/v1/vendors/{name}/test",
        summary: "Ask the vendor something harmless with the root credential",
        who: Who::Operator,
        output: Some(shape::<VendorTest>),
        problems: &["vendor_not_connected"],
        ..POST
    },
    Operation {
        id: "listPrincipals",
        path: "/v1/principals",
        summary: "Everybody dekeys knows",
        who: Who::Person,
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<PrincipalView>>),
        ..GET
    },
    Operation {
        id: "createPrincipal",
        path: "/v1/principals",
        summary: "Enroll a principal with keys made on its side",
        who: Who::Operator,
        input: Some(shape::<EnrollAsk>),
        output: Some(shape::<PrincipalView>),
        ok: 201,
        problems: &["conflict"],
        ..POST
    },
    Operation {
        id: "showPrincipal",
        path: "/v1/principals/{id}",
        summary: "One principal",
        who: Who::Person,
        output: Some(shape::<PrincipalView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "disablePrincipal",
        path: "/v1/principals/{id}/disable",
        summary: "Shut a principal out; its grants and leases end",
        who: Who::Operator,
        input: Some(shape::<EndAsk>),
        output: Some(shape::<PrincipalView>),
        problems: &["not_found", "conflict"],
        ..POST
    },
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
