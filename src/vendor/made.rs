//! What a creation at a vendor is made of beyond one call: keys of several fields, keys that dekeys draws itself,
//! answers that come later, and calls that follow.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::tables::{As, CreateTable, Encoding, Verb};
use super::template::{Text, Tree, Values, Wiped};
use super::words::{Charset, Pointer};
use crate::base::random::Random;
use crate::base::secret::SecretText;

/// `[create.generate]`: the vendor takes a secret of ours (`${generated}`) instead of making one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Generate {
    /// Characters it is drawn from.
    #[serde(default = "letters")]
    pub(crate) charset: Charset,
    /// How many.
    #[serde(default = "forty")]
    pub(crate) length: usize,
}

/// Where the vendor's id of a key is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdFrom {
    /// In the answer to the creation.
    #[default]
    Answer,
    /// In the list, by its name: the answer holds none.
    List,
    /// The key is its own id. dekeys keeps a digest of it in its place.
    Secret,
    /// The name is the id.
    Name,
}

/// `[create.poll]`: the answer is a promise, and the key is fetched when it is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Poll {
    /// Where to ask; `${poll}` is what `from` pointed at.
    pub(crate) path: Text,
    /// What to ask for, in the answer to the creation.
    pub(crate) from: Pointer,
    /// Present, and neither `false` nor `null`, when it is done.
    pub(crate) done: Pointer,
    /// Time between two questions.
    #[serde(default = "second")]
    pub(crate) every_ms: u64,
    /// Questions at most.
    #[serde(default = "fifteen")]
    pub(crate) tries: u32,
}

/// One call of `create.then` or `revoke.first`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct Step {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    pub(crate) ok: BTreeSet<u16>,
    #[serde(rename = "as", default = "as_root")]
    pub(crate) as_: As,
}

impl Generate {
    /// A fresh secret. Every character of the set is as likely as the others.
    pub(crate) fn draw(&self, random: &dyn Random) -> SecretText {
        let letters = self.charset.letters();
        let mut text = String::with_capacity(self.length);
        let fair = 256 - 256 % letters.len().clamp(1, 256);
        while text.chars().count() < self.length && !letters.is_empty() {
            let mut byte = [0_u8; 1];
            random.fill(&mut byte);
            let drawn = usize::from(byte[0]);
            if let Some(letter) = (drawn < fair).then(|| letters.get(drawn % letters.len())).flatten() {
                text.push(*letter);
            }
        }
        SecretText::new(text)
    }
}

impl<'m> From<&'m Step> for Call<'m> {
    fn from(step: &'m Step) -> Self {
        Self {
            table: "step",
            verb: step.method,
            path: &step.path,
            query: &step.query,
            headers: &step.headers,
            encoding: step.encoding,
            body: step.body.as_ref(),
        }
    }
}

/// Where one field of a key comes from: a JSON Pointer into the answer, or a text such as `${name}`, `${generated}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Source {
    Answer(Pointer),
    Text(Text),
}

impl TryFrom<String> for Source {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            return Pointer::try_from(text).map(Self::Answer);
        }
        Text::parse(&text).map(Self::Text).map_err(|error| error.to_string())
    }
}

impl Source {
    fn text(&self, answer: &Value, values: &Values<'_>) -> Option<String> {
        match self {
            Self::Answer(pointer) => pointer.text(answer),
            Self::Text(text) => Some(text.render(values).ok()??.to_string()),
        }
    }
}

/// The key in an answer: one text, several fields as a JSON object with names in order, or what dekeys drew. `None`
/// when something is missing.
pub(crate) fn secret(create: &CreateTable, answer: &Value, values: &Values<'_>) -> Option<SecretText> {
    if !create.fields.is_empty() {
        let texts = create
            .fields
            .iter()
            .map(|(name, source)| Some((name.clone(), Value::String(source.text(answer, values)?))))
            .collect::<Option<serde_json::Map<_, _>>>()?;
        let whole = Wiped(Value::Object(texts));
        return Some(SecretText::new(whole.0.to_string()));
    }
    match &create.secret {
        Some(pointer) => pointer.text(answer).map(SecretText::new),
        None => Some(SecretText::new(drawn().render(values).ok()??.to_string())),
    }
}

fn drawn() -> Text {
    Text::variable("generated")
}

fn letters() -> Charset {
    Charset::try_from("a-zA-Z0-9".to_owned()).unwrap_or_else(|_| Charset::plain())
}

const fn forty() -> usize {
    40
}

const fn second() -> u64 {
    1000
}

const fn fifteen() -> u32 {
    15
}

const fn as_root() -> As {
    As::Root
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::random::OsRandom;
    use crate::vendor::inject::fields;

    const CREATE: &str = "method = \"POST\"\npath = \"/keys\"\nok = [200]";

    #[test]
    fn a_drawn_secret_has_its_length_and_characters() {
        let generate = Generate {
            charset: "a-c7".to_owned().try_into().unwrap(),
            length: 200,
        };
        let drawn = generate.draw(&OsRandom);
        let text = drawn.expose();
        assert_eq!(text.len(), 200);
        assert!(text.chars().all(|letter| "abc7".contains(letter)));
        assert!("abc7".chars().all(|letter| text.contains(letter)));
    }

    #[test]
    fn several_fields_become_one_secret_and_come_apart_again() {
        let create = |text: &str| toml::from_str::<CreateTable>(&format!("{CREATE}\n{text}")).unwrap();
        let values = Values::default().with("name", "dk-1");
        let several = create("fields = { id = \"/k/id\", secret = \"/k/s\", user = \"${name}\" }");
        let whole = secret(&several, &json!({ "k": { "id": 7, "s": "x\"y" } }), &values).unwrap();
        let apart = fields(&whole);
        assert_eq!(
            (apart["id"].expose(), apart["secret"].expose(), apart["user"].expose()),
            ("7", "x\"y", "dk-1")
        );
        assert!(secret(&several, &json!({ "k": { "id": 7 } }), &values).is_none());
        let drawn = SecretText::new("drawn".to_owned());
        let own = secret(
            &create("generate = {}"),
            &json!(null),
            &values.secret("generated", &drawn),
        )
        .unwrap();
        assert_eq!(own.expose(), "drawn");
        assert!(fields(&SecretText::new("sk-plain".to_owned())).is_empty());
        assert!(fields(&SecretText::new("12".to_owned())).is_empty());
    }
}
