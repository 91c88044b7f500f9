//! Structured fields (RFC 9651), read strictly: what stands twice is refused, where the RFC lets the last one win.

use http::HeaderMap;
use sfv::visitor::{DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, Dictionary, InnerList, KeyRef, List, ListEntry, ListSerializer, Parser};

use super::SigError;

/// The longest field that is read, all its lines together.
const MAX_FIELD: usize = 8 * 1024;

/// A field's value as RFC 9421 §2.1 combines its lines; `None` when there is no such field.
pub(super) fn combined(headers: &HeaderMap, name: &str) -> Option<Result<String, ()>> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    let texts: Result<Vec<&str>, ()> = lines.map(|line| line.to_str().map(str::trim).map_err(|_| ())).collect();
    Some(texts.map(|texts| texts.join(", ")))
}

/// The dictionary in a field; `None` when there is no such field.
pub(super) fn dictionary(headers: &HeaderMap, name: &'static str) -> Result<Option<Dictionary>, SigError> {
    let Some(text) = combined(headers, name) else {
        return Ok(None);
    };
    let text = text.map_err(|()| SigError::Field(name))?;
    if text.len() > MAX_FIELD {
        return Err(SigError::Field(name));
    }
    let members: Dictionary = Parser::new(&text).parse().map_err(|_| SigError::Field(name))?;
    Parser::new(&text)
        .parse_dictionary_with_visitor(&mut Once::default())
        .map_err(|_| SigError::Duplicate(name))?;
    Ok(Some(members))
}

/// An inner list as it stands in `signature-input` and in the last line of a signature base.
pub(super) fn print(list: &InnerList) -> String {
    let mut out = String::new();
    let mut serializer = ListSerializer::with_buffer(&mut out);
    let mut inner = serializer.inner_list();
    inner.items(&list.items);
    let _ = inner.finish().parameters(&list.params);
    out
}

/// Reads what [`print()`] wrote.
pub(super) fn parse_list(text: &str) -> Option<InnerList> {
    let members: List = Parser::new(text).parse().ok()?;
    match <[ListEntry; 1]>::try_from(members) {
        Ok([ListEntry::InnerList(list)]) => Some(list),
        _ => None,
    }
}

/// Visits a field and refuses keys that repeat within one dictionary or one set of parameters.
#[derive(Default)]
struct Once<'de>(Vec<&'de KeyRef>);

#[derive(Debug, thiserror::Error)]
#[error("a key stands twice")]
struct Twice;

impl<'de> Once<'de> {
    fn see(&mut self, key: &'de KeyRef) -> Result<(), Twice> {
        if self.0.contains(&key) {
            return Err(Twice);
        }
        self.0.push(key);
        Ok(())
    }
}

impl<'de> DictionaryVisitor<'de> for Once<'de> {
    type Error = Twice;
    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Twice> {
        self.see(key).map(|()| Once::default())
    }
}

impl<'de> ParameterVisitor<'de> for Once<'de> {
    type Error = Twice;
    fn parameter(&mut self, key: &'de KeyRef, _: BareItemFromInput<'de>) -> Result<(), Twice> {
        self.see(key)
    }
}

impl<'de> ItemVisitor<'de> for Once<'de> {
    type Error = Twice;
    fn bare_item(self, _: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de>, Twice> {
        Ok(Once::default())
    }
}

impl<'de> EntryVisitor<'de> for Once<'de> {
    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Twice> {
        Ok(Once::default())
    }
}

impl<'de> InnerListVisitor<'de> for Once<'de> {
    type Error = Twice;
    fn item(&mut self) -> Result<impl ItemVisitor<'de>, Twice> {
        Ok(Once::default())
    }
    fn finish(self) -> Result<impl ParameterVisitor<'de>, Twice> {
        Ok(Once::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn lines_are_joined_and_repeated_keys_refused_at_every_depth() {
        let read = dictionary(&field(&["a=1", "  b=(1;x 2);y "]), "x").unwrap().unwrap();
        assert_eq!(read.len(), 2);
        for twice in [
            &["a=1, a=2"][..],
            &["a=1", "a=1"],
            &["a=1;p;p"],
            &["a=(1;p=1;p=1)"],
            &["a=();p;q;p"],
        ] {
            assert_eq!(
                dictionary(&field(twice), "x"),
                Err(SigError::Duplicate("x")),
                "{twice:?}"
            );
        }
        let same_key_elsewhere = dictionary(&field(&["a=(1;a 2;a);a, b=1;a"]), "x");
        assert!(same_key_elsewhere.is_ok());
    }

    #[test]
    fn what_is_no_dictionary_is_refused_and_absence_is_not() {
        assert_eq!(dictionary(&HeaderMap::new(), "x"), Ok(None));
        let long = "a".repeat(MAX_FIELD + 1);
        for wrong in ["a=", "A=1", "a=1,", "\"a\"", long.as_str()] {
            assert_eq!(dictionary(&field(&[wrong]), "x"), Err(SigError::Field("x")), "{wrong}");
        }
    }

    #[test]
    fn inner_lists_print_as_they_were_read() {
        let text = "(\"@method\" \"@query-param\";name=\"a\");created=1;keyid=\"k\"";
        assert_eq!(print(&parse_list(text).unwrap()), text);
        for wrong in ["", "1", "(), ()", "(", "()x"] {
            assert!(parse_list(wrong).is_none(), "{wrong}");
        }
    }
}
