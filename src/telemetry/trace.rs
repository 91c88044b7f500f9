//! Traces (OpenTelemetry), by the standard `OTEL_*` variables: off until an endpoint is named.
//!
//! What a span may say stands in `base::trace`. A request that brings a `traceparent` (W3C Trace Context) goes on in its caller's trace. Outwards nobody is told of a
//! trace but the vendor that a caller forwards to, and then only if that caller named one: its own trace, with the span
//! of this request as parent. A collector that is slow or gone costs spans, never a request.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::{Layer, Registry};

use super::TelemetryError;
use super::export::Sender;

/// How long the last spans may take to be exported when the process ends.
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// The name of the service, unless the environment names it.
const SERVICE: &str = "dekeys";

/// What a subscriber takes to export traces.
pub type TraceLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Exports spans as they end, in a thread of its own.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// As the environment wants it; `None` when it names no endpoint, or says no. Call it on a tokio runtime.
    ///
    /// Sampling (`OTEL_TRACES_SAMPLER`), batching (`OTEL_BSP_*`), headers, timeout, compression and resource attributes
    /// are read by the OpenTelemetry SDK itself.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`] for what the environment asks for and dekeys cannot do.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<(Self, TraceLayer)>, TelemetryError> {
        let Some(protocol) = wanted(env)? else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender::new()?)
            .with_protocol(protocol)
            .build()
            .map_err(|error| TelemetryError::Traces(error.to_string()))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(env))
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(exported());
        Ok(Some((Self { provider }, Box::new(layer))))
    }

    /// Exports what is left, for five seconds at most.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(LAST_EXPORT)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be exported");
        }
    }
}

/// In which form traces are wanted, if they are at all.
fn wanted(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Protocol>, TelemetryError> {
    let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let named = |signal: &str, all: &str| set(signal).or_else(|| set(all));
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    if off || named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(None);
    }
    match set("OTEL_TRACES_EXPORTER").as_deref().map(str::trim) {
        Some("none") => return Ok(None),
        None | Some("otlp") => {}
        Some(_) => {
            return Err(TelemetryError::Traces(
                "OTEL_TRACES_EXPORTER is `otlp` or `none`".to_owned(),
            ));
        }
    }
    match named("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        None | Some("http/protobuf") => Ok(Some(Protocol::HttpBinary)),
        Some("http/json") => Ok(Some(Protocol::HttpJson)),
        Some(_) => Err(TelemetryError::Traces(
            "OTEL_EXPORTER_OTLP_PROTOCOL is `http/protobuf` or `http/json`; gRPC is not spoken here (port 4318, not 4317)"
                .to_owned(),
        )),
    }
}

/// Who exports: what the environment says, and a name if it says none.
fn resource(env: &dyn Fn(&str) -> Option<String>) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = env("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
    let builder = Resource::builder().with_attribute(version);
    if given || env("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty()) {
        return builder.build();
    }
    builder.with_service_name(SERVICE).build()
}

/// Spans that say `otel.kind`; no event, since the text of one may be anybody's.
fn exported() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata: &Metadata<'_>| metadata.is_span() && metadata.fields().field("otel.kind").is_some())
        .with_max_level_hint(LevelFilter::INFO)
}
