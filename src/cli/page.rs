//! Pages of lists, and what stands in an answer.

use clap::Args;
use serde_json::Value;

use crate::client::Request;

/// Which page of a list.
#[derive(Debug, Clone, Args)]
pub(crate) struct Page {
    /// How many, 1 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub limit: u8,
    /// Only what comes after this id
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
}

impl Page {
    /// The request for it.
    pub(crate) fn of(&self, segments: &[&str]) -> Request {
        Request::get(segments)
            .query("limit", Some(self.limit))
            .query("starting_after", self.after.as_ref())
    }
}

/// The things in a list.
pub(crate) fn rows(answer: &Value) -> &[Value] {
    list(answer, "/data")
}

/// The list at a JSON pointer; empty if there is none.
pub(crate) fn list<'a>(answer: &'a Value, pointer: &str) -> &'a [Value] {
    answer
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The id after which the list goes on, if it does.
pub(crate) fn next(answer: &Value) -> Option<String> {
    let more = answer.get("has_more") == Some(&Value::Bool(true));
    let end = rows(answer).last()?.get("id")?.as_str()?;
    more.then(|| end.to_owned())
}

/// The text at a JSON pointer; empty if there is none.
pub(crate) fn text(answer: &Value, pointer: &str) -> String {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
