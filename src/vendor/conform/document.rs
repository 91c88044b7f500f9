//! An OpenAPI document, as far as it says which requests there are and what they answer.

use serde_json::{Map, Value, json};
use url::Url;

/// A document.
pub(super) struct Document<'d> {
    root: &'d Value,
    /// Paths of its servers, without a `/` at the end.
    bases: Vec<String>,
}

/// One operation of a document.
pub(super) struct Operation<'d> {
    root: &'d Value,
    item: &'d Value,
    body: &'d Value,
}

/// What a document says about a place in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Text or a number stands there.
    Text,
    /// The document does not say what stands there.
    Open,
    /// Nothing stands there, or something else.
    Absent,
}

/// References are followed so deep; documents refer to themselves.
const DEPTH: usize = 24;

impl<'d> Document<'d> {
    /// `base` is the manifest's base address: some documents name no server.
    pub(super) fn new(root: &'d Value, base: &str) -> Self {
        let servers = root["servers"].as_array().into_iter().flatten();
        let urls = servers.filter_map(|server| server["url"].as_str());
        let swagger = root["basePath"].as_str();
        let mut bases: Vec<String> = urls
            .map(path_of)
            .chain(swagger.map(str::to_owned))
            .chain([path_of(&base.replace('$', ""))])
            .map(|path| path.trim_end_matches('/').to_owned())
            .collect();
        bases.push(String::new());
        Self { root, bases }
    }

    /// The operation for a method and path; the one with the most fixed text wins.
    pub(super) fn operation(&self, method: &str, path: &str) -> Option<Operation<'d>> {
        let method = method.to_lowercase();
        let method = method.as_str();
        let paths = self.root["paths"].as_object()?;
        let relative = self.bases.iter().filter_map(|base| path.strip_prefix(base.as_str()));
        let candidates = relative.flat_map(|path| {
            paths
                .iter()
                .filter(move |(template, item)| fits(template, path) && item[method].is_object())
        });
        let (_, item) = candidates.max_by_key(|(template, _)| fixed(template))?;
        Some(Operation {
            root: self.root,
            item,
            body: &item[method],
        })
    }
}

/// The path of a server's address, which may be relative or hold variables.
fn path_of(url: &str) -> String {
    if let Ok(url) = Url::parse(&url.replace(['{', '}'], "x")) {
        return url.path().to_owned();
    }
    url.to_owned()
}

fn fits(template: &str, path: &str) -> bool {
    // A colon separates an action from a name in Google's paths.
    let (wanted, given): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let one = |(wanted, given): (&&str, &&str)| match (wanted.find('{'), wanted.rfind('}')) {
        (Some(open), Some(close)) => {
            let (before, after) = (wanted.get(..open), wanted.get(close + 1..));
            let inner = before.and_then(|before| given.strip_prefix(before));
            inner
                .zip(after)
                .is_some_and(|(rest, after)| rest.len() > after.len() && rest.ends_with(after))
        }
        _ => wanted == given,
    };
    if wanted.len() == given.len() {
        return wanted.iter().zip(&given).all(one);
    }
    // `/v2/{+name}`: one variable that spans segments.
    template.contains("{+") && spans(template, path)
}

fn spans(template: &str, path: &str) -> bool {
    let Some((before, rest)) = template.split_once("{+") else {
        return false;
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let inner = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    !after.contains('{') && inner.is_some_and(|inner| !inner.is_empty())
}

fn fixed(template: &str) -> usize {
    template
        .split('{')
        .map(|part| part.split('}').next_back().unwrap_or_default().len())
        .sum()
}

impl<'d> Operation<'d> {
    fn follow(&self, value: &'d Value) -> &'d Value {
        let mut value = value;
        for _ in 0..DEPTH {
            let Some(target) = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) else {
                break;
            };
            let decoded = percent_encoding::percent_decode_str(target).decode_utf8_lossy();
            match self.root.pointer(&decoded) {
                Some(target) => value = target,
                None => break,
            }
        }
        value
    }

    fn parameters(&self) -> impl Iterator<Item = &'d Value> {
        let lists = [&self.item["parameters"], &self.body["parameters"]];
        let all = lists.into_iter().filter_map(Value::as_array).flatten();
        all.map(|parameter| self.follow(parameter))
    }

    fn query(&self) -> impl Iterator<Item = &'d Value> {
        self.parameters().filter(|parameter| parameter["in"] == "query")
    }

    /// Whether a query parameter exists.
    pub(super) fn takes(&self, key: &str) -> bool {
        let plain = key.trim_end_matches("[]");
        self.query().any(|parameter| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let deep = key.split_once('[').is_some_and(|(outer, _)| outer == name);
            name == key || name == plain || deep
        })
    }

    /// Query parameters that must be given.
    pub(super) fn required(&self) -> impl Iterator<Item = &'d str> {
        let required = self.query().filter(|parameter| parameter["required"] == true);
        required.filter_map(|parameter| parameter["name"].as_str())
    }

    /// Whether the document wants a body.
    pub(super) fn needs_body(&self) -> bool {
        let body = self.follow(&self.body["requestBody"]);
        let swagger = self.parameters().find(|parameter| parameter["in"] == "body");
        body["required"] == true || swagger.is_some_and(|body| body["required"] == true)
    }

    fn body_schema(&self, kind: &str) -> Option<&'d Value> {
        let content = self.follow(&self.body["requestBody"])["content"].as_object();
        let plain = |kind: &str| kind.split(';').next().unwrap_or_default().trim().to_owned();
        let same = content.and_then(|content| content.iter().find(|(known, _)| plain(known) == plain(kind)));
        let any = || content.and_then(|content| content.iter().find(|(known, _)| known.contains("json")));
        let described = same.or_else(any).map(|(_, media)| &media["schema"]);
        let swagger = || Some(&self.parameters().find(|parameter| parameter["in"] == "body")?["schema"]);
        described.or_else(swagger).filter(|schema| !schema.is_null())
    }

    /// What is wrong with a body: JSON Pointers and words.
    pub(super) fn body_faults(&self, kind: &str, body: &[u8]) -> Vec<(String, String)> {
        let Some(schema) = self.body_schema(kind) else {
            return vec![(String::new(), "the document has no body of this kind".to_owned())];
        };
        let schema = self.plain(schema, 0);
        let value = if kind.starts_with("application/x-www-form-urlencoded") {
            form(body, &schema)
        } else {
            serde_json::from_slice(body).unwrap_or_default()
        };
        let Ok(validator) = jsonschema::options().should_validate_formats(true).build(&schema) else {
            return vec![(String::new(), "the document's schema cannot be read".to_owned())];
        };
        let mut faults: Vec<(String, String)> = validator
            .iter_errors(&value)
            .map(|error| {
                (
                    error.instance_path().to_string(),
                    error.to_string().chars().take(200).collect(),
                )
            })
            .collect();
        // Documents let further properties pass; a misspelt one would do nothing.
        let known = properties(&schema);
        let open = known.is_empty() || schema.get("additionalProperties").is_some_and(Value::is_object);
        let strange = value.as_object().into_iter().flat_map(Map::keys);
        for key in strange.filter(|key| !open && !known.contains(key)) {
            faults.push((format!("/{key}"), "the document knows no such property".to_owned()));
        }
        faults
    }

    /// What good answers have at a JSON Pointer.
    pub(super) fn answer(&self, pointer: &str) -> Place {
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        let responses = self.body["responses"].as_object();
        let good = responses
            .into_iter()
            .flatten()
            .filter(|(status, _)| status.starts_with('2') || *status == "default");
        let mut places = Vec::new();
        for (_, response) in good {
            let response = self.follow(response);
            let contents = response["content"].as_object().into_iter().flat_map(Map::values);
            places.extend(contents.map(|media| self.at(&media["schema"], &steps, 0)));
            if response["schema"].is_object() {
                places.push(self.at(&response["schema"], &steps, 0));
            }
        }
        // A document that describes no answer at all leaves it open.
        places
            .into_iter()
            .max_by_key(|place| rank(*place))
            .unwrap_or(Place::Open)
    }

    fn at(&self, schema: &'d Value, steps: &[&str], depth: usize) -> Place {
        let schema = self.follow(schema);
        if depth > DEPTH {
            return Place::Absent;
        }
        let variants = ["allOf", "oneOf", "anyOf"]
            .into_iter()
            .filter_map(|word| schema[word].as_array())
            .flatten()
            .map(|variant| self.at(variant, steps, depth + 1));
        let best = variants.max_by_key(|place| rank(*place)).unwrap_or(Place::Absent);
        let here = match steps.split_first() {
            None => leaf(schema),
            Some((step, rest)) => self.step(schema, step, rest, depth),
        };
        if rank(here) > rank(best) { here } else { best }
    }

    fn step(&self, schema: &'d Value, step: &str, rest: &[&str], depth: usize) -> Place {
        let name = step.replace("~1", "/").replace("~0", "~");
        if let Some(property) = schema["properties"].get(&name) {
            return self.at(property, rest, depth + 1);
        }
        let indexed = name.parse::<usize>().is_ok() || name == "-1";
        if indexed && !schema["items"].is_null() {
            return self.at(&schema["items"], rest, depth + 1);
        }
        let described = ["properties", "items", "allOf", "oneOf", "anyOf", "enum"];
        let container = schema["type"].is_null() || is_type(schema, "object") || is_type(schema, "array");
        let shapeless = schema.is_object() && container && described.iter().all(|word| schema[*word].is_null());
        if schema["additionalProperties"].is_object() {
            return self.at(&schema["additionalProperties"], rest, depth + 1);
        }
        if shapeless { Place::Open } else { Place::Absent }
    }

    /// A schema without references and without the words that only OpenAPI 3.0 has.
    fn plain(&self, schema: &'d Value, depth: usize) -> Value {
        let schema = self.follow(schema);
        if depth > DEPTH {
            return json!({});
        }
        match schema {
            Value::Array(items) => items.iter().map(|item| self.plain(item, depth + 1)).collect(),
            Value::Object(fields) => {
                let dropped = [
                    "example",
                    "examples",
                    "discriminator",
                    "xml",
                    "externalDocs",
                    "$ref",
                    "x-enum",
                ];
                let kept = fields.iter().filter(|(key, _)| !dropped.contains(&key.as_str()));
                let mut plain: Map<String, Value> = kept
                    .map(|(key, value)| (key.clone(), self.plain(value, depth + 1)))
                    .collect();
                modern(&mut plain);
                Value::Object(plain)
            }
            other => other.clone(),
        }
    }
}

const fn rank(place: Place) -> u8 {
    match place {
        Place::Absent => 0,
        Place::Open => 1,
        Place::Text => 2,
    }
}

fn leaf(schema: &Value) -> Place {
    let texts = ["string", "integer", "number", "boolean"];
    if texts.iter().any(|word| is_type(schema, word)) || schema["enum"].is_array() || schema["const"].is_string() {
        Place::Text
    } else if is_type(schema, "array") {
        // Where a list is read, its items are looked at by their own pointers.
        Place::Text
    } else if schema.is_object() && schema["type"].is_null() && schema["properties"].is_null() {
        let combined = ["allOf", "oneOf", "anyOf"].iter().any(|word| schema[*word].is_array());
        if combined { Place::Absent } else { Place::Open }
    } else {
        Place::Absent
    }
}

fn is_type(schema: &Value, word: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == word,
        Value::Array(several) => several.iter().any(|one| one == word),
        _ => false,
    }
}

/// `nullable`, boolean bounds and required read-only properties are OpenAPI's own.
fn modern(schema: &mut Map<String, Value>) {
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        if let Some(Value::String(word)) = schema.get("type").cloned() {
            schema.insert("type".to_owned(), json!([word, "null"]));
        }
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    for (word, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(Value::Bool(strict)) = schema.get(word).cloned() {
            schema.remove(word);
            if let Some(limit) = schema.remove(bound).filter(|_| strict) {
                schema.insert(word.to_owned(), limit);
            }
        }
    }
    let read_only: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, property)| property["readOnly"] == true)
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| !read_only.iter().any(|known| name == known));
    } else if schema.get("required").is_some_and(Value::is_boolean) {
        schema.remove("required");
    }
}

fn properties(schema: &Value) -> Vec<String> {
    let own = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned();
    let inner = ["allOf", "oneOf", "anyOf"]
        .into_iter()
        .filter_map(|word| schema[word].as_array())
        .flatten()
        .flat_map(properties);
    own.chain(inner).collect()
}

/// A form as the JSON value that its schema means: forms know text only.
fn form(body: &[u8], schema: &Value) -> Value {
    let typed = |key: &str, text: &str| {
        let property = schema.get("properties").and_then(|properties| properties.get(key));
        let plain = Value::String(text.to_owned());
        if property.is_some_and(|property| is_type(property, "string")) {
            return plain;
        }
        serde_json::from_str(text).unwrap_or(plain)
    };
    let pairs = url::form_urlencoded::parse(body);
    let fields = pairs.map(|(key, value)| (key.clone().into_owned(), typed(&key, &value)));
    Value::Object(fields.collect())
}
