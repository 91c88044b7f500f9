//! Names, scopes and references: the words a caller may use to say what it wants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not a name, scope or reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWord {
    /// Not a name.
    #[error("`{0}` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit")]
    Name(String),
    /// Not a scope.
    #[error("`{0}` is not a scope: use `resource:verb`, as in `chat:write`")]
    Scope(String),
    /// Not a reference.
    #[error("`{0}` is not a reference: use `dk://vendor/scope`, as in `dk://openai/chat:write`")]
    Reference(String),
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

macro_rules! word {
    ($name:ident, $pattern:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "server")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// A name people give: of a vendor, a policy, a principal. Compared byte by byte; there is one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);
word!(Name, "^[a-z0-9][a-z0-9-]{0,62}$");

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidWord;
    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-');
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidWord::Name(cut(text)))
        }
    }
}

/// What may be done at a vendor: `resource:verb`. At most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);
word!(Scope, "^[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*$");

impl Scope {
    /// The scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scope {
    type Err = InvalidWord;
    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let part = |part: &str| {
            part.bytes()
                .next()
                .is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        };
        let good = text.len() <= 128
            && text
                .split_once(':')
                .is_some_and(|(resource, verb)| part(resource) && part(verb));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidWord::Scope(cut(text)))
        }
    }
}

/// `dk://vendor/scope`: what a caller asks to buy or resolve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The vendor.
    pub vendor: Name,
    /// The scope at that vendor.
    pub scope: Scope,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dk://{}/{}", self.vendor, self.scope)
    }
}

impl FromStr for Reference {
    type Err = InvalidWord;
    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let parts = text.strip_prefix("dk://").and_then(|rest| rest.split_once('/'));
        let (vendor, scope) = parts.ok_or_else(|| InvalidWord::Reference(cut(text)))?;
        Ok(Self {
            vendor: vendor.parse()?,
            scope: scope.parse()?,
        })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Reference {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reference".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^dk://[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*$",
            "examples": ["dk://openai/chat:write"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_words_of_the_documents() {
        assert_eq!(
            "dk://openai/chat:write".parse::<Reference>().unwrap().to_string(),
            "dk://openai/chat:write"
        );
        assert!("prim-infer".parse::<Name>().is_ok() && "mail.send:write".parse::<Scope>().is_ok());
    }

    #[test]
    fn refuses_other_cases_spaces_and_emptiness() {
        for text in ["", "OpenAI", "a b", "-a", "a_b", "é", "a/b", "a\0"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        for text in [
            "",
            "chat",
            "chat:",
            ":write",
            "chat:write:x",
            "Chat:write",
            "chat :write",
            "*:*",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
        for text in [
            "openai/chat:write",
            "dk://openai",
            "dk:///chat:write",
            "dk://openai/x/chat:write",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
