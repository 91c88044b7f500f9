//! The OpenAPI 3.1 document, made from the operation table, and the shapes that no type has: answers that carry a
//! secret are written by hand, so they are described by hand.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

use super::{EVERYWHERE, Encoding, Operation, Shape, operations};
use crate::service::grant::GrantView;

/// The whole document, the same for every run.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(methods) = entry.as_object_mut() {
            methods.insert(
                operation.method.as_str().to_lowercase(),
                describe(operation, &mut generator),
            );
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "dekeys",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Secret broker: agents carry short-lived tokens, vendor keys are made for the moment and revoked after it.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": security() },
    })
}

fn security() -> Value {
    json!({
        "signature": { "type": "apiKey", "in": "header", "name": "Signature", "description": "RFC 9421, Ed25519 or a session's HMAC; with Signature-Input and Content-Digest" },
        "bearer": { "type": "http", "scheme": "bearer", "description": "a login session's token, or, for resolve, the agent's token beside the prim's signature" },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters = path_parameters(operation.path);
    parameters.extend(query_parameters(operation.query, generator));
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.group.as_str()],
        "summary": operation.summary,
        "description": format!("Who: {}.", operation.who.as_str()),
        "responses": responses(operation, generator),
    });
    if let Some(fields) = described.as_object_mut() {
        if !parameters.is_empty() {
            fields.insert("parameters".to_owned(), Value::Array(parameters));
        }
        if let Some(input) = operation.input {
            let schema = input(generator);
            let required = needs_something(schema.clone(), generator);
            let content = match operation.body {
                Encoding::Json => json!({ "application/json": { "schema": schema } }),
                Encoding::JsonOrForm => json!({
                    "application/json": { "schema": schema },
                    "application/x-www-form-urlencoded": { "schema": open(resolve(schema, generator)) },
                }),
            };
            let body = json!({ "required": required, "content": content });
            fields.insert("requestBody".to_owned(), body);
        }
        if operation.who != super::Who::Anyone && operation.who != super::Who::Admin {
            fields.insert(
                "security".to_owned(),
                json!([{ "signature": [] }, { "bearer": [] }, {}]),
            );
        }
    }
    described
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect()
}

fn query_parameters(query: Option<Shape>, generator: &mut SchemaGenerator) -> Vec<Value> {
    let Some(query) = query else { return Vec::new() };
    let schema = query(generator);
    let value = resolve(schema, generator);
    let properties = value
        .get("properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    properties
        .into_iter()
        .map(|(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema }))
        .collect()
}

/// Whether a body has to be sent: a missing one stands for an empty object.
fn needs_something(schema: Schema, generator: &SchemaGenerator) -> bool {
    let value = resolve(schema, generator);
    let required = value.get("required").and_then(Value::as_array);
    required.is_some_and(|names| !names.is_empty()) || value.get("oneOf").is_some() || value.get("anyOf").is_some()
}

/// A form as OAuth reads it: parameters that are not known are ignored (RFC 7662, 2.1; RFC 7009, 2.1).
fn open(mut form: Value) -> Value {
    if let Some(fields) = form.as_object_mut() {
        fields.insert("additionalProperties".to_owned(), Value::Bool(true));
    }
    form
}

/// A query's type is described by its properties, wherever the generator put them.
fn resolve(schema: Schema, generator: &SchemaGenerator) -> Value {
    let value = schema.to_value();
    let name = value
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next())
        .map(str::to_owned);
    name.and_then(|name| generator.definitions().get(&name).cloned())
        .unwrap_or(value)
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    let mut good = match operation.output {
        Some(output) => {
            let kind = match operation.id {
                "keyDirectory" => "application/http-message-signatures-directory+json",
                _ => "application/json",
            };
            json!({ "description": operation.summary, "content": { kind: { "schema": output(generator) } } })
        }
        None => json!({ "description": operation.summary }),
    };
    if operation.stream
        && let Some(content) = good.get_mut("content").and_then(Value::as_object_mut)
    {
        content.insert(
            "text/event-stream".to_owned(),
            json!({ "schema": { "type": "string" } }),
        );
    }
    responses.insert(operation.ok.to_string(), good);
    if operation.id == "createGrant" {
        responses.insert("200".to_owned(), json!({ "description": "The same request was served before", "content": { "application/json": { "schema": bought_output(generator) } } }));
    }
    if operation.id == "listRevocations" {
        responses.insert(
            "304".to_owned(),
            json!({ "description": "The page is as it was; the statement in its header is new" }),
        );
    }
    if operation.id == "readyz" {
        responses.insert("503".to_owned(), json!({ "description": "It cannot serve", "content": { "application/json": { "schema": generator.subschema_for::<crate::service::health::Readiness>() } } }));
        return Value::Object(responses);
    }
    let codes = EVERYWHERE.iter().chain(operation.problems);
    let mut by_status: std::collections::BTreeMap<u16, Vec<&str>> = std::collections::BTreeMap::new();
    for code in codes.filter_map(|code| crate::problem::code(code)) {
        by_status.entry(code.status).or_default().push(code.code);
    }
    for (status, codes) in by_status {
        let content = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let description = codes.join(", ");
        let answer = json!({ "description": description, "content": content });
        responses.entry(status.to_string()).or_insert(answer);
    }
    Value::Object(responses)
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status", "code", "detail", "fix", "retryable", "request_id"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string" },
            "detail": { "type": "string" },
            "fix": { "type": "string" },
            "retryable": { "type": "boolean" },
            "request_id": { "type": "string" },
            "instance": { "type": "string" },
            "doc_url": { "type": "string" },
            "param": { "type": "string" },
            "errors": { "type": "array", "items": { "type": "object" } },
            "ways": {
                "type": "array",
                "description": "ways forward, each ready to be taken: `pay`, `ask` (a request to send), `narrow`, `wait`",
                "items": { "type": "object", "required": ["way", "words"], "properties": {
                    "way": { "enum": ["pay", "ask", "narrow", "wait"] }, "words": { "type": "string" },
                } },
            },
        },
    })
}

/// Any object, described elsewhere.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// The body of an unseal.
pub(super) fn unseal_input(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "passphrase": { "type": ["string", "null"], "format": "password", "minLength": 1 },
            "shares": { "type": ["string", "null"], "description": "enough shares, one a line", "format": "password" },
            "share": { "type": ["string", "null"], "description": "one share; the last that is needed opens the vault", "format": "password" },
            "key": { "type": ["string", "null"], "description": "the content of a key file, base64url", "format": "password", "pattern": "^\\s*[A-Za-z0-9_-]{43}\\s*$" },
        },
    })
}

/// The body that enters a root credential.
pub(super) fn connect_input(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "required": ["fields"],
        "properties": {
            "fields": { "type": "object", "additionalProperties": { "type": "string", "format": "password" } },
            "params": { "type": "object", "additionalProperties": { "type": "string" } },
            "manifest": { "type": "string", "description": "a manifest of your own instead of the one that comes with dekeys" },
            "base_url": { "type": "string", "description": "test instances only" },
        },
    })
}

/// A root credential to be replaced.
pub(super) fn rotate_root_input(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "fields": {
                "type": ["object", "null"],
                "additionalProperties": { "type": "string", "format": "password" },
                "description": "one that somebody made at the vendor; without it the vendor's API is asked",
            },
            "grace": {
                "type": ["string", "null"],
                "description": "how long the one before may be used, such as `1h`; at least a minute, at most 24 h",
            },
        },
    })
}

/// A new session.
pub(super) fn session_output(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["object", "secret", "expires"],
        "properties": {
            "object": { "const": "session" },
            "session_id": { "type": ["string", "null"], "description": "keyid of signatures" },
            "secret": { "type": "string", "description": "HMAC key (base64url), or a login token" },
            "expires": { "type": "string", "format": "date-time" },
        },
    })
}

/// A grant with its token.
pub(super) fn bought_output(generator: &mut SchemaGenerator) -> Schema {
    let grant = generator.subschema_for::<GrantView>();
    json_schema!({
        "allOf": [grant],
        "type": "object",
        "properties": {
            "token": { "type": "string", "description": "absent when a repeated request did not prove the holder" },
            "token_type": { "type": "string" },
            "expires_in": { "type": "integer" },
        },
    })
}

/// Resolutions.
pub(super) fn resolve_output(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["object", "data", "has_more"],
        "properties": {
            "object": { "const": "list" },
            "has_more": { "type": "boolean" },
            "data": { "type": "array", "items": {
                "type": "object",
                "required": ["object", "reference"],
                "properties": {
                    "object": { "enum": ["resolution", "problem"] },
                    "reference": { "type": "string" },
                    "lease_id": { "type": "string" },
                    "lease_duration": { "type": "integer" },
                    "renewable": { "type": "boolean" },
                    "unchanged": { "type": "boolean" },
                    "event": { "type": "string" },
                    "credential": { "type": "object", "properties": {
                        "kind": { "type": "string" },
                        "version": { "type": "integer" },
                        "fields": { "type": "object", "additionalProperties": { "type": "string" } },
                        "inject": { "type": "object" },
                        "base_url": { "type": "string" },
                    } },
                    "problem": { "$ref": "#/components/schemas/Problem" },
                },
            } },
        },
    })
}

/// `?version=`.
pub(super) fn version_query(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "properties": {
        "version": { "type": "integer", "minimum": 1, "maximum": 1_000_000_000 },
    } })
}

/// `?state=&limit=&starting_after=`.
pub(super) fn approvals_query(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "properties": {
        "state": { "enum": ["pending", "approved", "denied", "expired", "cancelled"] },
        "limit": { "type": "integer", "minimum": 1, "maximum": 100 },
        "starting_after": { "type": "string" },
    } })
}

/// A webhook with its secret.
pub(super) fn webhook_output(generator: &mut SchemaGenerator) -> Schema {
    let webhook = generator.subschema_for::<crate::service::webhook::WebhookView>();
    json_schema!({ "allOf": [webhook, {
        "type": "object",
        "properties": { "secret": { "type": "string", "pattern": "^whsec_" } },
        "required": ["secret"],
    }] })
}
