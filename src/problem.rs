//! Every error people and programs meet, as an RFC 9457 problem: one table of codes, one shape. The same row gives
//! the HTTP status, the exit code of the command line, and the page that explains it, so that they cannot differ.
//!
//! Clients switch on `code`; `detail` and `fix` are for people. A problem holds no secret and no text of a vendor.

mod cause;
mod codes;
mod page;

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};

pub use codes::*;
pub use page::{all_pages, page};

use crate::base::id::RequestId;
use crate::base::time::Ttl;
use crate::model::scope::Scope;

/// Where the `type` of every problem begins; fixed, whatever host answers.
pub const TYPE_BASE: &str = "https://dekeys.sh/problems/";

/// One kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word programs switch on: `vault_sealed`.
    pub code: &'static str,
    /// HTTP status. Codes only the command line has are 500 here.
    pub status: u16,
    /// The short line above the detail; never varies.
    pub title: &'static str,
    /// Whether the same request can succeed later, or with what `fix` adds, without anybody changing its meaning.
    pub retryable: bool,
    /// Exit code of the command line: 1 failed, 2 usage, 3 not found, 4 sign-in, 5 not allowed, 6 payment,
    /// 7 approval, 8 vault sealed or not initialised, 9 conflict, 10 try again later.
    pub exit: u8,
    /// Why it happens.
    pub cause: &'static str,
    /// What helps.
    pub fix: &'static str,
    /// A detail as it may read.
    pub example: &'static str,
}

impl Code {
    /// The name in addresses: `vault-sealed`.
    #[must_use]
    pub fn slug(&self) -> String {
        self.code.replace('_', "-")
    }

    /// The `type` member of RFC 9457.
    #[must_use]
    pub fn type_uri(&self) -> String {
        format!("{TYPE_BASE}{}", self.slug())
    }
}

/// The row with this code, or with this slug.
#[must_use]
pub fn code(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.code == name || code.slug() == name)
}

/// The exit code for an answer of a server, also of one that knows more codes than this binary.
#[must_use]
pub fn exit_code(name: &str, status: u16) -> u8 {
    code(name).map_or_else(|| exit_of_status(status), |code| code.exit)
}

const fn exit_of_status(status: u16) -> u8 {
    match status {
        200 | 201 | 204 => 0,
        202 | 408 | 425 | 429 | 502..=504 => 10,
        400 | 422 => 2,
        401 => 4,
        402 => 6,
        403 => 5,
        404 | 410 => 3,
        409 | 412 => 9,
        501 => 8,
        _ => 1,
    }
}

/// One problem that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Its kind.
    pub code: &'static Code,
    /// What happened this time, with the names, numbers and times that matter.
    pub detail: String,
    /// What helps this time; the code's own fix unless there is a better one.
    pub fix: String,
    /// The parameter or field it is about.
    pub param: Option<String>,
    /// One entry for each bad field.
    pub errors: Vec<FieldError>,
    /// When to try again: the `Retry-After` header.
    pub retry_after: Option<Ttl>,
    /// The scope that was missing, for `WWW-Authenticate`.
    pub scope: Option<Scope>,
    /// Further members; none may replace one of RFC 9457 or of dekeys.
    pub extra: Map<String, Value>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the request body.
    pub pointer: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A problem of this kind, with the code's own fix.
    #[must_use]
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fix: code.fix.to_owned(),
            param: None,
            errors: Vec::new(),
            retry_after: None,
            scope: None,
            extra: Map::new(),
        }
    }

    /// With a better fix.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// About this parameter or field.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With one more bad field.
    #[must_use]
    pub fn error(mut self, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: pointer.into(),
            message: message.into(),
        });
        self
    }

    /// To be tried again after `span`.
    #[must_use]
    pub const fn retry_after(mut self, span: Ttl) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// For want of this scope.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// With a further member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.code.status
    }

    /// The exit code of the command line.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        self.code.exit
    }

    /// The `Retry-After` header: whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<i64> {
        self.retry_after
            .map(|span| span.as_millis().saturating_add(999).div_euclid(1000).max(1))
    }

    /// The `WWW-Authenticate` header (RFC 6750) of a 401, and of a 403 for want of scope.
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        match (self.code.status, self.code.code) {
            (401, "invalid_token") => Some("Bearer error=\"invalid_token\"".to_owned()),
            (401, _) => Some("Bearer".to_owned()),
            (403, "insufficient_scope") => Some(self.scope.as_ref().map_or_else(
                || "Bearer error=\"insufficient_scope\"".to_owned(),
                |scope| format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""),
            )),
            _ => None,
        }
    }

    /// The body, `application/problem+json`. `doc_base` is the address of this server, under which it has the page:
    /// `http://127.0.0.1:8402`.
    #[must_use]
    pub fn to_json(&self, request_id: Option<RequestId>, doc_base: &str) -> Value {
        let mut body = self.extra.clone();
        let mut set = |member: &str, value: Value| body.insert(member.to_owned(), value);
        set("type", json!(self.code.type_uri()));
        set("title", json!(self.code.title));
        set("status", json!(self.code.status));
        set("detail", json!(self.detail));
        set("code", json!(self.code.code));
        set("retryable", json!(self.code.retryable));
        set("fix", json!(self.fix));
        set(
            "doc_url",
            json!(format!(
                "{}/problems/{}",
                doc_base.trim_end_matches('/'),
                self.code.slug()
            )),
        );
        if let Some(id) = request_id {
            set("instance", json!(id));
            set("request_id", json!(id));
        }
        if let Some(param) = &self.param {
            set("param", json!(param));
        }
        if !self.errors.is_empty() {
            set("errors", json!(self.errors));
        }
        if let Some(seconds) = self.retry_after_secs() {
            set("retry_after", json!(seconds));
            let words = format!("wait {seconds} s and send the same request again");
            let wait = json!({ "way": "wait", "words": words, "seconds": seconds });
            if let Value::Array(ways) = body.entry("ways").or_insert_with(|| json!([])) {
                ways.push(wait);
            }
        }
        Value::Object(body)
    }
}

impl fmt::Display for Problem {
    /// For a terminal: what, why, each bad field, and the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {} [{}]", self.code.title, self.code.code)?;
        write!(f, "\n    {}", self.detail)?;
        for error in &self.errors {
            write!(f, "\n    {}: {}", error.pointer, error.message)?;
        }
        write!(f, "\n    fix: {}", self.fix)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::base::random::SeededRandom;
    use crate::base::time::Timestamp;

    #[test]
    fn every_code_says_why_and_what_helps() {
        let mut seen = HashSet::new();
        for code in CODES {
            assert!(seen.insert(code.code), "{} twice", code.code);
            let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(!code.code.is_empty() && code.code.bytes().all(word), "{}", code.code);
            for text in [code.title, code.cause, code.fix, code.example] {
                assert!(text.len() >= 8 && text.trim() == text, "{}: {text}", code.code);
            }
            assert!(!code.title.ends_with('.') && code.cause.ends_with('.'), "{}", code.code);
            assert!((1..=10).contains(&code.exit), "{}: exit {}", code.code, code.exit);
            assert!(
                code.status == 202 || (400..=599).contains(&code.status),
                "{}",
                code.code
            );
        }
        assert!(CODES.len() >= 60);
    }

    /// Each exit code goes with the statuses it may have, so that `retryable` and exit 10 stay honest.
    #[test]
    fn statuses_and_exit_codes_agree() {
        for code in CODES {
            let fits = match code.exit {
                2 => matches!(code.status, 400 | 413 | 415 | 422 | 500),
                3 => matches!(code.status, 404 | 410),
                4 => matches!(code.status, 401 | 500),
                5 => code.status == 403,
                6 => code.status == 402,
                7 => matches!(code.status, 202 | 403),
                8 => matches!(code.status, 501 | 503),
                9 => matches!(code.status, 409 | 412 | 422),
                10 => code.retryable && matches!(code.status, 202 | 408 | 409 | 429 | 500 | 502..=504),
                _ => !code.retryable,
            };
            assert!(fits, "{}: status {}, exit {}", code.code, code.status, code.exit);
        }
    }

    #[test]
    fn the_body_has_all_members_and_extra_ones_replace_none() {
        let id = RequestId::new(Timestamp::from_millis(1), &SeededRandom::new(1));
        let problem = Problem::new(RATE_LIMITED, "61st resolve in this minute")
            .retry_after(Ttl::from_millis(11_001))
            .param("references")
            .error("/references/0", "too many")
            .with("limit", 60)
            .with("code", "ok");
        let body = problem.to_json(Some(id), "http://127.0.0.1:8402/");
        assert_eq!(
            body,
            json!({
                "type": "https://dekeys.sh/problems/rate-limited", "title": RATE_LIMITED.title, "status": 429,
                "detail": "61st resolve in this minute", "code": "rate_limited", "retryable": true,
                "fix": RATE_LIMITED.fix, "doc_url": "http://127.0.0.1:8402/problems/rate-limited",
                "instance": id, "request_id": id, "param": "references", "retry_after": 12, "limit": 60,
                "ways": [{ "way": "wait", "words": "wait 12 s and send the same request again", "seconds": 12 }],
                "errors": [{ "pointer": "/references/0", "message": "too many" }],
            })
        );
        let bare = Problem::new(INTERNAL, "x").to_json(None, "http://h");
        for absent in ["instance", "param", "errors", "retry_after"] {
            assert!(bare.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn challenges_are_those_of_bearer_tokens() {
        let challenge = |problem: Problem| problem.challenge();
        assert_eq!(
            challenge(Problem::new(INVALID_TOKEN, "")).unwrap(),
            "Bearer error=\"invalid_token\""
        );
        assert_eq!(challenge(Problem::new(UNAUTHENTICATED, "")).unwrap(), "Bearer");
        let scoped = Problem::new(INSUFFICIENT_SCOPE, "").scope("chat:write".parse().unwrap());
        assert_eq!(
            challenge(scoped).unwrap(),
            "Bearer error=\"insufficient_scope\", scope=\"chat:write\""
        );
        assert_eq!(challenge(Problem::new(NOT_ALLOWED, "")), None);
    }

    #[test]
    fn a_terminal_reads_what_why_and_fix() {
        let problem = Problem::new(VAULT_SEALED, "Sealed 2 min ago by ada.").fix("dekeys unseal");
        let text = "error: the vault is sealed [vault_sealed]\n    Sealed 2 min ago by ada.\n    fix: dekeys unseal";
        assert_eq!(problem.to_string(), text);
    }

    #[test]
    fn unknown_codes_fall_back_to_the_status() {
        assert_eq!(exit_code("vault_sealed", 200), 8);
        assert_eq!(exit_code("from_the_future", 404), 3);
        assert_eq!(exit_code("from_the_future", 503), 10);
        assert_eq!(code("vault-sealed"), code("vault_sealed"));
        assert_eq!(code("nothing"), None);
    }
}
