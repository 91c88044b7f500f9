//! A mock vendor's replies, made from the pointers by which dekeys reads them.

use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use url::Url;

use super::Reply;
use super::request::{Query, Reading};
use super::truth::MockKey;
use crate::base::time::Timestamp;
use crate::vendor::expiry;
use crate::vendor::made::Source;
use crate::vendor::tables::{Auth, CreateTable, ExpiryUnit, ListTable, Page};

/// Keys on one page, at most.
const PAGE: usize = 100;

pub(super) fn json(status: StatusCode, body: &Value) -> Reply {
    let bytes = if status == StatusCode::NO_CONTENT {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let mut reply = Response::new(Full::new(bytes));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

pub(super) fn garbled(status: StatusCode) -> Reply {
    let mut reply = json(StatusCode::OK, &Value::Null);
    *reply.body_mut() = Full::new(Bytes::from_static(b"<html>not what you expect"));
    *reply.status_mut() = status;
    reply
}

pub(super) fn error(words: &str) -> Value {
    json!({ "error": { "message": words } })
}

pub(super) fn created(reading: &Reading, key: &MockKey) -> Reply {
    let Some(table) = &reading.manifest.create else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let status = first_status(&table.ok);
    let mut body = made(reading, table, key);
    if let Some(poll) = &table.poll {
        body = succeeded(reading);
        set(
            &mut body,
            poll.from.as_str(),
            Value::String(format!("operations/{}", key.id)),
        );
    }
    json(status, &body)
}

/// A promise that is kept: the creation's whole answer.
pub(super) fn promised(reading: &Reading, key: &MockKey) -> Reply {
    let Some((table, poll)) = reading
        .manifest
        .create
        .as_ref()
        .and_then(|table| Some((table, table.poll.as_ref()?)))
    else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let mut body = made(reading, table, key);
    set(&mut body, poll.done.as_str(), Value::Bool(true));
    json(StatusCode::OK, &body)
}

/// The token of a login.
pub(super) fn logged_in(reading: &Reading, token: String) -> Reply {
    let Auth::Login(table) = &reading.manifest.root.auth else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let mut body = succeeded(reading);
    set(&mut body, table.token.as_str(), Value::String(token));
    if let Some(pointer) = &table.expires_in {
        set(&mut body, pointer.as_str(), Value::from(3600));
    }
    json(StatusCode::OK, &body)
}

pub(super) fn step(status: u16) -> Reply {
    json(StatusCode::from_u16(status).unwrap_or_default(), &json!({}))
}

fn made(reading: &Reading, table: &CreateTable, key: &MockKey) -> Value {
    let mut body = succeeded(reading);
    if let Some(secret) = &table.secret {
        set(&mut body, secret.as_str(), Value::String(key.secret.clone()));
    }
    let parts = serde_json::from_str::<Value>(&key.secret).unwrap_or_default();
    for (name, source) in &table.fields {
        if let (Source::Answer(pointer), Some(value)) = (source, parts.get(name)) {
            set(&mut body, pointer.as_str(), value.clone());
        }
    }
    if let Some(id) = &table.id {
        set(&mut body, id.as_str(), Value::String(key.id.clone()));
    }
    if let Some((pointer, expires)) = table.expires.as_ref().zip(key.expires) {
        set(
            &mut body,
            pointer.as_str(),
            expiry_value(reading, table, key.created, expires),
        );
    }
    body
}

fn expiry_value(reading: &Reading, table: &CreateTable, created: Timestamp, expires: Timestamp) -> Value {
    let unit = table.expires_unit.unwrap_or(reading.manifest.expiry.unit);
    let fallback = || expiry::sent(ExpiryUnit::Rfc3339Utc, created, expires);
    expiry::sent(unit, created, expires)
        .or_else(fallback)
        .unwrap_or_default()
}

/// One page of the keys. Pages go on where the request says.
pub(super) fn listed(reading: &Reading, keys: &[MockKey], query: &Query) -> Reply {
    let number = |param: &str| query.get(param).and_then(|text| text.parse::<usize>().ok());
    let Some(list) = &reading.manifest.list else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let page = &list.page;
    let size = size(page, &number);
    let start = start(page, keys, size, query, &number);
    let shown: Vec<&MockKey> = keys.iter().skip(start).take(size).collect();
    let end = start.saturating_add(shown.len());
    let mut body = succeeded(reading);
    let items = shown.iter().map(|key| item(list, key)).collect();
    set(&mut body, list.items.as_str(), Value::Array(items));
    let last = shown.last().map(|key| key.id.clone()).filter(|_| end < keys.len());
    mark(reading, list, &mut body, last.as_deref(), end);
    let mut reply = json(first_status(&list.ok), &body);
    let link = matches!(page, Page::LinkHeader {})
        .then(|| next(reading, list, end))
        .filter(|_| last.is_some());
    if let Some(link) = link.and_then(|url| HeaderValue::from_str(&format!("<{url}>; rel=\"next\"")).ok()) {
        reply.headers_mut().insert(LINK, link);
    }
    reply
}

/// How many keys the page has: as many as are asked for, up to a limit of the vendor's own.
fn size(page: &Page, number: &impl Fn(&str) -> Option<usize>) -> usize {
    let asked = match page {
        Page::None => return usize::MAX,
        Page::Number { size_param, .. } | Page::Offset { size_param, .. } | Page::Cursor { size_param, .. } => {
            size_param
        }
        Page::Url { .. } | Page::LinkHeader {} => return PAGE,
    };
    asked.as_deref().and_then(number).unwrap_or(PAGE).clamp(1, PAGE)
}

fn start(page: &Page, keys: &[MockKey], size: usize, query: &Query, number: &impl Fn(&str) -> Option<usize>) -> usize {
    match page {
        Page::None => 0,
        Page::Number { param, first, .. } => {
            let first = usize::try_from(*first).unwrap_or(0);
            number(param)
                .unwrap_or(first)
                .saturating_sub(first)
                .saturating_mul(size)
        }
        Page::Offset { param, .. } => number(param).unwrap_or(0),
        Page::Cursor { param, .. } => {
            let after = query
                .get(param)
                .and_then(|id| keys.iter().position(|key| key.id == *id));
            after.map_or(0, |index| index + 1)
        }
        Page::Url { .. } | Page::LinkHeader {} => number("start").unwrap_or(0),
    }
}

/// Says in the body where the next page is, when there is one.
fn mark(reading: &Reading, list: &ListTable, body: &mut Value, last: Option<&str>, end: usize) {
    match &list.page {
        Page::Cursor { from, more, .. } => {
            if !from.as_str().contains("/-1") {
                set(body, from.as_str(), last.into());
            }
            if let Some(more) = more {
                set(body, more.as_str(), Value::Bool(last.is_some()));
            }
        }
        Page::Url { from } => set(
            body,
            from.as_str(),
            last.map(|_| next(reading, list, end).to_string()).into(),
        ),
        _ => {}
    }
}

fn next(reading: &Reading, list: &ListTable, end: usize) -> Url {
    let mut url = reading.url.clone();
    url.set_path(&format!("{}{}", reading.base_path, list.path.source()));
    url.query_pairs_mut().append_pair("start", &end.to_string());
    url
}

fn item(list: &ListTable, key: &MockKey) -> Value {
    let mut item = json!({});
    set(&mut item, list.id.as_str(), Value::String(key.id.clone()));
    set(&mut item, list.name.as_str(), Value::String(key.name.clone()));
    item
}

/// Another value of a key.
pub(super) fn renewed(reading: &Reading, key: &MockKey) -> Reply {
    let Some(table) = reading.renewing() else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let mut body = succeeded(reading);
    set(&mut body, table.secret.as_str(), Value::String(key.secret.clone()));
    json(first_status(&table.ok), &body)
}

pub(super) fn root_id(reading: &Reading, id: &str) -> Reply {
    let mut body = succeeded(reading);
    if let Some(who) = reading.root_rotation().and_then(|table| table.who.as_ref()) {
        set(&mut body, who.id.as_str(), Value::String(id.to_owned()));
    }
    json(StatusCode::OK, &body)
}

pub(super) fn another_root(reading: &Reading, fields: &[(String, String)]) -> Reply {
    let Some(table) = reading.root_rotation() else {
        return json(StatusCode::NOT_FOUND, &error("no such path"));
    };
    let mut body = succeeded(reading);
    for (name, pointer) in &table.call.fields {
        if let Some((_, value)) = fields.iter().find(|(known, _)| known == name) {
            set(&mut body, pointer.as_str(), Value::String(value.clone()));
        }
    }
    json(first_status(&table.call.ok), &body)
}

pub(super) fn root_ended(reading: &Reading) -> Reply {
    let ok = reading
        .root_rotation()
        .and_then(|table| table.end.as_ref())
        .map(|end| first_status(&end.ok));
    json(ok.unwrap_or_default(), &succeeded(reading))
}

pub(super) fn revoked(reading: &Reading) -> Reply {
    let status = reading.manifest.revoke.as_ref().map(|table| first_status(&table.ok));
    json(status.unwrap_or_default(), &succeeded(reading))
}

pub(super) fn probed(reading: &Reading, key: &MockKey) -> Reply {
    let mut body = succeeded(reading);
    set(&mut body, "/name", Value::String(key.name.clone()));
    let status = reading.manifest.probe.as_ref().map(|table| first_status(&table.ok));
    json(status.unwrap_or_default(), &body)
}

/// The reply of a route of `[mock]`, when the key's scopes allow it. What the proxy's rules alone let through has no
/// answer of its own.
pub(super) fn routed(reading: &Reading, index: Option<usize>, key: &MockKey, stream: bool) -> Reply {
    let Some(route) = index.and_then(|index| reading.manifest.mock.routes.get(index)) else {
        return json(StatusCode::OK, &json!({}));
    };
    let word = route
        .scope
        .as_ref()
        .and_then(|scope| reading.manifest.scopes.get(scope));
    let allowed = match (word, &key.scopes) {
        (None, _) | (_, Value::Null) => true,
        (Some(Value::Array(words)), Value::Array(held)) => words.iter().all(|word| held.contains(word)),
        (Some(word), Value::Array(held)) => held.contains(word),
        (Some(Value::Object(words)), Value::Object(held)) => {
            words.iter().all(|(name, word)| held.get(name) == Some(word))
        }
        (Some(word), held) => word == held,
    };
    if !allowed {
        return json(StatusCode::FORBIDDEN, &error("the key has no such scope"));
    }
    if stream && !route.events.is_empty() {
        return streamed(&route.events);
    }
    json(StatusCode::from_u16(route.status).unwrap_or_default(), &route.body)
}

/// Server-sent events; one with a `type` is named by it.
fn streamed(events: &[Value]) -> Reply {
    let event = |event: &Value| {
        let name = event.get("type").and_then(Value::as_str);
        let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        format!("{name}data: {data}\n\n")
    };
    let text: Vec<String> = events.iter().map(event).collect();
    let mut reply = Response::new(Full::new(Bytes::from(text.concat())));
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply
}

/// A body that says that all went well, where the vendor says so inside.
fn succeeded(reading: &Reading) -> Value {
    let mut body = json!({});
    if let Some(success) = &reading.manifest.errors.success {
        set(&mut body, success.pointer.as_str(), success.equals.clone());
    }
    body
}

fn first_status(ok: &std::collections::BTreeSet<u16>) -> StatusCode {
    ok.first()
        .and_then(|status| StatusCode::from_u16(*status).ok())
        .unwrap_or_default()
}

/// Puts a value at a JSON Pointer and makes the tables on the way.
fn set(body: &mut Value, pointer: &str, value: Value) {
    let mut place = body;
    for step in pointer.split('/').skip(1) {
        let key = step.replace("~1", "/").replace("~0", "~");
        if let Ok(index) = key.parse::<usize>() {
            if !place.is_array() {
                *place = Value::Array(Vec::new());
            }
            let Value::Array(items) = place else { return };
            items.resize(items.len().max(index + 1), Value::Null);
            let Some(item) = items.get_mut(index) else { return };
            place = item;
            continue;
        }
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(fields) = place else { return };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = value;
}
