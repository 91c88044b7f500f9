//! What is wrong with a manifest file, each with its line and column, and as many at once as can be found.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// One thing wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// JSON Pointer to the place: `/create/path`.
    pub pointer: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, when that can be guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All that was found wrong with a manifest, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestErrors {
    /// The file's name as it was given.
    pub file: String,
    /// At least one.
    pub findings: Vec<Finding>,
}

impl std::error::Error for ManifestErrors {}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let Finding {
                line, column, message, ..
            } = finding;
            write!(f, "{separator}{}:{line}:{column}: {message}", self.file)?;
            if let Some(fix) = &finding.fix {
                write!(f, "; {fix}")?;
            }
        }
        Ok(())
    }
}

/// A file being read: the tree with its positions, and what was found so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    tree: DeTable<'t>,
    findings: Vec<(usize, Finding)>,
}

impl<'t> Reader<'t> {
    /// Reads the syntax; mistakes of syntax become findings.
    pub(super) fn new(text: &'t str) -> Self {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self {
            text,
            tree: tree.into_inner(),
            findings: Vec::new(),
        };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            reader.push(at, String::new(), error.message().to_owned(), None);
        }
        reader
    }

    /// Whether nothing was found yet.
    pub(super) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Names the tables that are not among `known`.
    pub(super) fn only(&mut self, known: &[&str]) {
        let unknown: Vec<(usize, String)> = self
            .tree
            .iter()
            .filter(|(key, _)| !known.contains(&key.get_ref().as_ref()))
            .map(|(key, _)| (key.span().start, key.get_ref().to_string()))
            .collect();
        for (at, key) in unknown {
            let fix = suggestion(&key, known.iter().copied());
            self.push(at, pointer(&[&key]), format!("unknown table or key `{key}`"), fix);
        }
    }

    /// Reads a table that must be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        if self.tree.get(key).is_none() {
            self.push(0, pointer(&[key]), format!("`{key}` is missing"), None);
        }
        self.optional(key)
    }

    /// Reads a table if it is there. What is wrong is noted and left out, so that all of it is found at once.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let mut value = self.tree.get(key)?.clone();
        let mut explained: Vec<String> = Vec::new();
        loop {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(table) => return Some(table),
                Err(error) => error,
            };
            // A key that was left out, or stands there misspelt, is not missed once more.
            let missing = error
                .message()
                .strip_prefix("missing field `")
                .and_then(|rest| rest.split('`').next());
            if missing.is_some_and(|missing| explained.iter().any(|word| word == missing)) {
                return None;
            }
            let span = error.span().unwrap_or_else(|| value.span());
            let (message, fix) = plain_words(error.message());
            explained.extend(
                fix.iter()
                    .flat_map(|fix| fix.split('`').skip(1).step_by(2))
                    .map(str::to_owned),
            );
            self.push(span.start, self.pointer_at(&span), message, fix);
            explained.push(leave_out(value.get_mut(), &span).filter(|_| missing.is_none())?);
        }
    }

    /// Notes something wrong with the value at a path of keys and indexes; where it is absent, its parent is shown.
    pub(super) fn wrong(&mut self, path: &str, message: impl Into<String>, fix: Option<String>) {
        let at = self.position(path);
        self.push(at, path.to_owned(), message.into(), fix);
    }

    /// All findings in the order of the file, or nothing.
    pub(super) fn finish(mut self, file: &str) -> Result<(), ManifestErrors> {
        if self.findings.is_empty() {
            return Ok(());
        }
        self.findings.sort_by_key(|(at, _)| *at);
        Err(ManifestErrors {
            file: file.to_owned(),
            findings: self.findings.into_iter().map(|(_, finding)| finding).collect(),
        })
    }

    fn push(&mut self, at: usize, pointer: String, message: String, fix: Option<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let finding = Finding {
            pointer,
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
            fix,
        };
        self.findings.push((at, finding));
    }

    fn position(&self, path: &str) -> usize {
        let mut steps = path.split('/').skip(1);
        let Some((key, mut value)) = steps.next().and_then(|key| self.tree.get_key_value(key)) else {
            return 0;
        };
        let mut at = key.span().start;
        for step in steps {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match value.get_ref() {
                DeValue::Table(table) => table
                    .get_key_value(step.as_str())
                    .map(|(key, value)| (key.span(), value)),
                DeValue::Array(items) => {
                    let item = step.parse::<usize>().ok().and_then(|index| items.get(index));
                    item.map(|value| (value.span(), value))
                }
                _ => None,
            };
            let Some((span, inner)) = next else { return at };
            (at, value) = (span.start, inner);
        }
        if path.matches('/').count() > 1 {
            value.span().start
        } else {
            at
        }
    }

    fn pointer_at(&self, span: &Range<usize>) -> String {
        let mut path = String::new();
        descend(&self.tree, span, &mut path);
        path
    }
}

fn pointer(steps: &[&str]) -> String {
    steps
        .iter()
        .fold(String::new(), |path, step| path + "/" + &escape(step))
}

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

/// Writes the path of the innermost key or value that covers `span`.
fn descend(table: &DeTable<'_>, span: &Range<usize>, path: &mut String) {
    for (key, value) in table {
        if covers(&key.span(), span) || covers(&value.span(), span) || covers_inside(value, span) {
            path.push('/');
            path.push_str(&escape(key.get_ref()));
            descend_value(value, span, path);
            return;
        }
    }
}

fn descend_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut String) {
    match value.get_ref() {
        DeValue::Table(table) => descend(table, span, path),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if covers(&item.span(), span) {
                    path.push('/');
                    path.push_str(&index.to_string());
                    descend_value(item, span, path);
                    return;
                }
            }
        }
        _ => {}
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A `[table]`'s own span is its header; its keys stand after that.
fn covers_inside(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => table
            .iter()
            .any(|(key, value)| covers(&key.span(), span) || covers(&value.span(), span) || covers_inside(value, span)),
        DeValue::Array(items) => items.iter().any(|item| covers(&item.span(), span)),
        _ => false,
    }
}

/// Takes the key at `span`, or the key whose value is there, out of the tree, and gives its name.
fn leave_out(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => {
            let here = |(key, value): &(&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                key.span() == *span || value.span() == *span
            };
            if let Some(key) = table.iter().find(here).map(|(key, _)| key.get_ref().to_string()) {
                table.remove(key.as_str());
                return Some(key);
            }
            table.iter_mut().find_map(|(_, value)| leave_out(value.get_mut(), span))
        }
        DeValue::Array(items) => items.iter_mut().find_map(|item| leave_out(item.get_mut(), span)),
        _ => None,
    }
}

/// The nearest word, when one is near.
pub(super) fn suggestion(given: &str, known: impl Iterator<Item = impl AsRef<str> + Ord>) -> Option<String> {
    known
        .map(|word| (strsim::damerau_levenshtein(given, word.as_ref()), word))
        .filter(|(distance, word)| *distance <= 1 + word.as_ref().len() / 4)
        .min()
        .map(|(_, word)| format!("did you mean `{}`?", word.as_ref()))
}

/// Turns a reader's message into the words of people, with a suggestion where it names what it expected.
fn plain_words(message: &str) -> (String, Option<String>) {
    for (begins, kind) in [("unknown field ", "key"), ("unknown variant ", "value")] {
        if let Some(rest) = message.strip_prefix(begins) {
            let mut quoted = rest.split('`').skip(1).step_by(2);
            let given = quoted.next().unwrap_or_default();
            let known: Vec<&str> = quoted.collect();
            let fix = suggestion(given, known.iter().copied())
                .or_else(|| Some(format!("use one of `{}`", known.join("`, `"))).filter(|_| !known.is_empty()));
            return (format!("unknown {kind} `{given}`"), fix);
        }
    }
    let mut words = message
        .replace("missing field", "missing key")
        .replace("sequence", "list");
    for number in ["u8", "u16", "u32", "u64", "usize", "i64"] {
        words = words.replace(
            &format!("expected {number}"),
            "expected a whole number that is not negative",
        );
    }
    (words.trim_end().replace('\n', "; "), None)
}
