//! A manifest against the vendor's own OpenAPI document: every request it makes must be one that the document
//! describes, and every place it reads must be in the document's answers. Nothing is sent.
//!
//! Not seen: what a vendor does otherwise than its document says; `evidence = "live"` tells that.

mod document;
mod sample;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::VendorFailure;
use super::manifest::Manifest;
use crate::base::egress::Outgoing;
use document::{Document, Operation, Place};

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// Requests that the document describes, of all.
    pub operations: Tally,
    /// Bodies that are as the document wants them.
    pub bodies: Tally,
    /// Places in answers that the document describes.
    pub pointers: Tally,
    /// Of these, places where the document leaves open what stands there.
    pub opaque: usize,
    /// Everything that does not fit.
    pub misses: Vec<Miss>,
    /// Misses that the manifest lists as the document's own faults, with the reason.
    pub explained: Vec<Miss>,
    /// Reasons that explain nothing any more.
    pub stale: Vec<String>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// That fit.
    pub good: usize,
    /// That were looked at.
    pub all: usize,
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Miss {
    /// Where: `create`, `create.body/limit`, `list.query/page`, `create.secret`.
    pub at: String,
    /// What, or why it is no fault of the manifest.
    pub words: String,
}

/// One request of a manifest and what it reads from the answer.
struct Case {
    name: String,
    outgoing: Outgoing,
    /// Names of places and JSON Pointers.
    reads: Vec<(String, String)>,
}

impl Tally {
    const fn count(&mut self, good: bool) {
        self.all += 1;
        if good {
            self.good += 1;
        }
    }
}

impl Report {
    /// Whether nothing is left unexplained.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.misses.is_empty() && self.stale.is_empty()
    }

    fn miss(&mut self, at: impl Into<String>, words: impl Into<String>) {
        self.misses.push(Miss {
            at: at.into(),
            words: words.into(),
        });
    }
}

/// Compares a manifest with a document (OpenAPI 3.0 or 3.1, or Swagger 2.0, as JSON).
///
/// # Errors
/// [`VendorFailure`] when the manifest cannot render a request from sample inputs.
pub fn conform(manifest: &Manifest, document: &Value) -> Result<Report, VendorFailure> {
    let document = Document::new(document, manifest.http.base.source());
    let mut report = Report::default();
    for case in sample::cases(manifest)? {
        check(&document, &case, &mut report);
    }
    explain(manifest, &mut report);
    Ok(report)
}

fn check(document: &Document<'_>, case: &Case, report: &mut Report) {
    let url = &case.outgoing.url;
    let found = document.operation(case.outgoing.method.as_str(), url.path());
    report.operations.count(found.is_some());
    let Some(operation) = found else {
        let words = format!("the document has no {} {}", case.outgoing.method, url.path());
        return report.miss(&case.name, words);
    };
    query(&operation, case, report);
    body(&operation, case, report);
    for (name, pointer) in &case.reads {
        let place = operation.answer(pointer);
        report.pointers.count(place != Place::Absent);
        match place {
            Place::Text => {}
            Place::Open => report.opaque += 1,
            Place::Absent => {
                let at = format!("{}.{name}", case.name);
                report.miss(at, format!("no good answer of the document has text at `{pointer}`"));
            }
        }
    }
}

fn query(operation: &Operation<'_>, case: &Case, report: &mut Report) {
    let given: BTreeSet<String> = case
        .outgoing
        .url
        .query_pairs()
        .map(|(key, _)| key.into_owned())
        .collect();
    for key in given.iter().filter(|key| !operation.takes(key)) {
        report.miss(
            format!("{}.query/{key}", case.name),
            "the document knows no such parameter",
        );
    }
    for key in operation.required().filter(|key| !given.contains(*key)) {
        report.miss(
            format!("{}.query/{key}", case.name),
            "the document wants this parameter",
        );
    }
}

fn body(operation: &Operation<'_>, case: &Case, report: &mut Report) {
    let sent = &case.outgoing.body;
    if sent.is_empty() {
        if operation.needs_body() {
            report.miss(format!("{}.body", case.name), "the document wants a body");
        }
        return;
    }
    let kind = case.outgoing.headers.get(http::header::CONTENT_TYPE);
    let faults = operation.body_faults(kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default(), sent);
    report.bodies.count(faults.is_empty());
    for (pointer, words) in faults {
        report.miss(format!("{}.body{pointer}", case.name), words);
    }
}

/// Moves the misses that the manifest explains.
fn explain(manifest: &Manifest, report: &mut Report) {
    for defect in &manifest.defects {
        let count = report.misses.len();
        report.misses.retain(|miss| miss.at != defect.at);
        if report.misses.len() == count {
            report.stale.push(defect.at.clone());
        } else {
            report.explained.push(Miss {
                at: defect.at.clone(),
                words: defect.reason.clone(),
            });
        }
    }
}
