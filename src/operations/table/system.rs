//! Operations: what this instance is and how it stands.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::backup::{BackupVerified, BackupView};
use crate::service::enroll::{List, PrincipalView};
use crate::service::grant::EndAsk;
use crate::service::health::Readiness;
use crate::service::incarnation::compare::{Comparison, ReconcileStatus};
use crate::service::incarnation::settle::{DoneAsk, SettleAsk};
use crate::service::session::{SessionAsk, SessionClosed};
use crate::service::status::{KeySet, PublicKeys, Status};
use crate::service::unseal::SealStatus;

const GET: Operation = Operation {
    group: Group::System,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::System,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
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
        id: "llms",
        path: "/llms.txt",
        summary: "What is here, for a model to read first",
        ..GET
    },
    Operation {
        id: "llmsFull",
        path: "/llms-full.txt",
        summary: "Everything an agent needs to know, on one page",
        ..GET
    },
    Operation {
        id: "skill",
        path: "/skill.md",
        summary: "How an agent gets and uses a grant",
        ..GET
    },
    Operation {
        id: "functions",
        path: "/functions.json",
        summary: "The operations an agent needs, as tools for a model",
        ..GET
    },
    Operation {
        id: "metrics",
        path: "/metrics",
        summary: "What is counted and timed, as Prometheus reads it",
        who: Who::Admin,
        while_sealed: true,
        admin: true,
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
        id: "wellKnownKeys",
        path: "/.well-known/dekeys-keys.json",
        summary: "The same keys at a well-known address: what an offline verifier needs",
        output: Some(shape::<PublicKeys>),
        ..GET
    },
    Operation {
        id: "keySet",
        path: "/.well-known/jwks.json",
        summary: "The key that signs the revocation feed, as JOSE libraries read it",
        output: Some(shape::<KeySet>),
        ..GET
    },
    Operation {
        id: "keyDirectory",
        path: "/.well-known/http-message-signatures-directory",
        summary: "The keys that sign HTTP messages",
        output: Some(shape::<KeySet>),
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
        id: "cancelUnseal",
        path: "/v1/sys/unseal/cancel",
        summary: "Forget the shares that were brought; for whoever has one of them",
        who: Who::Admin,
        input: Some(openapi::unseal_input),
        output: Some(shape::<SealStatus>),
        problems: &["unseal_key_invalid", "rate_limited"],
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
        id: "listBackups",
        path: "/v1/sys/backups",
        summary: "The backups in the folder of this server, newest first",
        who: Who::Operator,
        output: Some(shape::<List<BackupView>>),
        problems: &["backup_failed"],
        ..GET
    },
    Operation {
        id: "createBackup",
        path: "/v1/sys/backups",
        summary: "Make a backup while everything goes on",
        who: Who::Operator,
        output: Some(shape::<BackupView>),
        ok: 201,
        problems: &["backup_failed", "integrity_failed"],
        ..POST
    },
    Operation {
        id: "verifyBackup",
        path: "/v1/sys/backups/{name}/verify",
        summary: "Restore a backup beside everything, open every secret in it, check its log, and throw it away",
        who: Who::Operator,
        output: Some(shape::<BackupVerified>),
        problems: &["backup_failed", "backup_invalid", "not_found"],
        ..POST
    },
    Operation {
        id: "reconcileStatus",
        path: "/v1/sys/reconcile",
        summary: "Whether the database is being reconciled with the vendors, and why",
        who: Who::Person,
        output: Some(shape::<ReconcileStatus>),
        ..GET
    },
    Operation {
        id: "compareVendors",
        path: "/v1/sys/reconcile/compare",
        summary: "Ask every vendor for its keys, and show how they differ from what is known here",
        who: Who::Operator,
        output: Some(shape::<Comparison>),
        problems: &["integrity_failed"],
        ..POST
    },
    Operation {
        id: "adoptKeys",
        path: "/v1/sys/reconcile/adopt",
        summary: "Put unknown keys on record, to be ended later; end here what is gone there",
        who: Who::Operator,
        input: Some(shape::<SettleAsk>),
        output: Some(shape::<Comparison>),
        problems: &["conflict", "integrity_failed"],
        ..POST
    },
    Operation {
        id: "revokeUnknownKeys",
        path: "/v1/sys/reconcile/revoke-unknown",
        summary: "End unknown keys at their vendors now; end here what is gone there",
        who: Who::Operator,
        input: Some(shape::<SettleAsk>),
        output: Some(shape::<Comparison>),
        problems: &["conflict", "integrity_failed"],
        ..POST
    },
    Operation {
        id: "endReconciling",
        path: "/v1/sys/reconcile/done",
        summary: "Say that the database agrees with the vendors; work goes on",
        who: Who::Operator,
        input: Some(shape::<DoneAsk>),
        output: Some(shape::<ReconcileStatus>),
        problems: &["conflict", "integrity_failed"],
        ..POST
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
        id: "closeSession",
        path: "/v1/sessions/close",
        summary: "End the login session whose token is sent",
        who: Who::Principal,
        output: Some(shape::<SessionClosed>),
        problems: &["conflict"],
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
];
