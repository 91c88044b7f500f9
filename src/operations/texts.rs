//! Texts for agents, made from the operation table: `/llms.txt` (llmstxt.org), `/llms-full.txt`, `/skill.md`, and
//! `/functions.json`, the operations an agent needs in the form that model interfaces take as tools.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Method, Operation, operation, operations};
use crate::problem::{CODES, all_pages};

/// How an agent gets and uses a grant, by hand.
pub const SKILL: &str = include_str!("skill.md");

/// What agents may be given as tools: the name, the operation, what it is for. None of them answers with a vendor's key,
/// and none decides an approval.
const FUNCTIONS: &[(&str, &str, &str)] = &[
    (
        "dekeys_find_offers",
        "listOffers",
        "List what can be had: references such as dk://openai/chat:write with bounds, prims and price. Call it first.",
    ),
    (
        "dekeys_request_grant",
        "createGrant",
        "Ask for a grant. Answers the grant with its token, the terms of a payment (402), or a problem whose `ways` say \
         what to do next. Repeat with the same Idempotency-Key, never sign a second payment for one request.",
    ),
    (
        "dekeys_get_grant",
        "showGrant",
        "How a grant stands: its state, what is left of it, its receipt.",
    ),
    (
        "dekeys_fresh_token",
        "freshToken",
        "A fresh token for a live grant, free of charge.",
    ),
    (
        "dekeys_revoke",
        "revokeGrant",
        "End a grant now, with every key that was made for it. Call it when the task is done.",
    ),
    (
        "dekeys_explain_denial",
        "explainPolicy",
        "Which rule of which policy decides about a request, and the smallest change that would let it pass.",
    ),
    (
        "dekeys_show_approval",
        "showApproval",
        "How an approval request stands. People decide it; there is no tool that does.",
    ),
    (
        "dekeys_show_receipt",
        "showReceipt",
        "The receipt of a grant: what was paid and given, with its proof.",
    ),
];

/// `/llms.txt`: what is here, and where to read on.
#[must_use]
pub fn llms() -> String {
    let mut text = String::from(
        "# dekeys\n\n> A secret broker: agents carry short-lived tokens, vendor keys are made for the moment and revoked \
         after it. Buy or be given a grant, narrow its token, hand it to a prim, which gets a key for minutes.\n\nEvery \
         error is an RFC 9457 problem with `code`, `fix`, and `ways`: the ways forward, ready to be taken.\n\n## Read\n\n\
         - [For agents](/skill.md): from no key to a used one, step by step\n\
         - [Functions](/functions.json): tools for a model, each with its operation\n\
         - [OpenAPI](/openapi.json): every operation, exactly\n\
         - [Everything on one page](/llms-full.txt)\n\n## Operations\n\n",
    );
    for operation in reachable() {
        let _ = writeln!(
            text,
            "- `{} {}`: {}",
            operation.method.as_str(),
            operation.path,
            operation.summary
        );
    }
    text.push_str("\n## Optional\n\n");
    for code in CODES {
        let _ = writeln!(text, "- [{}](/problems/{}): {}", code.code, code.slug(), code.title);
    }
    text
}

/// `/llms-full.txt`: the skill, each operation with who may and what it answers, and each problem.
#[must_use]
pub fn llms_full() -> String {
    let mut text = String::from(SKILL);
    text.push_str("\n# Operations\n");
    for operation in reachable() {
        let (method, path) = (operation.method.as_str(), operation.path);
        let _ = write!(
            text,
            "\n## {method} {path}\n\n{}. Who: {}. Good answer: {}.",
            operation.summary,
            operation.who.as_str(),
            operation.ok
        );
        if !operation.problems.is_empty() {
            let _ = write!(text, " Problems: {}.", operation.problems.join(", "));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&all_pages());
    text
}

/// Operations on the public address.
fn reachable() -> impl Iterator<Item = &'static Operation> {
    operations().filter(|operation| !operation.admin)
}

/// `/functions.json`: a list of tools as model interfaces take them, each beside the request it stands for.
#[must_use]
pub fn functions() -> Value {
    let data: Vec<Value> = FUNCTIONS
        .iter()
        .filter_map(|(name, id, words)| Some(function(name, operation(id)?, words)))
        .collect();
    json!({ "object": "list", "data": data })
}

fn function(name: &str, operation: &Operation, words: &str) -> Value {
    json!({
        "type": "function",
        "function": { "name": name, "description": words, "parameters": parameters(operation) },
        "http": { "method": operation.method.as_str(), "path": operation.path },
        "read_only": operation.method == Method::Get,
    })
}

/// Parts of the path, the query and the body as one object.
fn parameters(operation: &Operation) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in operation.path.split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            properties.insert(name.to_owned(), json!({ "type": "string" }));
            required.push(json!(name));
        }
    }
    for shape in operation.query.iter().chain(&operation.input) {
        // Whole, without references: a tool's schema has no document around it.
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = shape(&mut settings.into_generator()).to_value();
        if let Some(Value::Object(more)) = schema.get("properties") {
            properties.extend(more.clone());
        }
        if let Some(Value::Array(more)) = schema.get("required") {
            required.extend(more.iter().cloned());
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skill_names_only_operations_that_exist() {
        let named: Vec<&str> = SKILL
            .split('`')
            .filter(|word| word.starts_with("GET /") || word.starts_with("POST /"))
            .collect();
        assert!(named.len() >= 8, "{named:?}");
        for word in named {
            let known = |operation: &Operation| format!("{} {}", operation.method.as_str(), operation.path) == word;
            assert!(operations().any(known), "{word}");
        }
        assert!(SKILL.lines().count() < 300);
    }

    #[test]
    fn every_function_stands_for_an_operation_and_none_gives_keys_or_decides() {
        let made = functions();
        let list = made["data"].as_array().unwrap();
        assert_eq!(list.len(), FUNCTIONS.len());
        assert!(made.to_string().len() < 12_000, "{}", made.to_string().len());
        for function in list {
            let path = function["http"]["path"].as_str().unwrap();
            assert!(!path.contains("resolve") && !path.contains("reviews"), "{path}");
            assert!(!function.to_string().contains("$ref"), "{function}");
            let parameters = &function["function"]["parameters"];
            for name in parameters["required"].as_array().unwrap() {
                assert!(parameters["properties"][name.as_str().unwrap()].is_object());
            }
        }
    }
}
