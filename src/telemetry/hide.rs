//! Fields that are for traces alone (`otel.*`): lines of the log do not show them.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

/// How those fields begin.
const TRACES: &str = "otel.";

/// Whether lines leave this field out.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(TRACES)
}

/// JSON without those fields.
#[derive(Debug, Default)]
pub(super) struct JsonWithoutTrace(JsonFields);

impl<'w> FormatFields<'w> for JsonWithoutTrace {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&shown(text)?)
    }

    /// What is for traces is named when a span begins, and not later.
    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut same = FormattedFields::<JsonFields>::new(std::mem::take(&mut current.fields));
        let outcome = self.0.add_fields(&mut same, fields);
        current.fields = same.fields;
        outcome
    }
}

fn shown(text: String) -> Result<String, fmt::Error> {
    if !text.contains(TRACES) {
        return Ok(text);
    }
    let mut fields: Map<String, Value> = serde_json::from_str(&text).map_err(|_| fmt::Error)?;
    fields.retain(|name, _| !is_hidden(name));
    serde_json::to_string(&fields).map_err(|_| fmt::Error)
}

/// How one field is written.
type Write = fn(&mut Writer<'_>, &Field, &dyn fmt::Debug) -> fmt::Result;

/// Text without those fields, a blank between two of the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextWithoutTrace(pub(super) Write);

impl<'w> FormatFields<'w> for TextWithoutTrace {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            write: self.0,
            begun: false,
            outcome: Ok(()),
        };
        fields.record(&mut line);
        line.outcome
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    write: Write,
    begun: bool,
    outcome: fmt::Result,
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.outcome.is_err() || is_hidden(field.name()) {
            return;
        }
        let blank = if self.begun {
            self.writer.write_char(' ')
        } else {
            Ok(())
        };
        self.begun = true;
        self.outcome = blank.and_then(|()| (self.write)(&mut self.writer, field, value));
    }
}
