//! Refusals of dekeys itself, as against answers of a vendor: problem documents, marked by `dekeys-version`.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::base::id::RequestId;
use crate::problem::Problem;
use crate::service::App;
use crate::service::error::Error;

/// The version of the interface, answered with each reply.
const INTERFACE: &str = "2026-11-20";

/// A refused request. After one that could be read in two ways the connection is closed.
pub(super) fn refusal(app: &App, id: RequestId, error: &Error) -> Response {
    let problem = Problem::from(error);
    if problem.code.status >= 500 {
        tracing::warn!(request = %id, code = problem.code.code, %error, "a request was not forwarded");
    }
    let mut response = of(app, id, &problem);
    if matches!(error, Error::PathAmbiguous(_)) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The problem's code.
pub(super) fn code(error: &Error) -> &'static str {
    Problem::from(error).code.code
}

fn of(app: &App, id: RequestId, problem: &Problem) -> Response {
    let body = problem.to_json(Some(id), &app.public_url).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(problem.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    put(headers, "request-id", &id.to_string());
    put(headers, "dekeys-version", INTERFACE);
    put(headers, "x-content-type-options", "nosniff");
    if let Some(seconds) = problem.retry_after_secs() {
        put(headers, "retry-after", &seconds.to_string());
    }
    if let Some(challenge) = problem.challenge() {
        put(headers, "www-authenticate", &challenge);
    }
    response
}

/// Marks a vendor's answer with the request's id here. A browser that is led to it runs nothing of it.
pub(super) fn mark(headers: &mut HeaderMap, id: RequestId) {
    put(headers, "dekeys-request-id", &id.to_string());
    put(headers, "x-content-type-options", "nosniff");
    put(headers, "content-security-policy", "sandbox; default-src 'none'");
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
