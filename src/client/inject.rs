//! How a prim puts a resolved key into its own request.

#[cfg(feature = "client")]
use data_encoding::BASE64;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::base::secret::SecretText;

/// The header that `inject.format` of a resolution describes: `Bearer {secret}` with the key in place.
///
/// `None` when the result cannot stand in a header. The value is marked sensitive, so that HTTP libraries do not log
/// it; their buffers are not wiped.
#[must_use]
pub fn header(format: &str, key: &SecretText) -> Option<HeaderValue> {
    let mut text = Zeroizing::new(format.replace("{secret}", key.expose()));
    value(&SecretText::new(std::mem::take(&mut *text)))
}

/// A format with the key in place: `{secret}` is the first field, `{name}` the field of that name.
#[cfg(feature = "client")]
pub(super) fn fill(format: &str, fields: &[(String, SecretText)]) -> SecretText {
    let mut rest = format;
    let mut text = Zeroizing::new(String::new());
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let named = after.split_once('}').and_then(|(name, tail)| {
            let field = fields.iter().find(|(known, _)| known == name);
            let field = field.or_else(|| fields.first().filter(|_| name == "secret"));
            field.map(|(_, secret)| (secret, tail))
        });
        // What stands in braces and is no field stands for itself.
        if let Some((secret, tail)) = named {
            text.push_str(secret.expose());
            rest = tail;
        } else {
            text.push('{');
            rest = after;
        }
    }
    text.push_str(rest);
    SecretText::new(std::mem::take(&mut *text))
}

/// A header's value, marked as sensitive; `None` when it cannot stand in a header.
pub(super) fn value(text: &SecretText) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Basic …` (RFC 7617).
#[cfg(feature = "client")]
pub(super) fn basic(user: &SecretText, password: &SecretText) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{}:{}", user.expose(), password.expose()));
    let text = SecretText::new(format!("Basic {}", *Zeroizing::new(BASE64.encode(pair.as_bytes()))));
    value(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, SecretText)> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), SecretText::new((*value).to_owned()));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_format_is_filled_once_and_what_a_key_holds_is_no_format() {
        let filled = |format: &str, pairs: &[(&str, &str)]| fill(format, &fields(pairs)).expose().to_owned();
        assert_eq!(filled("Bearer {secret}", &[("api_key", "k")]), "Bearer k");
        assert_eq!(filled("{a}/{b}", &[("a", "{b}"), ("b", "2")]), "{b}/2");
        assert_eq!(filled("{x} {", &[("a", "1")]), "{x} {");
        assert_eq!(filled("{secret}", &[("secret", "s"), ("a", "1")]), "s");
    }

    #[test]
    fn basic_is_that_of_the_rfc() {
        let text = |text: &str| SecretText::new(text.to_owned());
        let value = basic(&text("Aladdin"), &text("open sesame")).unwrap();
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
    }
}
