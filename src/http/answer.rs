//! Answers: JSON or a problem document, always with the request's id, never cacheable unless public.

use std::any::Any;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::base::id::RequestId;
use crate::base::time::Ttl;
use crate::problem::{self, Problem};
use crate::service::App;
use crate::service::error::Error;
use crate::service::ways::Way;

/// The version of the interface, answered with each reply.
const INTERFACE: &str = "2026-11-20";

/// A good answer.
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: Body,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// Plain text, 200.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; charset=utf-8",
            body: Body::from(text.as_bytes().to_vec()),
            headers: Vec::new(),
        }
    }

    /// Text of a media type of its own, 200.
    #[must_use]
    pub fn typed(content_type: &'static str, text: String) -> Self {
        Self {
            status: 200,
            content_type,
            body: text.into(),
            headers: Vec::new(),
        }
    }

    /// Markdown, 200.
    #[must_use]
    pub fn markdown(text: String) -> Self {
        Self {
            status: 200,
            content_type: "text/markdown; charset=utf-8",
            body: Body::from(text.into_bytes()),
            headers: Vec::new(),
        }
    }

    /// A JSON value.
    #[must_use]
    pub fn value(status: u16, value: &Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: Body::from(value.to_string()),
            headers: Vec::new(),
        }
    }

    /// JSON already written, secrets and all.
    #[must_use]
    pub(super) fn raw(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: Body::from(body),
            headers: Vec::new(),
        }
    }

    /// A body that flows: its parts are sent as they come.
    #[must_use]
    pub fn flow(status: u16, content_type: &'static str, body: Body) -> Self {
        Self {
            status,
            content_type,
            body,
            headers: Vec::new(),
        }
    }

    /// Anything that can be JSON.
    ///
    /// # Errors
    /// A problem when it cannot.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Self, Refused> {
        let body = serde_json::to_vec(value).map_err(Error::internal)?;
        Ok(Self::raw(status, body))
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A refused request.
pub struct Refused {
    problem: Box<Problem>,
    /// For the log of this instance only.
    internal: Option<String>,
    headers: Vec<(&'static str, String)>,
}

/// An operation of the table that no surface performs: a defect, seen by the test that calls every operation.
pub fn unknown(operation: &str) -> Refused {
    Error::internal(format!("operation `{operation}` has no handler")).into()
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let headers = headers_of(&error);
        let problem = Problem::from(&error);
        let internal = (problem.code.status >= 500).then(|| error.to_string());
        Self {
            problem: Box::new(problem),
            internal,
            headers,
        }
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem: Box::new(problem),
            internal: None,
            headers: Vec::new(),
        }
    }
}

fn headers_of(error: &Error) -> Vec<(&'static str, String)> {
    match error {
        Error::PaymentRequired { required, .. } => vec![("payment-required", required.header.clone())],
        Error::PaymentInvalid { required, response, .. } => {
            let mut headers = vec![("payment-required", required.header.clone())];
            headers.extend(response.clone().map(|response| ("payment-response", response)));
            headers
        }
        Error::PaymentCredited {
            response: Some(response),
            ..
        } => vec![("payment-response", response.clone())],
        Error::PaymentUnknown(grant) => vec![("location", format!("/v1/grants/{grant}"))],
        Error::PendingApproval { approval, .. } => vec![("location", format!("/v1/approvals/{approval}"))],
        _ => Vec::new(),
    }
}

impl Refused {
    /// With ways forward, beside the one that every answer with `Retry-After` has.
    pub(super) fn with_ways(mut self, ways: &[Way]) -> Self {
        if let Ok(Value::Array(ways)) = serde_json::to_value(ways)
            && !ways.is_empty()
        {
            self.problem.extra.insert("ways".to_owned(), Value::Array(ways));
        }
        self
    }

    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(super) fn large_body(limit: usize) -> Self {
        Problem::new(
            problem::BODY_TOO_LARGE,
            format!("the body is larger than {limit} bytes"),
        )
        .into()
    }

    pub(super) fn slow_body() -> Self {
        Problem::new(problem::BODY_TIMEOUT, "the body did not arrive in time").into()
    }

    /// The work goes on.
    pub(super) fn late(limit: Duration) -> Self {
        let detail = format!(
            "the work takes longer than {}; what was begun goes on here",
            spelled(limit)
        );
        Problem::new(problem::REQUEST_TIMEOUT, detail)
            .retry_after(Ttl::from_secs(5))
            .into()
    }

    /// Nothing was begun that could go on.
    pub(super) fn late_read(limit: Duration) -> Self {
        let detail = format!("reading took longer than {} and was broken off", spelled(limit));
        Problem::new(problem::REQUEST_TIMEOUT, detail)
            .retry_after(Ttl::from_secs(5))
            .into()
    }

    pub(super) fn broken_body() -> Self {
        Problem::new(problem::INVALID_JSON, "the body ended early").into()
    }

    pub(super) fn invalid_json(why: String) -> Self {
        Problem::new(problem::INVALID_JSON, why).into()
    }

    /// A parser's complaint, told by what kind of mistake it is.
    pub(super) fn from_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let code = match error.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => problem::UNKNOWN_FIELD,
            // A key that stands there twice, and a negative zero, which is no whole number.
            serde_json::error::Category::Data
                if text.starts_with("duplicate field") || text.starts_with("invalid type: floating point `-0.0`") =>
            {
                problem::INVALID_JSON
            }
            serde_json::error::Category::Data => problem::INVALID_REQUEST,
            _ => problem::INVALID_JSON,
        };
        Problem::new(code, text).into()
    }

    /// A body that is not JSON by its own account, or packed: a bomb is not opened to look at it.
    pub(super) fn other_type(kind: &str) -> Self {
        let kind: String = kind.chars().take(64).collect();
        let words = format!("the body is {kind}; this address reads `application/json`, not packed");
        Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, words).into()
    }

    pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Self {
        let name: String = name.chars().take(64).collect();
        let nearest = known
            .iter()
            .map(|known| (strsim::jaro_winkler(known, &name), known))
            .max_by(|one, other| one.0.total_cmp(&other.0));
        let hint = nearest
            .filter(|(score, _)| *score > 0.7)
            .map(|(_, known)| format!("; did you mean `{known}`?"))
            .unwrap_or_default();
        Problem::new(
            problem::UNKNOWN_PARAMETER,
            format!("`{name}` is not a parameter of this operation{hint}"),
        )
        .into()
    }
}

fn spelled(limit: Duration) -> Ttl {
    Ttl::from_millis(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX))
}

/// Writes the outcome of a request.
pub(super) fn write(app: &App, id: RequestId, outcome: Result<Answer, Refused>) -> Response {
    match outcome {
        Ok(answer) => respond(
            &id.to_string(),
            answer.status,
            answer.content_type,
            answer.body,
            &answer.headers,
        ),
        Err(refused) => {
            let problem = &refused.problem;
            app.metrics().refused(problem.code.code);
            if problem.code.status >= 500 {
                tracing::warn!(request = %id, code = problem.code.code, why = refused.internal.as_deref().unwrap_or_default(), "a request failed");
            }
            refusal(&app.public_url, Some(id), &refused)
        }
    }
}

fn refusal(base: &str, id: Option<RequestId>, refused: &Refused) -> Response {
    let problem = &refused.problem;
    let mut headers = refused.headers.clone();
    headers.extend(
        problem
            .retry_after_secs()
            .map(|seconds| ("retry-after", seconds.to_string())),
    );
    headers.extend(problem.challenge().map(|challenge| ("www-authenticate", challenge)));
    let body = problem.to_json(id, base).to_string().into_bytes();
    respond(
        &id.map(|id| id.to_string()).unwrap_or_default(),
        problem.code.status,
        "application/problem+json",
        Body::from(body),
        &headers,
    )
}

fn respond(id: &str, status: u16, content_type: &str, body: Body, extra: &[(&'static str, String)]) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers: &mut HeaderMap = response.headers_mut();
    put(headers, "request-id", id);
    put(headers, CONTENT_TYPE.as_str(), content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("dekeys-version"),
        HeaderValue::from_static(INTERFACE),
    );
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    for (name, value) in extra {
        put(headers, name, value);
    }
    response
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// A handler that panicked: an internal problem, and nothing of the panic's text.
pub(super) fn panicked(_why: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    refusal("", None, &Refused::from(Error::internal("panic")))
}
