//! What a vendor's answer means. A vendor's own words are read for the rules and then dropped.

use http::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::manifest::Manifest;
use super::tables::{Rule, RuleClass, RuleCreated};
use super::template::Wiped;
use super::words::{Pointer, RetryAfter, RetryFrom, RetryUnit};
use super::{Existence, FailureClass, VendorFailure};
use crate::base::egress::{EgressError, Incoming};
use crate::base::time::Ttl;

/// Statuses that prove that nothing was made, unless the manifest says otherwise. 429 is not among them: some
/// vendors count the call after doing it.
const NOT_CREATED: [u16; 6] = [400, 401, 403, 404, 409, 422];

/// The answer's body as JSON; `None` when it is none.
pub(super) fn json(incoming: &Incoming) -> Option<Wiped> {
    serde_json::from_slice(&incoming.body).ok().map(Wiped)
}

/// Whether a 2xx answer says inside that it is an error.
pub(super) fn succeeded(manifest: &Manifest, body: Option<&Wiped>) -> bool {
    let said = |pointer: &Pointer| body.and_then(|body| pointer.get(&body.0));
    let errors = &manifest.errors;
    let named = errors
        .success
        .as_ref()
        .is_none_or(|success| said(&success.pointer) == Some(&success.equals));
    named && !errors.fail_if.iter().filter_map(said).any(is_something)
}

/// Whether a value stands for anything: not null, false, or empty.
pub(super) fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
    }
}

/// The failure that an answer stands for.
pub(super) fn failure(manifest: &Manifest, incoming: &Incoming, body: Option<&Wiped>) -> VendorFailure {
    let status = incoming.status;
    let rules = &manifest.errors.rules;
    let rule = rules
        .iter()
        .find(|rule| matches(rule, status, body.map(|body| &body.0)));
    let class = rule.map_or_else(|| class_of(status), |rule| FailureClass::from(rule.class));
    VendorFailure {
        class,
        created: created(manifest, status, rule),
        status: Some(status),
        retry_after: retry_after(manifest, incoming, body.map(|body| &body.0)),
        words: format!("{} answered {status}", manifest.title()),
    }
}

/// The failure of a call that got no answer.
pub(super) fn no_answer(manifest: &Manifest, error: EgressError) -> VendorFailure {
    let class = match error {
        EgressError::Refused { .. } => FailureClass::Refused,
        _ => FailureClass::Retryable,
    };
    VendorFailure {
        class,
        created: if error.sent() { Existence::Maybe } else { Existence::No },
        status: None,
        retry_after: None,
        words: format!("{}: {error}", manifest.title()),
    }
}

/// A 2xx answer that cannot be read.
pub(super) fn unreadable(manifest: &Manifest, status: u16, created: Existence) -> VendorFailure {
    VendorFailure {
        class: FailureClass::Unknown,
        created,
        status: Some(status),
        retry_after: None,
        words: format!(
            "{} answered {status} with a body that is not what its manifest says",
            manifest.title()
        ),
    }
}

fn matches(rule: &Rule, status: u16, body: Option<&Value>) -> bool {
    let by_status = rule.status.is_none_or(|wanted| wanted == status);
    let place = rule
        .body_pointer
        .as_ref()
        .map(|pointer| body.and_then(|body| pointer.get(body)));
    let by_body = match (place, &rule.contains) {
        (None, _) => true,
        (Some(found), None) => found.is_some(),
        (Some(Some(Value::String(text))), Some(part)) => text.contains(part),
        (Some(Some(other)), Some(part)) => other.to_string().contains(part),
        (Some(None), Some(_)) => false,
    };
    by_status && by_body
}

const fn class_of(status: u16) -> FailureClass {
    match status {
        401 | 403 => FailureClass::Auth,
        402 => FailureClass::Quota,
        429 => FailureClass::RateLimited,
        408 | 425 | 500..=599 => FailureClass::Retryable,
        400..=499 => FailureClass::Permanent,
        _ => FailureClass::Unknown,
    }
}

fn created(manifest: &Manifest, status: u16, rule: Option<&Rule>) -> Existence {
    let proven = match rule.and_then(|rule| rule.created) {
        Some(RuleCreated::No) => true,
        Some(RuleCreated::Maybe) => false,
        None => match &manifest.errors.not_created {
            Some(listed) => listed.contains(&status),
            None => NOT_CREATED.contains(&status),
        },
    };
    if proven { Existence::No } else { Existence::Maybe }
}

impl From<RuleClass> for FailureClass {
    fn from(class: RuleClass) -> Self {
        match class {
            RuleClass::Auth => Self::Auth,
            RuleClass::Quota => Self::Quota,
            RuleClass::RateLimited => Self::RateLimited,
            RuleClass::Permanent => Self::Permanent,
            RuleClass::Retryable => Self::Retryable,
        }
    }
}

/// The first place that says how long to wait. At most a day: a vendor cannot stop dekeys from ending keys.
fn retry_after(manifest: &Manifest, incoming: &Incoming, body: Option<&Value>) -> Option<Ttl> {
    let standard = [RetryAfter {
        from: RetryFrom::Header("retry-after".to_owned()),
        unit: RetryUnit::Seconds,
    }];
    let mut places = manifest.errors.retry_after.iter().chain(&standard);
    let wait = places.find_map(|place| wait(place, &incoming.headers, body))?;
    Some(wait.min(Ttl::from_secs(86_400)))
}

fn wait(place: &RetryAfter, headers: &HeaderMap, body: Option<&Value>) -> Option<Ttl> {
    let text = match &place.from {
        RetryFrom::Header(name) => headers.get(name)?.to_str().ok()?.to_owned(),
        RetryFrom::Body(pointer) => pointer.text(body?)?,
    };
    let Some(number) = whole(&text) else {
        let at = OffsetDateTime::parse(&text, &Rfc2822).ok()?.unix_timestamp();
        return Some(Ttl::from_secs(at - date(headers)?));
    };
    Some(match place.unit {
        RetryUnit::Seconds => Ttl::from_secs(number),
        RetryUnit::Millis => Ttl::from_millis(number),
        RetryUnit::Unix => Ttl::from_secs(number - date(headers)?),
    })
}

/// A whole number; a fraction is rounded up.
fn whole(text: &str) -> Option<i64> {
    let text = text.trim();
    let (number, fraction) = text.split_once('.').unwrap_or((text, ""));
    let up = i64::from(fraction.bytes().any(|digit| digit != b'0'));
    number
        .parse::<i64>()
        .ok()
        .filter(|number| (0..=i64::MAX / 2).contains(number))
        .map(|number| number + up)
}

/// The vendor's own clock, which its absolute times are meant by.
fn date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    Some(OffsetDateTime::parse(date, &Rfc2822).ok()?.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::shipped;

    fn manifest(errors: &str) -> Manifest {
        let demo = shipped()
            .into_iter()
            .find(|(name, _)| name.as_str() == "demo")
            .unwrap()
            .1;
        let without: String = demo
            .lines()
            .filter(|line| !line.starts_with("retry_after") && *line != "[errors]")
            .flat_map(|line| [line, "\n"])
            .collect();
        Manifest::parse(&format!("{without}\n{errors}"), "demo.toml").unwrap()
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Incoming {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        Incoming {
            status,
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    fn failed(manifest: &Manifest, incoming: &Incoming) -> VendorFailure {
        failure(manifest, incoming, json(incoming).as_ref())
    }

    #[test]
    fn every_status_has_its_class_and_says_whether_a_key_may_exist() {
        use Existence::{Maybe, No};
        use FailureClass::{Auth, Permanent, Quota, RateLimited, Retryable, Unknown};
        let manifest = manifest("");
        for (status, class, created) in [
            (400, Permanent, No),
            (401, Auth, No),
            (402, Quota, Maybe),
            (403, Auth, No),
            (404, Permanent, No),
            (408, Retryable, Maybe),
            (409, Permanent, No),
            (418, Permanent, Maybe),
            (422, Permanent, No),
            (429, RateLimited, Maybe),
            (500, Retryable, Maybe),
            (503, Retryable, Maybe),
            (204, Unknown, Maybe),
            (307, Unknown, Maybe),
        ] {
            let failure = failed(&manifest, &answer(status, &[], "{}"));
            assert_eq!(
                (failure.class, failure.created, failure.status),
                (class, created, Some(status)),
                "{status}"
            );
        }
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let manifest = manifest(
            "[errors]\nrules = [\n{ status = 403, body_pointer = \"/errors/0/message\", contains = \"maximum\", class = \"quota\" },\n\
             { body_pointer = \"/ok\", contains = \"false\", class = \"permanent\", created = \"no\" },\n\
             { status = 500, class = \"rate_limited\", created = \"no\" } ]\nnot_created = [400]\n",
        );
        let class = |status, body: &str| {
            let failure = failed(&manifest, &answer(status, &[], body));
            (failure.class, failure.created)
        };
        let full = r#"{"errors":[{"message":"maximum of 100 keys"}]}"#;
        assert_eq!(class(403, full), (FailureClass::Quota, Existence::Maybe));
        assert_eq!(class(403, "{}"), (FailureClass::Auth, Existence::Maybe));
        assert_eq!(class(200, r#"{"ok":false}"#), (FailureClass::Permanent, Existence::No));
        assert_eq!(class(500, "not json"), (FailureClass::RateLimited, Existence::No));
        assert_eq!(class(400, ""), (FailureClass::Permanent, Existence::No));
    }

    #[test]
    fn nothing_of_the_vendors_words_is_shown() {
        let incoming = answer(401, &[], r#"{"message":"key sk-secret is invalid"}"#);
        assert!(!failed(&manifest(""), &incoming).to_string().contains("sk-secret"));
    }

    #[test]
    fn waits_are_read_in_order_and_capped() {
        let manifest = manifest("[errors]\nretry_after = [\"x-reset:unix\", \"body:/wait:millis\"]\n");
        let date = ("date", "Fri, 20 Nov 2026 20:00:00 GMT");
        let wait =
            |headers: &[(&'static str, &str)], body: &str| failed(&manifest, &answer(429, headers, body)).retry_after;
        assert_eq!(wait(&[("retry-after", "7")], ""), Some(Ttl::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "1.5")], ""), Some(Ttl::from_secs(2)));
        assert_eq!(
            wait(&[("retry-after", "7")], r#"{"wait":1500}"#),
            Some(Ttl::from_millis(1500))
        );
        assert_eq!(wait(&[("x-reset", "1795204830"), date], ""), Some(Ttl::from_secs(30)));
        assert_eq!(
            wait(&[("retry-after", "Fri, 20 Nov 2026 20:01:00 GMT"), date], ""),
            Some(Ttl::from_secs(60))
        );
        assert_eq!(wait(&[("retry-after", "99999999")], ""), Some(Ttl::from_secs(86_400)));
        assert_eq!(wait(&[("retry-after", "soon")], ""), None);
    }
}
