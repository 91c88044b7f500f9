//! Every manifest that names the vendor's own document against that document. The table is printed; nothing that
//! does not fit may be left without a reason.

use std::fmt::Write as _;

use dekeys::vendor::{Manifest, conform, shipped};
use serde_json::{Value, json};

#[test]
#[expect(clippy::print_stderr, reason = "the table is what people look at")]
fn every_manifest_makes_the_calls_that_the_vendors_own_document_describes() {
    let Some(folder) = crate::skip::folder("DEKEYS_SPECS", "the check against the vendors' own documents") else {
        return;
    };
    let (mut table, mut wrong, mut checked) = (String::new(), String::new(), 0);
    for (name, text) in shipped() {
        let manifest = match Manifest::parse(text, &format!("{name}.toml")) {
            Ok(manifest) => manifest,
            Err(errors) => {
                writeln!(wrong, "{errors}").unwrap();
                continue;
            }
        };
        let Some(spec) = manifest.facts().spec else { continue };
        let document = std::fs::read_to_string(folder.join(format!("{spec}.json")));
        let document: Value =
            serde_json::from_str(&document.unwrap_or_else(|_| panic!("{name}: no {spec}.json"))).unwrap();
        let report = conform(&manifest, &document).unwrap();
        checked += 1;
        writeln!(
            table,
            "{name:24} operations {}/{}  bodies {}/{}  pointers {}/{} ({} open)  explained {}",
            report.operations.good,
            report.operations.all,
            report.bodies.good,
            report.bodies.all,
            report.pointers.good,
            report.pointers.all,
            report.opaque,
            report.explained.len()
        )
        .unwrap();
        for miss in &report.misses {
            writeln!(wrong, "{name}: {}: {}", miss.at, miss.words).unwrap();
        }
        for at in &report.stale {
            writeln!(wrong, "{name}: the reason for `{at}` explains nothing any more").unwrap();
        }
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(checked >= 1, "no manifest names a document");
}

fn document() -> Value {
    json!({
        "openapi": "3.0.0",
        "servers": [{ "url": "https://openrouter.ai/api/v1" }],
        "paths": {
            "/keys": {
                "post": {
                    "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/New" } } } },
                    "responses": { "201": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Made" } } } } },
                },
                "get": {
                    "parameters": [{ "in": "query", "name": "offset" }, { "in": "query", "name": "include_disabled" }, { "in": "query", "name": "workspace_id" }],
                    "responses": { "200": { "content": { "application/json": { "schema": {
                        "properties": { "data": { "type": "array", "items": { "$ref": "#/components/schemas/Key" } } } } } } } },
                },
            },
            "/keys/{hash}": { "delete": { "responses": { "200": {} } } },
            "/key": { "get": { "responses": { "200": {} } } },
        },
        "components": { "schemas": {
            "New": { "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string" }, "expires_at": { "type": "string", "format": "date-time", "nullable": true },
                "limit": { "type": "number" }, "workspace_id": { "type": "string" } } },
            "Key": { "type": "object", "properties": { "hash": { "type": "string" }, "name": { "type": "string" }, "expires_at": { "type": "string" } } },
            "Made": { "allOf": [{ "properties": { "key": { "type": "string" } } }, { "properties": { "data": { "$ref": "#/components/schemas/Key" } } }] },
        } },
    })
}

fn misses(change: impl Fn(&mut Value)) -> Vec<String> {
    let manifest = super::manifest("openrouter");
    let mut document = document();
    change(&mut document);
    let report = conform(&manifest, &document).unwrap();
    report.misses.into_iter().map(|miss| miss.at).collect()
}

#[test]
fn each_way_not_to_fit_is_found_at_its_place() {
    assert_eq!(misses(|_| ()), Vec::<String>::new());
    let schemas = |name: &str| format!("/components/schemas/{name}");
    let at = |document: &mut Value, pointer: &str, value: Value| *document.pointer_mut(pointer).unwrap() = value;
    let property = |name: &str, field: &str| format!("{}/properties/{field}", schemas(name));
    assert_eq!(
        misses(|document| at(document, &property("New", "limit"), json!({ "type": "string" }))),
        ["create.body/limit"]
    );
    assert_eq!(
        misses(|document| {
            document["components"]["schemas"]["New"]["properties"]
                .as_object_mut()
                .unwrap()
                .remove("name");
        }),
        ["create.body/name"]
    );
    assert_eq!(
        misses(|document| at(
            document,
            &property("Key", "hash"),
            json!({ "type": "object", "properties": {} })
        )),
        ["create.id", "list.id"]
    );
    assert_eq!(
        misses(|document| {
            document["components"]["schemas"]["Made"]["allOf"][0]["properties"] = json!({});
            document["components"]["schemas"]["Made"]["allOf"][0]["type"] = json!("string");
        }),
        ["create.secret"]
    );
    assert_eq!(
        misses(|document| {
            document["paths"].as_object_mut().unwrap().remove("/keys/{hash}");
        }),
        ["revoke"]
    );
    assert_eq!(
        misses(|document| {
            document["paths"]["/keys"]["get"]["parameters"] =
                json!([{ "in": "query", "name": "page", "required": true }]);
        }),
        [
            "list.query/include_disabled",
            "list.query/workspace_id",
            "list.query/page"
        ]
    );
}
