//! Operations: vendors and their root credentials.

use super::super::{Group, Operation, Who, openapi};
use super::shape;
use crate::service::connect::{VendorTest, VendorView};
use crate::service::enroll::List;

const GET: Operation = Operation {
    group: Group::Vendors,
    ..super::GET
};
const POST: Operation = Operation {
    group: Group::Vendors,
    ..super::POST
};
const PUT: Operation = Operation {
    group: Group::Vendors,
    ..super::PUT
};

pub(super) static OPERATIONS: &[Operation] = &[
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
        problems: &["not_found"],
        ..POST
    },
];
