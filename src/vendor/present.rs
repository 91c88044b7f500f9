//! Where a caller puts its token when it takes dekeys for the vendor: the place where the vendor's key would stand.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use url::form_urlencoded;

use super::inject::next_placeholder;
use super::manifest::Manifest;
use super::tables::Slot;

/// What stands where the vendor's key would, in every place that the manifest knows. Unverified, and empty when there
/// is nothing. Two different texts in two places are both answered.
#[must_use]
pub fn presented(manifest: &Manifest, headers: &HeaderMap, query: Option<&str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for slot in &manifest.proxy.inject {
        let texts = match slot {
            Slot::Header { name, format } => headers
                .get_all(name.as_str())
                .iter()
                .filter_map(|value| between(format, value.to_str().ok()?))
                .collect(),
            Slot::Basic { user, password } => in_basic(user, password, headers),
            Slot::Query { name, format } => form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .filter(|(key, _)| key == name)
                .filter_map(|(_, value)| between(format, &value))
                .collect(),
        };
        for text in texts {
            if !text.is_empty() && !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found
}

fn in_basic(user: &str, password: &str, headers: &HeaderMap) -> Vec<String> {
    let pairs = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let text = scheme.eq_ignore_ascii_case("basic").then_some(rest.trim())?;
        String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
    });
    let of_pair = |pair: String| {
        let (given_user, given_password) = pair.split_once(':')?;
        let in_password = next_placeholder(password).and_then(|_| between(password, given_password));
        in_password
            .filter(|text| !text.is_empty())
            .or_else(|| next_placeholder(user).and_then(|_| between(user, given_user)))
    };
    pairs.filter_map(of_pair).collect()
}

/// What stands at the placeholder of a format. The scheme before it is compared without regard to capitals, as RFC
/// 9110 wants it.
fn between(format: &str, value: &str) -> Option<String> {
    let (before, _, after) = next_placeholder(format)?;
    let head = value.get(..before.len())?;
    let rest = value.get(before.len()..)?;
    let text = rest.strip_suffix(after)?;
    head.eq_ignore_ascii_case(before).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(inject: &str, headers: &[(&str, &str)], query: &str) -> Vec<String> {
        let text = crate::vendor::shipped()
            .into_iter()
            .find(|(name, _)| name.as_str() == "groq")
            .unwrap()
            .1;
        let line = text.lines().find(|line| line.starts_with("inject")).unwrap();
        let manifest = Manifest::parse(&text.replace(line, &format!("inject = [{inject}]")), "x").unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        presented(&manifest, &map, Some(query))
    }

    #[test]
    fn the_token_stands_where_the_key_would() {
        let bearer = r#"{ in = "header", name = "Authorization", format = "Bearer {secret}" }"#;
        assert_eq!(
            of(bearer, &[("authorization", "bearer dkt_test_x")], ""),
            ["dkt_test_x"]
        );
        assert!(of(bearer, &[("authorization", "Basic dkt_test_x")], "").is_empty());
        assert!(of(bearer, &[("x-api-key", "dkt_test_x")], "").is_empty());
        let key = r#"{ in = "header", name = "x-api-key", format = "{secret}" }"#;
        assert_eq!(of(key, &[("x-api-key", "dkt_test_x")], ""), ["dkt_test_x"]);
        assert_eq!(of(key, &[("x-api-key", "a"), ("x-api-key", "b")], ""), ["a", "b"]);
        let query = r#"{ in = "query", name = "key", format = "{secret}" }"#;
        assert_eq!(of(query, &[], "a=1&key=dkt%5Ftest_x"), ["dkt_test_x"]);
        let basic = r#"{ in = "basic", user = "api", password = "{secret}" }"#;
        assert_eq!(of(basic, &[("authorization", "Basic YXBpOmRrdF94")], ""), ["dkt_x"]);
        let user = r#"{ in = "basic", user = "{secret}", password = "" }"#;
        assert_eq!(of(user, &[("authorization", "Basic ZGt0X3g6")], ""), ["dkt_x"]);
    }
}
