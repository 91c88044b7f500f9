//! Fields that are for traces alone (`otel.*`): lines of the log do not show them.

use std::fmt;

use serde_json::{Map, Value};
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
