//! What is wrong with a policy file: where, what, and how to put it right.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Finding {
    /// JSON Pointer (RFC 6901) of the value in the file, `/grant/max_ttl`; a missing one is named too.
    pub pointer: String,
    /// Line, from 1; absent when the policy was judged without its text.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
    /// Bytes of the text.
    #[serde(skip)]
    span: Option<Range<usize>>,
}

impl Finding {
    /// A finding without a position.
    pub(super) fn new(pointer: &str, message: String, fix: String) -> Self {
        Self {
            pointer: pointer.to_owned(),
            line: None,
            column: None,
            message,
            fix,
            span: None,
        }
    }

    /// The same finding, at `span` of `text`.
    pub(super) fn at(mut self, text: &str, span: Range<usize>) -> Self {
        let (line, column) = position(text, span.start);
        (self.line, self.column, self.span) = (Some(line), Some(column), Some(span));
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

/// Line and column of a byte, both from 1; the column counts characters.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Everything that is wrong with one policy file, in the order of the text. A terminal shows it with the lines it
/// is about (miette); `findings` is the same as data.
#[derive(Debug, thiserror::Error)]
pub struct PolicyErrors {
    source_text: NamedSource<String>,
    findings: Vec<Finding>,
}

impl PolicyErrors {
    pub(super) fn new(text: &str, file: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.as_ref().map(|span| span.start));
        Self {
            source_text: NamedSource::new(file, text.to_owned()),
            findings,
        }
    }

    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The file's name, as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source_text.name()
    }
}

impl fmt::Display for PolicyErrors {
    /// The number of findings, then one line for each with its fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.findings.len();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "policy file `{}` has {count} {noun}", self.file())?;
        for finding in &self.findings {
            write!(f, "\n{}:{finding}", self.file())?;
        }
        Ok(())
    }
}

impl Diagnostic for PolicyErrors {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let fixes: Vec<String> = self.findings.iter().map(numbered_fix).collect();
        Some(Box::new(fixes.join("\n")))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.findings.iter().filter_map(|finding| {
            let span = finding.span.clone()?;
            Some(LabeledSpan::new_with_span(Some(finding.message.clone()), span))
        });
        Some(Box::new(labels))
    }
}

fn numbered_fix(finding: &Finding) -> String {
    match finding.line {
        Some(line) => format!("line {line}: {}", finding.fix),
        None => finding.fix.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "a\nécole = 1\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 4), (2, 2), "é is one character");
        assert_eq!(position(text, 999), (3, 1));
    }
}
