//! Operations: who is told of events, and what was delivered.

use super::super::{Group, Method, Operation, Who, openapi};
use super::shape;
use crate::service::enroll::{List, PageAsk};
use crate::service::webhook::{DeliveryView, WebhookAsk, WebhookView};

const GET: Operation = Operation {
    group: Group::Webhooks,
    who: Who::Operator,
    ..super::GET
};
const POST: Operation = Operation {
    method: Method::Post,
    ..GET
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listWebhooks",
        path: "/v1/webhooks",
        summary: "Who is told of events",
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<WebhookView>>),
        ..GET
    },
    Operation {
        id: "createWebhook",
        path: "/v1/webhooks",
        summary: "Tell somebody of events; the answer shows the secret once",
        input: Some(shape::<WebhookAsk>),
        output: Some(openapi::webhook_output),
        ok: 201,
        problems: &["conflict"],
        ..POST
    },
    Operation {
        id: "showWebhook",
        path: "/v1/webhooks/{id}",
        summary: "One webhook",
        output: Some(shape::<WebhookView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "deleteWebhook",
        path: "/v1/webhooks/{id}",
        summary: "Remove a webhook and what waits for it",
        method: Method::Delete,
        output: Some(shape::<WebhookView>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "rotateWebhookSecret",
        path: "/v1/webhooks/{id}/rotate-secret",
        summary: "A new secret; the one before signs beside it for a day",
        output: Some(openapi::webhook_output),
        problems: &["not_found"],
        ..POST
    },
    Operation {
        id: "enableWebhook",
        path: "/v1/webhooks/{id}/enable",
        summary: "Go on with a webhook that was disabled",
        output: Some(shape::<WebhookView>),
        problems: &["not_found", "conflict"],
        ..POST
    },
    Operation {
        id: "testWebhook",
        path: "/v1/webhooks/{id}/test",
        summary: "Send a ping now",
        output: Some(shape::<DeliveryView>),
        problems: &["not_found", "conflict"],
        ..POST
    },
    Operation {
        id: "listDeliveries",
        path: "/v1/webhooks/{id}/deliveries",
        summary: "What was sent to a webhook, and what became of it",
        query: Some(shape::<PageAsk>),
        output: Some(shape::<List<DeliveryView>>),
        problems: &["not_found"],
        ..GET
    },
    Operation {
        id: "replayDelivery",
        path: "/v1/deliveries/{id}/replay",
        summary: "Send an event once more",
        output: Some(shape::<DeliveryView>),
        ok: 201,
        problems: &["not_found", "conflict"],
        ..POST
    },
];
