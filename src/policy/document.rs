//! Reads a TOML document value by value and keeps where each one stands, so that several findings can be told at
//! once, each with its line and column.

use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Finding;

/// Why a value is no good, and what would be.
pub(super) struct Complaint {
    message: String,
    fix: String,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

/// One table of the document.
#[derive(Clone)]
pub(super) struct Section<'a, 't> {
    pointer: String,
    table: &'a DeTable<'t>,
    /// Where its name stands: what is missing in it is told there.
    span: Range<usize>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) const fn root(table: &'a DeTable<'t>) -> Self {
        Self {
            pointer: String::new(),
            table,
            span: 0..0,
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// How many items the list `key` has, good or bad.
    pub(super) fn items(&self, key: &str) -> Option<usize> {
        Some(self.get(key)?.get_ref().as_array()?.iter().count())
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    fn pointer_to(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }
}

/// Collects values and findings.
pub(super) struct Reader<'t> {
    text: &'t str,
    findings: Vec<Finding>,
}

impl<'t> Reader<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self {
            text,
            findings: Vec::new(),
        }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Complains of every key that is not in `known`, and names the nearest one that is.
    pub(super) fn only(&mut self, section: &Section<'_, '_>, known: &[&str]) {
        for key in section.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let fix = nearest(name, known).map_or_else(
                    || format!("remove it; known here are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let complaint = Complaint::new(format!("unknown key `{}`", cut(name)), fix);
                self.complain(&section.pointer_to(name), key.span(), complaint);
            }
        }
    }

    /// The table `key`, if there is one.
    pub(super) fn section<'a>(&mut self, parent: &Section<'a, 't>, key: &str) -> Option<Section<'a, 't>> {
        let (name, value) = parent.table.get_key_value(key)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Section {
                pointer: parent.pointer_to(key),
                table,
                span: name.span(),
            });
        }
        let complaint = Complaint::new(
            format!("`{key}` must be a table"),
            format!("write `[{key}]` on a line of its own"),
        );
        self.complain(&parent.pointer_to(key), value.span(), complaint);
        None
    }

    /// The table `key`, which must be there.
    pub(super) fn required_section<'a>(
        &mut self,
        parent: &Section<'a, 't>,
        key: &str,
        fix: &str,
    ) -> Option<Section<'a, 't>> {
        if !parent.has(key) {
            self.missing(parent, key, fix);
        }
        self.section(parent, key)
    }

    /// The value `key`, if there is a good one. A bad one is a finding.
    pub(super) fn value<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
    ) -> Option<T> {
        let value = section.get(key)?;
        read(value.get_ref())
            .map_err(|complaint| self.complain(&section.pointer_to(key), value.span(), complaint))
            .ok()
    }

    /// The value `key`, which must be there; `example` shows how it is written.
    pub(super) fn required<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
    ) -> Option<T> {
        if !section.has(key) {
            self.missing(section, key, &format!("write `{key} = {example}`"));
        }
        self.value(section, key, read)
    }

    /// The list `key`: every item read, none twice. Absent is `None`, empty is empty.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        section: &Section<'_, 't>,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        let value = section.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let complaint = Complaint::new(format!("`{key}` must be a list"), format!("write `{key} = [\"…\"]`"));
            self.complain(&section.pointer_to(key), value.span(), complaint);
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let read = read(item.get_ref()).and_then(|read| {
                if list.contains(&read) {
                    return Err(Complaint::new("stands in the list twice", "remove one of them"));
                }
                Ok(read)
            });
            match read {
                Ok(read) => list.push(read),
                Err(complaint) => {
                    self.complain(&format!("{}/{place}", section.pointer_to(key)), item.span(), complaint);
                }
            }
        }
        Some(list)
    }

    /// Every line of a table whose keys are not known before: each key and value read.
    pub(super) fn entries<K, V>(
        &mut self,
        section: &Section<'_, 't>,
        name: impl Fn(&str) -> Result<K, Complaint>,
        read: impl Fn(&DeValue<'_>) -> Result<V, Complaint>,
    ) -> Vec<(K, V)> {
        let mut entries = Vec::new();
        for (key, value) in section.table {
            let pointer = section.pointer_to(key.get_ref());
            match (name(key.get_ref()), read(value.get_ref())) {
                (Ok(key), Ok(value)) => entries.push((key, value)),
                (Err(complaint), _) => self.complain(&pointer, key.span(), complaint),
                (_, Err(complaint)) => self.complain(&pointer, value.span(), complaint),
            }
        }
        entries
    }

    /// Complains of `key`, where it stands or where it is missing.
    pub(super) fn blame(&mut self, section: &Section<'_, '_>, key: &str, complaint: Complaint) {
        let span = section.get(key).map_or_else(|| section.span.clone(), Spanned::span);
        self.complain(&section.pointer_to(key), span, complaint);
    }

    /// Complains of the text as a whole, or a part of it that is not TOML.
    pub(super) fn broken(&mut self, span: Range<usize>, complaint: Complaint) {
        self.complain("", span, complaint);
    }

    fn missing(&mut self, section: &Section<'_, '_>, key: &str, fix: &str) {
        let complaint = Complaint::new(format!("`{key}` is missing"), fix);
        self.blame(section, key, complaint);
    }

    fn complain(&mut self, pointer: &str, span: Range<usize>, complaint: Complaint) {
        let finding = Finding::new(pointer, complaint.message, complaint.fix);
        self.findings.push(finding.at(self.text, span));
    }
}

/// Where the value of a JSON Pointer stands in `text`; when it is absent, the nearest table that would hold it.
pub(super) fn locate(text: &str, pointer: &str) -> Option<Range<usize>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = Some(document.get_ref());
    let mut found = None;
    for part in pointer.split('/').skip(1) {
        let Some((key, value)) = table.and_then(|table| table.get_key_value(part)) else {
            break;
        };
        table = value.get_ref().as_table();
        found = Some(if table.is_some() { key.span() } else { value.span() });
    }
    found
}

/// Text.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Complaint> {
    value
        .as_str()
        .ok_or_else(|| Complaint::new(format!("must be text, not {}", kind(value)), "put it in double quotes"))
}

/// Anything that is parsed from text and whose error says what is wrong.
pub(super) fn word<T: FromStr<Err: std::fmt::Display>>(value: &DeValue<'_>, fix: &str) -> Result<T, Complaint> {
    let text = text(value)?;
    text.parse()
        .map_err(|error: T::Err| Complaint::new(error.to_string(), fix))
}

/// One of some words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Complaint> {
    let text = text(value)?;
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let fix = nearest(text, &words).map_or_else(
        || format!("write one of {}", words.join(", ")),
        |near| format!("did you mean `{near}`? known are {}", words.join(", ")),
    );
    Err(Complaint::new(format!("`{}` is not known here", cut(text)), fix))
}

/// A whole number of at least 1 and at most `most`.
pub(super) fn count(value: &DeValue<'_>, most: i64) -> Result<i64, Complaint> {
    let fix = format!("write a whole number from 1 to {most}, without quotes");
    let number = value
        .as_integer()
        .ok_or_else(|| Complaint::new(format!("must be a whole number, not {}", kind(value)), &fix))?;
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(Complaint::new(
            format!("`{}` is out of bounds", cut(number.as_str())),
            fix,
        )),
    }
}

/// Yes or no.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, Complaint> {
    value.as_bool().ok_or_else(|| {
        Complaint::new(
            format!("must be true or false, not {}", kind(value)),
            "write `true` or `false`",
        )
    })
}

/// The nearest of `known`, if it is near enough to be meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// User input as it may be shown: short, on one line.
pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
