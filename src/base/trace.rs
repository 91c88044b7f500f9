//! Spans of traces. A span is exported when it says `otel.kind`; one with this target is not shown in logs, so that a
//! line of the log names its request and not the step that wrote it.
//!
//! What may stand in one: words of the code, names of vendors, ids, hosts, statuses. Never a path, a query, a header, a
//! body, or the text of an error: each may hold a key.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::id::RequestId;

/// The header that carries a trace (W3C Trace Context), and its companion.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The target of spans that logs do not show.
pub const TARGET: &str = "dekeys::trace";

/// The span of one request to dekeys, in the trace of its caller if there is one. `route` is the pattern, never the
/// path.
#[must_use]
pub fn request(method: &str, route: &str, id: RequestId, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.kind = "server",
        otel.name = %format_args!("{method} {route}"),
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        otel.status_code = Empty,
        "error.type" = Empty,
        dekeys.request_id = %id,
    );
    if !span.is_disabled() && headers.contains_key(TRACEPARENT) {
        let context = named(headers);
        // Fails only for a span that is not exported, which has no parent to lose.
        let _own = span.set_parent(context);
    }
    span
}

/// How the request ended. `code` is the problem's, if the answer is one.
pub fn answered(span: &Span, status: u16, code: Option<&str>) {
    span.record("http.response.status_code", i64::from(status));
    if let Some(code) = code {
        span.record("error.type", code);
    }
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Puts `span` in the place of the caller's own span, in the trace that the caller named: what receives these headers
/// comes after dekeys there. Headers without a trace stay without.
pub fn go_on(span: &Span, headers: &mut HeaderMap) {
    if span.is_disabled() || !headers.contains_key(TRACEPARENT) {
        return;
    }
    let theirs = named(headers);
    let ours = span.context();
    let (theirs, own) = (
        theirs.span().span_context().trace_id(),
        ours.span().span_context().trace_id(),
    );
    if theirs != own {
        // What they sent is no trace, so this one is dekeys' own: nobody else hears of it.
        return;
    }
    headers.remove(TRACESTATE);
    TraceContextPropagator::new().inject_context(&ours, &mut HeaderInjector(headers));
}

/// The trace that headers name; none if they name none.
fn named(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}
