//! Files that are made from the code and checked in: each is what the code gives. With `DEKEYS_WRITE_GENERATED=1`
//! (`just gen`) they are written instead.

use std::path::Path;

use dekeys::config::reference;
use dekeys::metrics;
use dekeys::operations::openapi::document;
use dekeys::operations::texts;
use dekeys::problem::all_pages;
use serde_json::Value;

/// Where the table of `docs/configuration.md` begins; all above it is written by hand.
const EVERY_KEY: &str = "## Every key\n\n";

/// Where the table of `docs/metrics.md` begins.
const EVERY_METRIC: &str = "## Every metric\n\n";

/// `path` holds `text`, or is made to.
fn holds(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("DEKEYS_WRITE_GENERATED").is_some() {
        return std::fs::write(file, text).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    let line = kept.lines().zip(text.lines()).take_while(|(kept, made)| kept == made);
    assert!(
        kept == text,
        "{path} is stale from line {}: run `just gen`",
        line.count() + 1
    );
}

/// The same value with the names of every object in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            fields.into_iter().map(|(name, value)| (name, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn the_page_of_problems_is_what_the_codes_say() {
    holds("docs/problems.md", &all_pages());
}

#[test]
fn the_page_of_commands_is_what_the_command_line_says() {
    holds("docs/cli.md", &dekeys::cli::reference());
}

#[test]
fn the_openapi_document_is_what_the_operations_say() {
    let document = serde_json::to_string_pretty(&sorted(document())).unwrap();
    holds("docs/openapi.json", &format!("{document}\n"));
}

#[test]
fn the_texts_for_agents_are_what_the_operations_say() {
    holds("docs/llms.txt", &texts::llms());
    holds("docs/llms-full.txt", &texts::llms_full());
    holds("docs/skill.md", texts::SKILL);
    let functions = serde_json::to_string_pretty(&sorted(texts::functions())).unwrap();
    holds("docs/functions.json", &format!("{functions}\n"));
}

#[test]
fn the_table_of_metrics_is_what_the_catalogue_says() {
    let page = include_str!("../../docs/metrics.md");
    let (words, _) = page.split_once(EVERY_METRIC).unwrap();
    holds(
        "docs/metrics.md",
        &format!("{words}{EVERY_METRIC}{}", metrics::catalogue::reference()),
    );
}

#[test]
fn the_table_of_configuration_is_what_the_keys_say() {
    let page = include_str!("../../docs/configuration.md");
    let (words, _) = page.split_once(EVERY_KEY).unwrap();
    holds("docs/configuration.md", &format!("{words}{EVERY_KEY}{}", reference()));
}
