//! `dekeys vendor lint`: what is wrong with manifests, before anybody connects one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::hook;
use super::output::visible_lines;
use super::page::{rows, text};

/// What to read.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys vendor lint acme.toml\n\
    Example: dekeys vendor lint acme.toml --spec acme-openapi.json     compare its calls with the vendor's document, too\n\
    Example: dekeys vendor lint vendors/*.toml")]
pub(crate) struct LintArgs {
    /// Manifests
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The vendor's own document: OpenAPI 3 or Swagger 2, as JSON; for one manifest
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &LintArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.spec.is_some() && args.files.len() > 1 {
        let what = "one document is of one vendor";
        return Err(Failure::usage(what, "give one manifest with --spec"));
    }
    let document = args.spec.as_deref().map(|path| context.read_text(path)).transpose()?;
    let mut all = Vec::new();
    for file in &args.files {
        let manifest = context.read_text(file)?;
        all.push(hook::lint(&name(file), &manifest, document.as_deref())?);
    }
    let bad = all.iter().filter(|linted| linted["ok"] != true).count();
    let answer = json!({ "object": "list", "data": all });
    if context.in_text() {
        let lines: Vec<String> = rows(&answer).iter().flat_map(lines).collect();
        context.print(&visible_lines(&lines.join("\n")))?;
    } else {
        context.show_value(&answer, &[])?;
    }
    if bad == 0 {
        return Ok(());
    }
    let what = format!("{bad} of {} manifests are not as they should be", args.files.len());
    let fix = "see above: file, line and column of each; the format is in vendors/README.md";
    Err(Failure::new("manifest_invalid", exit::FAILED, what, fix))
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

/// A line for each thing that is wrong, or one that nothing is.
fn lines(linted: &Value) -> Vec<String> {
    let file = text(linted, "/file");
    let findings = list(linted, "/findings");
    let mut lines: Vec<String> = findings.iter().map(|finding| found(&file, finding)).collect();
    for miss in list(linted, "/document/misses") {
        lines.push(format!("{file}: {}: {}", text(&miss, "/at"), text(&miss, "/words")));
    }
    for stale in list(linted, "/document/stale") {
        let at = stale.as_str().unwrap_or_default();
        lines.push(format!(
            "{file}: the reason for `{at}` in [[defects]] explains nothing any more"
        ));
    }
    if lines.is_empty() {
        lines.push(format!("{file}: ok, {}{}", text(linted, "/vendor"), fits(linted)));
    }
    lines
}

fn found(file: &str, finding: &Value) -> String {
    let number = |name: &str| finding.get(name).and_then(Value::as_u64).unwrap_or_default();
    let fix = text(finding, "/fix");
    let fix = if fix.is_empty() { fix } else { format!("; {fix}") };
    let message = text(finding, "/message");
    format!("{file}:{}:{}: {message}{fix}", number("line"), number("column"))
}

fn fits(linted: &Value) -> String {
    let Some(document) = linted.get("document") else {
        return String::new();
    };
    let of = |name: &str| {
        let count = |of: &str| {
            document
                .pointer(&format!("/{name}/{of}"))
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        format!("{name} {} of {}", count("good"), count("all"))
    };
    format!(
        "; as the document says: {}, {}, {}",
        of("operations"),
        of("bodies"),
        of("pointers")
    )
}

fn list(value: &Value, pointer: &str) -> Vec<Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}
