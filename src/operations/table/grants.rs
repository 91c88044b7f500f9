//! Operations: offers, grants, leases and the keys behind them.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::model::offer::Offer;
use crate::service::buy::BuyAsk;
use crate::service::credential::CredentialView;
use crate::service::discovery::{Directory, Resources, ResourcesAsk};
use crate::service::enroll::{List, PageAsk};
use crate::service::grant::{EndAsk, Ended, GrantView, RenewAsk};
use crate::service::lease::LeaseView;
use crate::service::orphan::{DecideAsk, OrphanView, OrphansAsk};
use crate::service::report::{ReportAsk, Reported};
use crate::service::resolve::ResolveRequest;
use crate::service::revoke_leases::{RevokeLeasesAsk, RevokedLeases};

const GET: Operation = Operation {
    group: Group::Grants,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Grants,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listOffers",
        path: "/v1/offers",
        summary: "What can be had, under which policy, at what price",
        output: Some(shape::<List<Offer>>),
        ..GET
    },
    Operation {
        id: "listResources",
        path: "/discovery/resources",
        summary: "What is sold, as catalogues of x402 resources read it",
        query: Some(shape::<ResourcesAsk>),
        output: Some(shape::<Resources>),
        ..GET
    },
    Operation {
        id: "x402Directory",
        path: "/.well-known/x402",
        summary: "Where this server sells, for x402 crawlers",
        output: Some(shape::<Directory>),
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
            "payment_credited",
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
            "grant_expired",
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
        id: "revokeLeases",
        path: "/v1/leases/revoke",
        summary: "Count the leases of a principal, a vendor, a prefix or a grant; end them once the count is confirmed",
        who: Who::Operator,
        input: Some(shape::<RevokeLeasesAsk>),
        output: Some(shape::<RevokedLeases>),
        problems: &["not_found", "count_changed"],
        ..POST
    },
    Operation {
        id: "reportLease",
        path: "/v1/leases/{id}/report",
        summary: "Say that the vendor refused a lease's key: dekeys asks the vendor, and replaces a dead one",
        who: Who::Prim,
        input: Some(shape::<ReportAsk>),
        output: Some(shape::<Reported>),
        problems: &[
            "not_found",
            "rate_limited",
            "vendor_not_connected",
            "vendor_unavailable",
            "vendor_refused",
            "integrity_failed",
        ],
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
        id: "listOrphans",
        path: "/v1/orphans",
        summary: "Keys that a vendor lists and that nobody here accounts for",
        who: Who::Operator,
        query: Some(shape::<OrphansAsk>),
        output: Some(shape::<List<OrphanView>>),
        ..GET
    },
    Operation {
        id: "decideOrphan",
        path: "/v1/orphans/{id}/decide",
        summary: "Have a reported orphan ended at the vendor, or let it stay",
        who: Who::Operator,
        input: Some(shape::<DecideAsk>),
        output: Some(shape::<OrphanView>),
        problems: &["not_found", "conflict"],
        ..POST
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
];
