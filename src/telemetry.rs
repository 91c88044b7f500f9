//! Structured logs on standard error: text for people, JSON for machines. What users send gets into logs, so
//! control characters are escaped: nobody can forge a line or move a reader's terminal.
//!
//! Not protected: JSON escapes only what JSON must (below U+0020); do not print such logs to a terminal unread.

mod export;
mod hide;
pub mod trace;

use std::fmt;
use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::base::trace::TARGET;
use crate::config::{LogConfig, LogFormat, process_env};

pub use trace::{TraceLayer, Traces};

/// Why logs could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// Another subscriber is there already; it stays.
    #[error("logs are set up already")]
    AlreadySet,
    /// The level is not one.
    #[error("`{0}` is not a log level")]
    Level(String),
    /// The environment asks for traces in a way that cannot be.
    #[error("no traces: {0}")]
    Traces(String),
}

/// Sets up logs for the whole process, once, and traces beside them.
///
/// # Errors
/// [`TelemetryError::AlreadySet`] the second time, and a level that cannot be read.
pub fn init(log: &LogConfig, traces: Option<TraceLayer>) -> Result<(), TelemetryError> {
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && process_env("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = subscriber(log, terminal, colour, std::io::stderr, traces)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)
}

/// What [`init`] installs, writing to `writer`. `terminal` decides what [`LogFormat::Auto`] means.
///
/// # Errors
/// A level that cannot be read.
pub fn subscriber<W>(
    log: &LogConfig,
    terminal: bool,
    colour: bool,
    writer: W,
    traces: Option<TraceLayer>,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.level).map_err(|_| TelemetryError::Level(escaped(&log.level)))?;
    let shown = filter_fn(|metadata| metadata.target() != TARGET).with_max_level_hint(LevelFilter::TRACE);
    let filter = filter.and(shown);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = Registry::default().with(traces);
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    if text {
        let fields = hide::TextWithoutTrace(write_field);
        let lines = lines.with_ansi(colour).fmt_fields(fields);
        Ok(Box::new(registry.with(lines.with_filter(filter))))
    } else {
        let lines = lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .fmt_fields(hide::JsonWithoutTrace::default());
        Ok(Box::new(registry.with(lines.with_filter(filter))))
    }
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    writer.write_str(&escaped(&format!("{value:?}")))
}

/// The text with control characters and those that turn the direction of writing as `\u{1b}`.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || turns(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

const fn turns(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, terminal: bool, level: &str, write: impl FnOnce()) -> String {
        let sink = Sink::default();
        let log = LogConfig {
            format,
            level: level.to_owned(),
        };
        let writer = sink.clone();
        let subscriber = subscriber(&log, terminal, false, move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(subscriber, write);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_cannot_forge_a_line_or_move_the_terminal() {
        let evil = "x\n2026-01-01T00:00:00Z  INFO all is well \u{1b}[2J\u{9b}\u{202e}\u{7f}\r";
        let text = logged(LogFormat::Text, false, "info", || {
            let span = tracing::info_span!("request", path = %evil);
            span.in_scope(|| tracing::warn!(name = %evil, quoted = ?evil, "refused {evil}"));
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let control = |letter: char| (letter.is_control() && letter != '\n') || turns(letter);
        assert!(!text.contains(control), "{text:?}");
        assert!(text.contains("refused x\\n2026") && text.contains("name=x\\n2026") && text.contains("path=x\\n"));
        let json = logged(
            LogFormat::Json,
            true,
            "info",
            || tracing::warn!(name = %evil, "refused"),
        );
        assert_eq!(json.lines().count(), 1);
        assert!(!json.contains('\u{1b}'));
    }

    #[test]
    fn automatic_is_text_on_a_terminal_and_json_elsewhere() {
        let say = || tracing::info!(count = 3, "hello");
        let text = logged(LogFormat::Auto, true, "info", say);
        assert!(text.trim_end().ends_with("hello count=3"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Auto, false, "info", say)).unwrap();
        assert_eq!(
            (json["message"].as_str(), json["count"].as_i64()),
            (Some("hello"), Some(3))
        );
    }

    #[test]
    fn lines_do_not_show_what_is_for_traces() {
        let say = || {
            let step = tracing::info_span!(target: TARGET, "step", otel.kind = "internal");
            let request = tracing::info_span!(
                "request",
                otel.kind = "internal",
                otel.name = "resolve",
                request = "req_1"
            );
            let _entered = (request.entered(), step.entered());
            tracing::info!(count = 3, "hello");
        };
        for (format, told) in [
            (LogFormat::Text, "request{request=\"req_1\"}"),
            (LogFormat::Json, "\"request\":\"req_1\""),
        ] {
            let line = logged(format, false, "info", say);
            assert!(
                line.contains(told) && !line.contains("otel") && !line.contains("step"),
                "{line}"
            );
            assert!(!line.contains("  count") && !line.contains("{ "), "{line}");
        }
    }

    #[test]
    fn the_level_filters() {
        let say = || {
            tracing::info!("quiet");
            tracing::error!("loud");
        };
        let text = logged(LogFormat::Text, false, "error", say);
        assert!(text.contains("loud") && !text.contains("quiet"));
    }

    #[test]
    fn a_second_set_up_is_an_error_and_not_a_panic() {
        let log = LogConfig {
            format: LogFormat::Json,
            level: "error".to_owned(),
        };
        let first = init(&log, None);
        assert!(first.is_ok() || first == Err(TelemetryError::AlreadySet));
        assert_eq!(init(&log, None), Err(TelemetryError::AlreadySet));
        let log = LogConfig {
            level: "dekeys=[".to_owned(),
            ..log
        };
        assert_eq!(init(&log, None), Err(TelemetryError::Level("dekeys=[".to_owned())));
    }
}
