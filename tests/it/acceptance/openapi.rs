//! The OpenAPI document says what the server does: every operation is in it, and live answers are as it describes.

use dekeys::client::Request;
use dekeys::operations::{Method, operations};
use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::send;

/// A schema of the document, with what it refers to.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = json!({ "components": document["components"] });
    let fields = whole.as_object_mut().unwrap();
    for (name, value) in schema.as_object().unwrap() {
        fields.insert(name.clone(), value.clone());
    }
    jsonschema::draft202012::new(&whole).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_is_described_and_answers_as_described() {
    let scene = Scene::new().await;
    let document = send(&scene.app.anyone(), Request::get(&["openapi.json"])).await.good();
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|methods| methods.as_object().unwrap().len())
        .sum();
    assert_eq!(described, operations().count());
    let (mut checked, mut complaints) = (0, Vec::new());
    for operation in operations().filter(|operation| operation.id != "seal") {
        let method = operation.method.as_str().to_lowercase();
        let entry = &document["paths"][operation.path][&method];
        assert_eq!(entry["operationId"], operation.id);
        let caller = match operation.id {
            "resolve" | "listLeases" => "prim",
            "createGrant" | "reviewApproval" => "human",
            _ => "operator",
        };
        let seen = scene.ask(operation, caller).await;
        let response = &entry["responses"][seen.status.to_string()];
        if response.is_null() {
            complaints.push(format!(
                "{}: {} is not described: {}",
                operation.id, seen.status, seen.json
            ));
            continue;
        }
        let kind = seen.headers["content-type"].to_str().unwrap();
        let kind = kind.split(';').next().unwrap();
        let Some(schema) = response.pointer(&format!("/content/{}/schema", kind.replace('/', "~1"))) else {
            // Documents and plain text have no schema of ours.
            assert!(operation.output.is_none(), "{}: no schema for {kind}", operation.id);
            continue;
        };
        let validator = validator(&document, schema);
        checked += 1;
        for error in validator.iter_errors(&seen.json) {
            complaints.push(format!("{}: {error} at {}", operation.id, error.instance_path()));
        }
        let good = seen.status == operation.ok;
        if operation.method == Method::Get && !good {
            complaints.push(format!("{}: {} instead of {}", operation.id, seen.status, operation.ok));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    assert!(checked > 35, "only {checked} answers were checked");
    scene.app.stop().await;
}

/// A problem is described as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_are_as_described() {
    let scene = Scene::new().await;
    let document = send(&scene.app.anyone(), Request::get(&["openapi.json"])).await.good();
    let validator = validator(&document, &json!({ "$ref": "#/components/schemas/Problem" }));
    for path in ["/v1/whoami", "/v1/nothing", "/v1/offers?x=1", "/v1/grants/grt_1"] {
        let url = format!("{}{path}", scene.app.stage.server.url);
        let answer = crate::support::session::plain_http().get(url).send().await.unwrap();
        let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
        let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(
            status.is_client_error() && errors.is_empty(),
            "{path}: {errors:?} {body}"
        );
    }
    scene.app.stop().await;
}
