//! Operations: payments.

use super::super::{Group, Operation, Who};
use super::shape;
use crate::service::enroll::List;
use crate::service::payments::{PaymentView, PaymentsAsk, ResolveAsk};
use crate::service::usage::{LedgerCheck, Usage, UsageAsk};

const GET: Operation = Operation {
    group: Group::Payments,
    who: Who::Operator,
    ..super::GET
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listPayments",
        path: "/v1/payments",
        summary: "Payments, and where each stands",
        query: Some(shape::<PaymentsAsk>),
        output: Some(shape::<List<PaymentView>>),
        ..GET
    },
    Operation {
        id: "showPayment",
        path: "/v1/payments/{id}",
        summary: "One payment",
        output: Some(shape::<PaymentView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "resolvePayment",
        path: "/v1/payments/{id}/resolve",
        summary: "Say what became of a payment whose outcome nobody else tells",
        input: Some(shape::<ResolveAsk>),
        output: Some(shape::<PaymentView>),
        problems: &["not_found", "conflict", "integrity_failed"],
        group: Group::Payments,
        who: Who::Operator,
        ..super::POST
    },
    Operation {
        id: "showUsage",
        path: "/v1/usage",
        summary: "What was paid, sold and owed, summed; your own, or all of it for an operator",
        query: Some(shape::<UsageAsk>),
        output: Some(shape::<Usage>),
        who: Who::Principal,
        ..GET
    },
    Operation {
        id: "checkLedger",
        path: "/v1/usage/check",
        summary: "Whether the ledger agrees with payments and credit",
        output: Some(shape::<LedgerCheck>),
        ..GET
    },
];
