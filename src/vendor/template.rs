//! Templates of a manifest: text with `${variable}`, and JSON trees of such text. No loops, no conditions.
//!
//! `"${x}"` alone keeps the JSON type of `x`; `${x?}` drops the key when `x` is not set; `${x|filter}` changes the
//! spelling. What is put into a path is percent-encoded, what goes into a header may hold no line break.
//!
//! Not protected: the rendered text of a secret is an ordinary string until the request is sent; trees are wiped.

use std::collections::BTreeMap;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use crate::base::secret::SecretText;

/// A template that does not parse or cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` without `}}`")]
    Open,
    /// Nothing, or something else than a variable, between the braces.
    #[error("`{0}` is not a variable")]
    Variable(String),
    /// A filter that does not exist.
    #[error("`{0}` is not a filter: use `snake`, `lower`, `comma`, `space`, `list`, `merge` or `json`")]
    Filter(String),
    /// A variable without a value.
    #[error("`{0}` has no value")]
    Unset(String),
    /// A list or table inside other text.
    #[error("`{0}` is a list or table and cannot stand inside text; use `comma` or `space`")]
    NotText(String),
    /// A path segment that would be empty, `.` or `..`.
    #[error("the path would have an empty segment or a step up")]
    Path,
    /// A header value with a line break or another control character.
    #[error("a header would hold a line break or another character that is not allowed")]
    Header,
}

/// Text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    source: String,
    pieces: Vec<Piece>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it stands.
    Fixed(String),
    /// To be filled in.
    Variable(Variable),
}

/// `name|filter?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The name: `id`, `params.workspace`, `root.key`.
    pub(crate) name: String,
    filters: Vec<Filter>,
    optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Snake,
    Lower,
    Comma,
    Space,
    List,
    Merge,
    Json,
}

/// JSON whose text may hold variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// Text with variables.
    Text(Text),
    /// A number, a boolean or null.
    Fixed(Value),
    /// A table.
    Table(Vec<(String, Self)>),
    /// A list.
    List(Vec<Self>),
}

/// What the variables stand for during one call.
#[derive(Default)]
pub(crate) struct Values<'a> {
    plain: BTreeMap<String, Value>,
    secrets: BTreeMap<String, &'a SecretText>,
}

/// A JSON tree whose text is wiped when dropped: requests and answers may hold a key.
pub(crate) struct Wiped(pub(crate) Value);

impl Text {
    /// Reads a text.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once("${") {
            if !before.is_empty() {
                pieces.push(Piece::Fixed(before.to_owned()));
            }
            let (inside, tail) = after.split_once('}').ok_or(TemplateError::Open)?;
            pieces.push(Piece::Variable(Variable::parse(inside)?));
            rest = tail;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Fixed(rest.to_owned()));
        }
        Ok(Self {
            source: source.to_owned(),
            pieces,
        })
    }

    /// A text that is one variable.
    pub(crate) fn variable(name: &str) -> Self {
        let variable = Variable {
            name: name.to_owned(),
            filters: Vec::new(),
            optional: false,
        };
        Self {
            source: format!("${{{name}}}"),
            pieces: vec![Piece::Variable(variable)],
        }
    }

    /// A text without variables.
    pub(crate) fn fixed(text: &str) -> Self {
        Self {
            source: text.to_owned(),
            pieces: vec![Piece::Fixed(text.to_owned())],
        }
    }

    /// The text as written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Its parts in order.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Its variables in order.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(variable) => Some(variable),
            Piece::Fixed(_) => None,
        })
    }

    /// The only piece, when it is a variable: then the JSON type of the value is kept.
    fn whole(&self) -> Option<&Variable> {
        match self.pieces.as_slice() {
            [Piece::Variable(variable)] => Some(variable),
            _ => None,
        }
    }

    /// The text filled in; `None` when an optional variable has no value.
    pub(crate) fn render(&self, values: &Values<'_>) -> Result<Option<Zeroizing<String>>, TemplateError> {
        self.render_with(values, String::push_str)
    }

    /// The text filled in as a header's value.
    pub(crate) fn render_header(&self, values: &Values<'_>) -> Result<Option<HeaderValue>, TemplateError> {
        let Some(text) = self.render(values)? else {
            return Ok(None);
        };
        Ok(Some(header_value(&text)?))
    }

    /// The text filled in as a path: each value is one encoded piece of a segment, and can neither add a segment nor
    /// step up.
    pub(crate) fn render_path(&self, values: &Values<'_>) -> Result<Zeroizing<String>, TemplateError> {
        let encode = |out: &mut String, text: &str| out.extend(utf8_percent_encode(text, SEGMENT));
        let path = self.render_with(values, encode)?.ok_or(TemplateError::Path)?;
        let filled_empty = path.contains("//") && !self.source.contains("//");
        let ends_empty = path.ends_with('/') && !self.source.ends_with('/');
        if filled_empty || ends_empty || path.split('/').any(steps) {
            return Err(TemplateError::Path);
        }
        Ok(path)
    }

    fn render_with(
        &self,
        values: &Values<'_>,
        put: impl Fn(&mut String, &str),
    ) -> Result<Option<Zeroizing<String>>, TemplateError> {
        let mut out = Zeroizing::new(String::with_capacity(self.source.len() + 64));
        for piece in &self.pieces {
            match piece {
                Piece::Fixed(text) => out.push_str(text),
                Piece::Variable(variable) => match values.get(variable) {
                    Some(value) => put(&mut out, &variable.text(value)?),
                    None if variable.optional => return Ok(None),
                    None => return Err(TemplateError::Unset(variable.name.clone())),
                },
            }
        }
        Ok(Some(out))
    }
}

/// A header's value that is not logged. Visible ASCII and spaces only.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, TemplateError> {
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(TemplateError::Header);
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| TemplateError::Header)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What stands unencoded in a path segment: RFC 3986 unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Variable {
    fn parse(inside: &str) -> Result<Self, TemplateError> {
        let (body, optional) = inside.strip_suffix('?').map_or((inside, false), |body| (body, true));
        let mut parts = body.split('|');
        let name = parts.next().unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(TemplateError::Variable(name.chars().take(64).collect()));
        }
        Ok(Self {
            name: name.to_owned(),
            filters: parts.map(Filter::parse).collect::<Result<_, _>>()?,
            optional,
        })
    }

    /// The value as text, filters applied.
    fn text(&self, value: Held<'_>) -> Result<Zeroizing<String>, TemplateError> {
        let mut text = match (value, self.joiner()) {
            (Held::Secret(secret), _) => Zeroizing::new(secret.expose().to_owned()),
            (Held::Plain(Value::String(text)), _) => Zeroizing::new(text.clone()),
            (Held::Plain(Value::Array(items)), Some(between)) => Zeroizing::new(join(items, between)),
            (Held::Plain(value @ (Value::Number(_) | Value::Bool(_))), _) => Zeroizing::new(value.to_string()),
            (Held::Plain(_), _) => return Err(TemplateError::NotText(self.name.clone())),
        };
        for filter in &self.filters {
            *text = filter.apply(&text);
        }
        Ok(text)
    }

    /// Whether a filter makes another kind of JSON of the value; such a variable stands alone.
    fn shapes(&self) -> bool {
        let shape = |filter: &Filter| matches!(filter, Filter::List | Filter::Merge | Filter::Json);
        self.filters.iter().any(shape)
    }

    fn shaped(&self, value: Value) -> Value {
        self.filters.iter().fold(value, |value, filter| match (filter, value) {
            (Filter::List, Value::String(text)) => text.split(',').map(str::trim).collect(),
            (Filter::Merge, Value::Array(tables)) => Value::Object(tables.into_iter().fold(Map::new(), merged)),
            (Filter::Json, value) => Value::String(value.to_string()),
            (_, value) => value,
        })
    }

    fn joiner(&self) -> Option<&'static str> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::Comma => Some(","),
            Filter::Space => Some(" "),
            _ => None,
        })
    }
}

/// A table with what another adds: lists of one key become one list, of any other two values the later counts.
fn merged(mut table: Map<String, Value>, more: Value) -> Map<String, Value> {
    let Value::Object(more) = more else { return table };
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (Some(Value::Array(known)), Value::Array(items)) => {
                let new: Vec<Value> = items.into_iter().filter(|item| !known.contains(item)).collect();
                known.extend(new);
            }
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
    table
}

fn join(items: &[Value], between: &str) -> String {
    let texts = items
        .iter()
        .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
    texts.collect::<Vec<_>>().join(between)
}

impl Filter {
    fn parse(word: &str) -> Result<Self, TemplateError> {
        match word {
            "snake" => Ok(Self::Snake),
            "lower" => Ok(Self::Lower),
            "comma" => Ok(Self::Comma),
            "space" => Ok(Self::Space),
            "list" => Ok(Self::List),
            "merge" => Ok(Self::Merge),
            "json" => Ok(Self::Json),
            other => Err(TemplateError::Filter(other.chars().take(64).collect())),
        }
    }

    fn apply(self, text: &str) -> String {
        match self {
            Self::Snake => text.chars().map(snake).collect(),
            Self::Lower => text.to_lowercase(),
            Self::Comma | Self::Space | Self::List | Self::Merge | Self::Json => text.to_owned(),
        }
    }
}

fn snake(letter: char) -> char {
    match letter.to_ascii_lowercase() {
        lower @ ('a'..='z' | '0'..='9' | '_') => lower,
        _ => '_',
    }
}

impl Tree {
    /// The tree of a JSON value.
    pub(crate) fn parse(value: Value) -> Result<Self, TemplateError> {
        Ok(match value {
            Value::String(text) => Self::Text(Text::parse(&text)?),
            Value::Array(items) => Self::List(items.into_iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(fields) => Self::Table(
                fields
                    .into_iter()
                    .map(|(key, value)| Ok((key, Self::parse(value)?)))
                    .collect::<Result<_, TemplateError>>()?,
            ),
            other => Self::Fixed(other),
        })
    }

    /// The tree filled in. A key whose optional variable has no value is dropped, as is such an item of a list.
    pub(crate) fn render(&self, values: &Values<'_>) -> Result<Option<Value>, TemplateError> {
        Ok(Some(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(text) => return render_leaf(text, values),
            Self::List(items) => Value::Array(
                items
                    .iter()
                    .filter_map(|item| item.render(values).transpose())
                    .collect::<Result<_, _>>()?,
            ),
            Self::Table(fields) => Value::Object(
                fields
                    .iter()
                    .filter_map(|(key, tree)| {
                        let value = tree.render(values).transpose()?;
                        Some(value.map(|value| (key.clone(), value)))
                    })
                    .collect::<Result<Map<_, _>, _>>()?,
            ),
        }))
    }

    /// Every text in the tree with the JSON Pointer of its place.
    pub(crate) fn texts(&self) -> Vec<(String, &Text)> {
        let mut found = Vec::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect<'t>(&'t self, pointer: String, found: &mut Vec<(String, &'t Text)>) {
        match self {
            Self::Text(text) => found.push((pointer, text)),
            Self::Fixed(_) => {}
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect(format!("{pointer}/{index}"), found);
                }
            }
            Self::Table(fields) => {
                for (key, tree) in fields {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    tree.collect(format!("{pointer}/{key}"), found);
                }
            }
        }
    }
}

fn render_leaf(text: &Text, values: &Values<'_>) -> Result<Option<Value>, TemplateError> {
    let plain_whole = text.whole().filter(|variable| variable.filters.is_empty());
    if let Some(Held::Plain(value)) = plain_whole.and_then(|variable| values.get(variable)) {
        return Ok(Some(value.clone()));
    }
    let shaped = text.whole().filter(|variable| variable.shapes());
    if let Some((variable, Held::Plain(value))) = shaped.and_then(|variable| Some((variable, values.get(variable)?))) {
        return Ok(Some(variable.shaped(value.clone())));
    }
    Ok(text.render(values)?.map(|text| Value::String(text.to_string())))
}

#[derive(Clone, Copy)]
enum Held<'a> {
    Plain(&'a Value),
    Secret(&'a SecretText),
}

impl<'a> Values<'a> {
    /// Sets a variable that is not secret.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.plain.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a variable unless there is nothing to set it to.
    #[must_use]
    pub(crate) fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sets a secret variable.
    #[must_use]
    pub(crate) fn secret(mut self, name: &str, value: &'a SecretText) -> Self {
        self.secrets.insert(name.to_owned(), value);
        self
    }

    fn get<'s>(&'s self, variable: &Variable) -> Option<Held<'s>> {
        let secret = self.secrets.get(&variable.name).map(|secret| Held::Secret(secret));
        secret.or_else(|| self.plain.get(&variable.name).map(Held::Plain))
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| wipe(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = String::deserialize(deserializer)?;
        Self::parse(&source).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Fixed(value) => value.serialize(serializer),
            Self::Table(fields) => serializer.collect_map(fields.iter().map(|(key, tree)| (key, tree))),
            Self::List(items) => serializer.collect_seq(items),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Whether a segment of a path stays or steps up, in whatever spelling a URL allows (WHATWG URL, 4.4).
pub(super) fn steps(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(source: &str) -> Text {
        Text::parse(source).unwrap()
    }

    #[test]
    fn a_whole_variable_keeps_its_type_and_an_unset_optional_one_drops_its_key() {
        let tree = Tree::parse(json!({
            "ttl": "${ttl}", "label": "key ${ttl}", "scopes": "${scopes}", "limit": "${budget.usd?}", "on": true,
            "nested": { "both": ["${scopes|comma}", "${budget.usd?}"] }
        }))
        .unwrap();
        let values = Values::default().with("ttl", 60).with("scopes", json!(["a", "b"]));
        assert_eq!(
            tree.render(&values).unwrap().unwrap(),
            json!({ "ttl": 60, "label": "key 60", "scopes": ["a", "b"], "on": true, "nested": { "both": ["a,b"] } })
        );
    }

    #[test]
    fn values_do_not_leave_their_path_segment() {
        let values = |value: &str| Values::default().with("id", value);
        let path = |value: &str| {
            text("/keys/${id}/x")
                .render_path(&values(value))
                .map(|path| path.to_string())
        };
        assert_eq!(
            path("a/../b?c#d%2e é").unwrap(),
            "/keys/a%2F..%2Fb%3Fc%23d%252e%20%C3%A9/x"
        );
        for hostile in ["", ".", ".."] {
            assert_eq!(path(hostile), Err(TemplateError::Path), "{hostile}");
        }
        let two = Values::default().with("id", ".");
        assert_eq!(text("/k/${id}${id}").render_path(&two), Err(TemplateError::Path));
        assert_eq!(text("/k/${id}").render_path(&values("")), Err(TemplateError::Path));
    }

    #[test]
    fn headers_refuse_line_breaks() {
        for hostile in ["a\r\nx: y", "a\nb", "a\0", "é"] {
            let values = Values::default().with("v", hostile);
            assert_eq!(
                text("Bearer ${v}").render_header(&values),
                Err(TemplateError::Header),
                "{hostile:?}"
            );
        }
        let secret = SecretText::new("s3cret".to_owned());
        let value = text("Bearer ${v}")
            .render_header(&Values::default().secret("v", &secret))
            .unwrap()
            .unwrap();
        assert!(value == "Bearer s3cret" && value.is_sensitive());
    }

    #[test]
    fn a_value_is_not_read_as_a_template() {
        let values = Values::default().with("name", "${root.key}").with("root.key", "no");
        assert_eq!(
            text("${name}").render(&values).unwrap().unwrap().as_str(),
            "${root.key}"
        );
    }

    #[test]
    fn filters_and_mistakes() {
        let values = Values::default().with("name", "dk-Ab-1").with("list", json!([1, "x"]));
        assert_eq!(
            text("${name|snake}").render(&values).unwrap().unwrap().as_str(),
            "dk_ab_1"
        );
        assert_eq!(text("${list|space}").render(&values).unwrap().unwrap().as_str(), "1 x");
        assert_eq!(
            text("x${list}").render(&values),
            Err(TemplateError::NotText("list".into()))
        );
        assert_eq!(
            text("${nope}").render(&values),
            Err(TemplateError::Unset("nope".into()))
        );
        assert_eq!(Text::parse("${a"), Err(TemplateError::Open));
        assert_eq!(Text::parse("${}"), Err(TemplateError::Variable(String::new())));
        assert_eq!(Text::parse("${a|eval}"), Err(TemplateError::Filter("eval".into())));
    }
}
