//! Operations: everybody dekeys knows.

use super::super::{Group, Operation, Who};
use super::shape;
use crate::service::enroll::{EnrollAsk, List, PageAsk, PrincipalView};
use crate::service::grant::EndAsk;

const GET: Operation = Operation {
    group: Group::Principals,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Principals,
    ..super::POST
};

pub(super) static OPERATIONS: &[Operation] = &[
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
];
