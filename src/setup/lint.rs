//! Reading a manifest as an operator would have it before it is connected: what is wrong with it, and, with the vendor's own
//! document, whether its calls are those that the document describes. Nothing is sent.

use serde::Serialize;

use crate::vendor::{Finding, Manifest, Report, conform};

/// What was found in one file.
#[derive(Debug, Clone, Serialize)]
pub struct Linted {
    /// The file's name as it was given.
    pub file: String,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The vendor; absent where the manifest cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// What is wrong with the manifest, in the order of the file.
    pub findings: Vec<Finding>,
    /// How it fits to the vendor's document, if that was given and the manifest can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Report>,
}

/// Reads the manifest `text`, and compares it with `document`: OpenAPI 3.0 or 3.1, or Swagger 2.0, as JSON.
///
/// # Errors
/// In words, when the document is no JSON, or the manifest's requests cannot be made up from samples.
pub fn lint(file: &str, text: &str, document: Option<&str>) -> Result<Linted, String> {
    let manifest = match Manifest::parse(text, file) {
        Ok(manifest) => manifest,
        Err(errors) => {
            return Ok(Linted {
                file: file.to_owned(),
                ok: false,
                vendor: None,
                findings: errors.findings,
                document: None,
            });
        }
    };
    let document = document.map(|document| compare(&manifest, document)).transpose()?;
    Ok(Linted {
        file: file.to_owned(),
        ok: document.as_ref().is_none_or(Report::is_clean),
        vendor: Some(manifest.name().to_string()),
        findings: Vec::new(),
        document,
    })
}

fn compare(manifest: &Manifest, document: &str) -> Result<Report, String> {
    let document = serde_json::from_str(document).map_err(|error| format!("the document is no JSON: {error}"))?;
    conform(manifest, &document).map_err(|failure| failure.words)
}
