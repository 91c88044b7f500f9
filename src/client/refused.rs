//! A refusal of dekeys: RFC 9457 problem details with dekeys' own members.

use http::HeaderMap;
use serde_json::Value;

/// What dekeys said no with, or not yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The HTTP status. 202 is "not known yet" or "people decide".
    pub status: u16,
    /// What programs switch on: `vault_sealed`.
    pub code: String,
    /// What happened.
    pub title: String,
    /// Why, in this case.
    pub detail: String,
    /// What to do.
    pub fix: String,
    /// The request, for the log.
    pub request_id: Option<String>,
    /// Whole seconds to wait before trying again.
    pub retry_after: Option<u64>,
    /// The whole problem.
    pub body: Value,
}

impl Refused {
    /// Reads an answer; `None` if it is none of dekeys' problems.
    #[must_use]
    pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let kind = headers.get("content-type")?.to_str().ok()?;
        if !kind.starts_with("application/problem+json") {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Some(Self {
            status,
            code: text("code")?,
            title: text("title").unwrap_or_default(),
            detail: text("detail").unwrap_or_default(),
            fix: text("fix").unwrap_or_default(),
            request_id: text("request_id").or_else(|| header("request-id").map(str::to_owned)),
            retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind)),
            (http::header::RETRY_AFTER, http::HeaderValue::from_static("12")),
        ])
    }

    #[test]
    fn problems_are_read_and_other_answers_are_not() {
        let body = br#"{"code":"rate_limited","title":"Slow down","status":429,"request_id":"req_1"}"#;
        let read = Refused::read(429, &headers("application/problem+json; charset=utf-8"), body).unwrap();
        assert_eq!(
            (read.code.as_str(), read.retry_after, read.request_id.as_deref()),
            ("rate_limited", Some(12), Some("req_1"))
        );
        assert!(Refused::read(429, &headers("application/json"), body).is_none());
        assert!(Refused::read(502, &headers("application/problem+json"), b"<html>").is_none());
        assert!(Refused::read(502, &headers("application/problem+json"), b"{}").is_none());
    }
}
