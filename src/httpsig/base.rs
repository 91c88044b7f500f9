//! The text that is signed: RFC 9421 §2.5, for requests and responses, with every component dekeys or the RFC's own
//! examples use. What the profile demands is said in `verify`, not here.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sfv::{Dictionary, FieldType as _, InnerList, Item, ItemSerializer, ListEntry, Parser};

use super::SigError;
use super::field::{combined, parse_list, print};

/// What is left as it is in a `@query-param` (RFC 9421 §2.2.8).
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// A request as both sides see it. The server fills it from what it received, never from what it made of that.
/// Without `Debug`: the headers hold tokens.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// `https`, or `http` in test instances: as the client sees it.
    pub scheme: &'a str,
    /// Host and port, from `Host` or `:authority`. That it names this server is for the caller to check.
    pub authority: &'a str,
    /// The path, byte for byte as sent, without the query.
    pub path: &'a str,
    /// What follows the `?`, byte for byte; `None` when there is no `?`.
    pub query: Option<&'a str>,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// What a signature can be made over.
pub enum Message<'a> {
    /// A request.
    Request(Parts<'a>),
    /// A response.
    Response {
        /// The status code.
        status: u16,
        /// All header fields.
        headers: &'a HeaderMap,
    },
}

/// The signature base of `message` for one member of `signature-input`, without its label:
/// `("@method" …);created=…`. Checks neither key nor freshness nor the profile.
pub fn signature_base(message: &Message<'_>, input: &str) -> Result<String, SigError> {
    let list = parse_list(input).ok_or(SigError::Field("signature-input"))?;
    base_of(message, &list)
}

/// The same for a list that was read before.
pub(super) fn base_of(message: &Message<'_>, list: &InnerList) -> Result<String, SigError> {
    let mut base = String::with_capacity(512);
    let mut seen: Vec<String> = Vec::with_capacity(list.items.len());
    for item in &list.items {
        let id = ItemSerializer::new()
            .bare_item(&item.bare_item)
            .parameters(&item.params)
            .finish();
        if seen.contains(&id) {
            return Err(SigError::CoveredTwice(id));
        }
        let value = component(message, item)
            .filter(|value| is_plain(value))
            .ok_or_else(|| SigError::Component(id.clone()))?;
        for part in [id.as_str(), ": ", &value, "\n"] {
            base.push_str(part);
        }
        seen.push(id);
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(&print(list));
    Ok(base)
}

/// One component's value; `None` when the message has none, has several, or the component is not known.
fn component<'a>(message: &Message<'a>, item: &Item) -> Option<Cow<'a, str>> {
    let name = item.bare_item.as_string()?.as_str();
    if name.starts_with('@') {
        return match message {
            Message::Request(parts) => derived(parts, name, item),
            Message::Response { status, .. } if name == "@status" && item.params.is_empty() => {
                Some(Cow::Owned(format!("{status:03}")))
            }
            Message::Response { .. } => None,
        };
    }
    let headers = match message {
        Message::Request(parts) => parts.headers,
        Message::Response { headers, .. } => headers,
    };
    field(headers, name, item).map(Cow::Owned)
}

/// RFC 9421 §2.2.
fn derived<'a>(parts: &Parts<'a>, name: &str, item: &Item) -> Option<Cow<'a, str>> {
    if name == "@query-param" {
        return query_param(parts, item).map(Cow::Owned);
    }
    if !item.params.is_empty() {
        return None;
    }
    match name {
        "@method" => Some(Cow::Borrowed(parts.method)),
        "@scheme" => Some(Cow::Owned(parts.scheme.to_ascii_lowercase())),
        "@authority" => authority(parts).map(Cow::Owned),
        "@path" => path(parts).map(Cow::Borrowed),
        "@query" => Some(Cow::Owned(format!("?{}", query(parts)?.unwrap_or_default()))),
        "@target-uri" => {
            let (authority, path) = (authority(parts)?, path(parts)?);
            let query = query(parts)?.map(|query| format!("?{query}")).unwrap_or_default();
            let scheme = parts.scheme.to_ascii_lowercase();
            Some(Cow::Owned(format!("{scheme}://{authority}{path}{query}")))
        }
        _ => None,
    }
}

/// Lower case and without the scheme's own port. What could be taken for another part of a URI is refused.
fn authority(parts: &Parts<'_>) -> Option<String> {
    let authority = parts.authority.to_ascii_lowercase();
    let foreign = |byte: u8| byte.is_ascii_whitespace() || b"/?#@\\".contains(&byte);
    if authority.is_empty() || authority.bytes().any(foreign) {
        return None;
    }
    let port = match parts.scheme.to_ascii_lowercase().as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    Some(authority.strip_suffix(port).unwrap_or(&authority).to_owned())
}

fn path<'a>(parts: &Parts<'a>) -> Option<&'a str> {
    let path = if parts.path.is_empty() { "/" } else { parts.path };
    let plain = path.starts_with('/') && !path.contains(['?', '#', ' ']);
    plain.then_some(path)
}

#[expect(clippy::option_option, reason = "a refused query and an absent one differ")]
fn query<'a>(parts: &Parts<'a>) -> Option<Option<&'a str>> {
    let foreign = |query: &str| query.contains(['#', ' ']);
    (!parts.query.is_some_and(foreign)).then_some(parts.query)
}

/// RFC 9421 §2.2.8: one parameter of the query, which must be there once.
fn query_param(parts: &Parts<'_>, item: &Item) -> Option<String> {
    let wanted = item
        .params
        .get("name")
        .filter(|_| item.params.len() == 1)?
        .as_string()?;
    let encode = |text: &str| utf8_percent_encode(text, QUERY_VALUE).to_string();
    let pairs = url::form_urlencoded::parse(parts.query?.as_bytes());
    let mut values = pairs.filter(|(name, _)| encode(name) == wanted.as_str());
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(encode(&value)),
        _ => None,
    }
}

/// RFC 9421 §2.1: a field as it is, or (§2.1.2) one member of it when it is a dictionary.
fn field(headers: &HeaderMap, name: &str, item: &Item) -> Option<String> {
    let lower = HeaderName::from_lowercase(name.as_bytes()).ok()?;
    let value = combined(headers, lower.as_str())?.ok()?;
    if item.params.is_empty() {
        return Some(value);
    }
    let key = item.params.get("key").filter(|_| item.params.len() == 1)?.as_string()?;
    let members: Dictionary = Parser::new(&value).parse().ok()?;
    Some(match members.get(key.as_str())? {
        ListEntry::Item(member) => member.serialize(),
        ListEntry::InnerList(member) => print(member),
    })
}

/// A value that stays on its line: printable ASCII, and tabs as header fields may hold them.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(headers: &'a HeaderMap, path: &'a str, query: Option<&'a str>) -> Parts<'a> {
        Parts {
            method: "POST",
            scheme: "https",
            authority: "www.Example.com:443",
            path,
            query,
            headers,
            body: b"",
        }
    }

    fn line(parts: Parts<'_>, component: &str) -> Result<String, SigError> {
        let base = signature_base(&Message::Request(parts), &format!("({component})"))?;
        Ok(base.lines().next().unwrap().split_once(": ").unwrap().1.to_owned())
    }

    #[test]
    fn the_parts_of_the_target_are_those_of_the_rfc() {
        let none = HeaderMap::new();
        let full = || parts(&none, "/path", Some("param=value&foo=bar"));
        for (component, value) in [
            ("@method", "POST"),
            ("@scheme", "https"),
            ("@authority", "www.example.com"),
            ("@path", "/path"),
            ("@query", "?param=value&foo=bar"),
            ("@target-uri", "https://www.example.com/path?param=value&foo=bar"),
        ] {
            assert_eq!(line(full(), &format!("\"{component}\"")).as_deref(), Ok(value));
        }
        let bare = parts(&none, "", None);
        assert_eq!(line(bare, "\"@query\"").as_deref(), Ok("?"));
        assert_eq!(line(bare, "\"@path\"").as_deref(), Ok("/"));
        assert_eq!(line(bare, "\"@target-uri\"").as_deref(), Ok("https://www.example.com/"));
        let http = Parts { scheme: "http", ..bare };
        assert_eq!(line(http, "\"@authority\"").as_deref(), Ok("www.example.com:443"));
    }

    #[test]
    fn query_parameters_are_encoded_as_in_section_2_2_8() {
        let none = HeaderMap::new();
        let query =
            "var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something";
        let parts = parts(&none, "/parameters", Some(query));
        for (name, value) in [
            ("var", "this%20is%20a%20big%0Amultiline%20value"),
            ("bar", "with%20plus%20whitespace"),
            ("fa%C3%A7ade%22%3A%20", "something"),
        ] {
            let component = format!("\"@query-param\";name=\"{name}\"");
            assert_eq!(line(parts, &component).as_deref(), Ok(value));
        }
        let twice = Parts {
            query: Some("a=1&a=1"),
            ..parts
        };
        assert!(line(twice, "\"@query-param\";name=\"a\"").is_err() && line(twice, "\"@query-param\"").is_err());
    }

    #[test]
    fn fields_are_trimmed_joined_and_taken_apart_as_in_section_2_1() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-empty-header", ""),
            ("x-ows-header", "  Leading and trailing whitespace.   "),
            ("cache-control", "max-age=60"),
            ("cache-control", "    must-revalidate"),
            ("example-dict", " a=1, b=2;x=1;y=2,   c=(a   b   c), d"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        for (component, value) in [
            ("\"x-empty-header\"", ""),
            ("\"x-ows-header\"", "Leading and trailing whitespace."),
            ("\"cache-control\"", "max-age=60, must-revalidate"),
            ("\"example-dict\";key=\"a\"", "1"),
            ("\"example-dict\";key=\"d\"", "?1"),
            ("\"example-dict\";key=\"b\"", "2;x=1;y=2"),
            ("\"example-dict\";key=\"c\"", "(a b c)"),
        ] {
            assert_eq!(
                line(parts(&headers, "/", None), component).as_deref(),
                Ok(value),
                "{component}"
            );
        }
    }

    #[test]
    fn components_that_are_absent_unknown_or_ambiguous_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("x-latin", http::HeaderValue::from_bytes(b"\xe4").unwrap());
        headers.insert("x", "1".parse().unwrap());
        let plain = parts(&headers, "/", None);
        for component in [
            "\"absent\"",
            "\"X\"",
            "\"x-latin\"",
            "\"@status\"",
            "\"@unknown\"",
            "\"@method\";req",
            "\"x\";bs",
            "\"x\";sf",
            "\"x\";key=\"y\"",
            "x",
            "1",
        ] {
            assert!(
                matches!(line(plain, component), Err(SigError::Component(_))),
                "{component}"
            );
        }
        assert!(matches!(line(plain, "\"x\" \"x\""), Err(SigError::CoveredTwice(_))));
        for (path, query) in [
            ("/a?b", None),
            ("a", None),
            ("/a#", None),
            ("/a\nb", None),
            ("/", Some("a#b")),
            ("/", Some("a\nb")),
        ] {
            assert!(
                line(parts(&headers, path, query), "\"@target-uri\"").is_err(),
                "{path} {query:?}"
            );
        }
        for authority in ["", "a/b", "user@host", "a b", "a?b", "ä"] {
            assert!(
                line(Parts { authority, ..plain }, "\"@authority\"").is_err(),
                "{authority}"
            );
        }
        assert!(
            line(
                Parts {
                    method: "GET\nX",
                    ..plain
                },
                "\"@method\""
            )
            .is_err()
        );
    }
}
