//! The shipped OpenRouter manifest against the vendor's own OpenAPI document: every request it makes is one that the
//! document describes, and the document's example answers are read as they are meant.

use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{Timestamp, Ttl};
use dekeys::vendor::{Alive, CreateAsk, Gone, RootSecret, pack_root};
use serde_json::{Value, json};
use url::Url;

use super::{Seen, answering, manifest};

/// The vendor's own document.
struct Document(Value);

impl Document {
    fn open(name: &str) -> Option<Self> {
        let folder = crate::skip::folder("DEKEYS_SPECS", &format!("the check against {name}'s own document"))?;
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        Some(Self(serde_json::from_str(&text).unwrap()))
    }

    /// The operation that a request is.
    fn operation(&self, seen: &Seen) -> &Value {
        let server = Url::parse(self.0["servers"][0]["url"].as_str().unwrap()).unwrap();
        let path = seen.path.strip_prefix(server.path()).unwrap();
        let same = |template: &str| {
            let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            let fits =
                |(wanted, given): (&&str, &&str)| wanted == given || (wanted.starts_with('{') && !given.is_empty());
            template.len() == path.len() && template.iter().zip(&path).all(fits)
        };
        let paths = self.0["paths"].as_object().unwrap();
        let operation = paths
            .iter()
            .find(|(template, _)| same(template))
            .map(|(_, path)| &path[seen.method.to_lowercase()]);
        operation
            .filter(|operation| operation.is_object())
            .unwrap_or_else(|| panic!("no {} {path}", seen.method))
    }

    /// The example answer to a call, with its status.
    fn example(&self, path: &str, method: &str) -> (u16, String) {
        let responses = self.0["paths"][path][method]["responses"].as_object().unwrap();
        let (status, response) = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap();
        let content = &response["content"]["application/json"];
        let example = [&content["example"], &content["schema"]["example"]]
            .into_iter()
            .find(|example| !example.is_null());
        (status.parse().unwrap(), example.unwrap().to_string())
    }
}

#[tokio::test]
async fn openrouter_as_its_own_document_has_it() {
    let Some(document) = Document::open("openrouter") else {
        return;
    };
    let manifest = manifest("openrouter");
    let (create, list) = (document.example("/keys", "post"), document.example("/keys", "get"));
    let (revoke, probe) = (
        document.example("/keys/{hash}", "delete"),
        document.example("/key", "get"),
    );
    let made: Value = serde_json::from_str(&create.1).unwrap();
    let listed: Value = serde_json::from_str(&list.1).unwrap();
    // The list's second page repeats the first, which ends it.
    let server = answering(vec![create.clone(), list.clone(), list, revoke, probe]).await;
    let fields = vec![("key".to_owned(), SecretText::new("sk-or-management".to_owned()))];
    let params = [(
        "workspace".to_owned(),
        "0df9e665-d932-5740-b2c7-b52af166bc11".to_owned(),
    )];
    let root = RootSecret::unpack(pack_root(&manifest, Some(&server.url), &params, fields).unwrap()).unwrap();
    let (egress, adapter) = (Egress::new(Reach::Loopback).unwrap(), super::adapter(&manifest));
    let now = Timestamp::parse_rfc3339("2026-11-20T20:00:00Z").unwrap();
    let asked = CreateAsk {
        name: "dk-abcdefgh-aaaaaaaaaaaaaaaaaaaaaaaaaa-1".to_owned(),
        scopes: vec!["inference:write".parse().unwrap()],
        now,
        expires: now.plus(Ttl::from_mins(15)),
        cost_cap: Some("0.25 USD".parse().unwrap()),
        idempotency_key: "op".to_owned(),
    };
    let created = adapter
        .create(&egress, &root, &asked, &OsRandom, async |_, _| {})
        .await
        .unwrap();
    assert_eq!(made["key"], created.secret.expose());
    assert_eq!(made["data"]["hash"], created.vendor_key_id.as_str());
    let said = Timestamp::parse_rfc3339(made["data"]["expires_at"].as_str().unwrap());
    assert_eq!(created.vendor_expires, said);
    let found = adapter.list(&egress, &root, "").await.unwrap();
    assert_eq!(listed["data"][0]["hash"], found[0].vendor_key_id.as_str());
    assert_eq!(listed["data"][0]["name"], found[0].name.as_str());
    assert_eq!(
        adapter.revoke(&egress, &root, &created.vendor_key_id, None).await,
        Ok(Gone::Revoked)
    );
    assert_eq!(adapter.probe(&egress, &root, &created.secret).await, Ok(Alive::Alive));
    let seen = server.seen();
    let operations: Vec<_> = seen
        .iter()
        .map(|seen| document.operation(seen)["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        ["createKeys", "list", "list", "deleteKeys", "getCurrentKey"]
    );
    for seen in &seen {
        conforms(document.operation(seen), seen);
    }
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(
        body,
        json!({ "name": asked.name, "expires_at": "2026-11-20T20:15:00Z", "limit": 0.25, "workspace_id": params[0].1 })
    );
    assert!(
        seen[..4]
            .iter()
            .all(|seen| seen.authorization == "Bearer sk-or-management")
    );
    assert_eq!(seen[4].authorization, format!("Bearer {}", created.secret.expose()));
}

/// Body and query of a request are what the operation says.
fn conforms(operation: &Value, seen: &Seen) {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    if schema.is_null() {
        assert_eq!(seen.body, "", "{seen:?}");
    } else {
        let body = serde_json::from_str(&seen.body).unwrap();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(schema)
            .unwrap();
        let errors: Vec<String> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{seen:?}: {errors:?}");
        // The document lets further properties pass; a misspelt one would do nothing.
        let known = schema["properties"].as_object().unwrap();
        assert!(
            body.as_object().unwrap().keys().all(|key| known.contains_key(key)),
            "{seen:?}"
        );
    }
    let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
    for (key, _) in url::form_urlencoded::parse(seen.query.as_bytes()) {
        let known = parameters
            .iter()
            .any(|parameter| parameter["in"] == "query" && parameter["name"] == *key);
        assert!(known, "`{key}` is not a parameter of {seen:?}");
    }
}
