//! Which requests may be forwarded to a vendor: method and path against the manifest's rules, on the very bytes that
//! will be sent.
//!
//! A path is decoded once, encoded again, and only that spelling is matched and sent. What two readers could take for
//! two paths is refused: dot segments, empty segments, `;`, and everything encoded that means something in a path
//! (`/ \ . % ? # ;`, controls, broken UTF-8). Allowed is what a rule names; the calls that make, list and end keys are
//! denied even where a rule with `*` would fit.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::manifest::Manifest;
use super::tables::PathRule;
use super::template::Text;
use crate::model::scope::Scope;

/// The longest path that is forwarded, in bytes.
const LONGEST: usize = 4096;

/// What is spelled `%XX` in a path: all but the `pchar` of RFC 3986, and `;`, which never comes so far.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A request that may be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path as it is to be sent.
    pub path: String,
    /// The path of the rule that allows it, as the manifest writes it.
    pub rule: String,
    /// The scope it takes; `None` where any scope of the vendor will do.
    pub scope: Option<Scope>,
    /// Whether it may become a `WebSocket`.
    pub websocket: bool,
}

/// Why a request may not be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The path could mean two things.
    #[error("the path is not plain: {0}")]
    Ambiguous(&'static str),
    /// The vendor's manifest does not allow it.
    #[error("the vendor's manifest does not allow this method and path to be forwarded")]
    NotAllowed,
}

/// Finds the rule that allows `method` on `raw_path`, which begins with `/` and has no query.
///
/// # Errors
/// [`NoRoute`].
pub fn route(manifest: &Manifest, method: &str, raw_path: &str) -> Result<Route, NoRoute> {
    let path = plain(raw_path)?;
    if matches!(method, "CONNECT" | "TRACE") || denied(manifest, method, &path) {
        return Err(NoRoute::NotAllowed);
    }
    let only = only_scope(manifest);
    let fits = |rule: &&PathRule| is_method(rule, method) && matches(&rule.path, &path, str::eq);
    let rule = manifest.proxy.allow.iter().find(fits).ok_or(NoRoute::NotAllowed)?;
    Ok(Route {
        path,
        rule: rule.path.clone(),
        scope: rule.scope.clone().or(only),
        websocket: rule.websocket,
    })
}

fn only_scope(manifest: &Manifest) -> Option<Scope> {
    let mut scopes = manifest.scopes.keys();
    match (scopes.next(), scopes.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

/// The one spelling of a path.
fn plain(raw_path: &str) -> Result<String, NoRoute> {
    let ambiguous = |why| Err(NoRoute::Ambiguous(why));
    if raw_path.len() > LONGEST {
        return ambiguous("it is longer than 4096 bytes");
    }
    let Some(rest) = raw_path.strip_prefix('/') else {
        return ambiguous("it does not begin with `/`");
    };
    let mut path = String::with_capacity(raw_path.len());
    for segment in rest.split('/') {
        path.push('/');
        path.extend(utf8_percent_encode(&decoded(segment)?, ENCODED));
    }
    Ok(path)
}

/// A segment, decoded once.
fn decoded(raw: &str) -> Result<String, NoRoute> {
    let ambiguous = |why| Err(NoRoute::Ambiguous(why));
    if raw.is_empty() {
        return ambiguous("a segment is empty");
    }
    if !raw.is_ascii() {
        return ambiguous("a character outside ASCII is not percent-encoded");
    }
    if raw.contains([';', '\\', '?', '#']) {
        return ambiguous("it holds `;`, `\\`, `?` or `#`");
    }
    let whole = |at: usize| {
        raw.get(at + 1..at + 3)
            .is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if !raw.match_indices('%').all(|(at, _)| whole(at)) {
        return ambiguous("a `%` is not followed by two hexadecimal digits");
    }
    let Ok(text) = percent_decode_str(raw).decode_utf8() else {
        return ambiguous("it is not UTF-8");
    };
    let encoded: Vec<u8> = raw
        .match_indices('%')
        .filter_map(|(at, _)| u8::from_str_radix(raw.get(at + 1..at + 3)?, 16).ok())
        .collect();
    if encoded.iter().any(|byte| b"/\\.%?#;".contains(byte)) {
        return ambiguous("a `/`, `\\`, `.`, `%`, `?`, `#` or `;` is percent-encoded");
    }
    if text.chars().any(char::is_control) {
        return ambiguous("it holds a control character");
    }
    if matches!(text.as_ref(), "." | "..") {
        return ambiguous("a segment is `.` or `..`");
    }
    Ok(text.into_owned())
}

fn is_method(rule: &PathRule, method: &str) -> bool {
    // `*` for the method means every one that is registered with HTTP; others were never thought of.
    rule.method
        .as_deref()
        .map_or_else(|| known(method), |named| named == method)
}

fn known(method: &str) -> bool {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    known.iter().any(|known| known.as_str() == method)
}

/// The manifest's own denials, and the calls by which keys are made, listed and ended. Capitals make no difference: a
/// vendor may not tell them apart.
fn denied(manifest: &Manifest, method: &str, path: &str) -> bool {
    let of_method = |rule: &&PathRule| rule.method.as_deref().is_none_or(|named| named == method);
    let mut rules = manifest.proxy.deny.iter().filter(of_method);
    rules.any(|rule| matches(&rule.path, path, str::eq_ignore_ascii_case))
        || key_calls(manifest).iter().any(|pattern| {
            matches(pattern, path, str::eq_ignore_ascii_case)
                || matches(&format!("{pattern}/**"), path, str::eq_ignore_ascii_case)
        })
}

/// The paths of the calls that make, list and end keys, from the root of the host; a placeholder is any segment.
fn key_calls(manifest: &Manifest) -> Vec<String> {
    // A key that is signed here is made by no call.
    let called = manifest.create.iter().filter(|create| create.sign.is_none());
    let create = called.map(|create| &create.path);
    let list = manifest.list.iter().map(|list| &list.path);
    let revoke = manifest.revoke.iter().map(|revoke| &revoke.path);
    let base = after_host(manifest.http.base.source());
    create
        .chain(list)
        .chain(revoke)
        .map(|path| pattern(base, path))
        .collect()
}

fn pattern(base: &str, path: &Text) -> String {
    let source = path.source();
    let whole = if source.starts_with('/') {
        format!("{}{source}", base.trim_end_matches('/'))
    } else {
        after_host(source).to_owned()
    };
    let segment = |segment: &str| {
        if segment.contains("${") {
            "*".to_owned()
        } else {
            segment.to_owned()
        }
    };
    let segments: Vec<String> = whole.split('/').map(segment).collect();
    segments.join("/")
}

/// What follows the host of an address; empty when nothing does.
fn after_host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// Whether a pattern fits: `*` is one segment, `**` any number of them.
fn matches(pattern: &str, path: &str, same: fn(&str, &str) -> bool) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    fits(&pattern, &path, same)
}

fn fits(pattern: &[&str], path: &[&str], same: fn(&str, &str) -> bool) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            fits(rest, path, same) || path.split_first().is_some_and(|(_, path)| fits(pattern, path, same))
        }
        (Some((&"*", rest)), Some((_, path))) => fits(rest, path, same),
        (Some((word, rest)), Some((segment, path))) => same(word, segment) && fits(rest, path, same),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(plain("/v1/files/%41bc").unwrap(), "/v1/files/Abc");
        assert_eq!(
            plain("/a/%3a%40%20ü".replace('ü', "%c3%bc").as_str()).unwrap(),
            "/a/:@%20%C3%BC"
        );
        for path in ["/v1/models/a:b@c", "/x/(1)'*!$&+,="] {
            assert_eq!(plain(path).unwrap(), path);
        }
    }

    #[test]
    fn a_plain_path_stays_as_it_is() {
        for path in ["/v1/files/%41bc", "/a/b%20c", "/%E2%82%AC"] {
            let once = plain(path).unwrap();
            assert_eq!(plain(&once).unwrap(), once);
        }
    }

    #[test]
    fn what_could_be_two_paths_is_none() {
        for path in [
            "",
            "/",
            "x",
            "/a//b",
            "/a/",
            "/a/./b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/..%2fb",
            "/a%5cb",
            "/a;b",
            "/a%00",
            "/a%0d%0aX",
            "/%c0%ae",
            "/%",
            "/%zz",
            "/%2",
            "/%252e",
            "/a%3fb",
            "/a%23",
            "/\u{2024}",
        ] {
            assert!(matches!(plain(path), Err(NoRoute::Ambiguous(_))), "{path}");
        }
    }

    #[test]
    fn stars_are_segments() {
        let fits = |pattern, path| matches(pattern, path, str::eq);
        assert!(fits("/v1/*/x", "/v1/a/x") && !fits("/v1/*/x", "/v1/a/b/x") && !fits("/v1/*", "/v1"));
        assert!(fits("/v1/**", "/v1") && fits("/v1/**", "/v1/a/b") && fits("/**/x", "/a/b/x"));
        assert!(!fits("/v1/**", "/v2/a"));
    }

    #[test]
    fn every_rule_that_comes_with_dekeys_can_be_met_and_key_management_cannot() {
        for (name, text) in crate::vendor::shipped() {
            let manifest = Manifest::parse(text, name.as_str()).unwrap();
            for rule in &manifest.proxy.allow {
                let path = rule.path.replace("**", "x").replace('*', "x");
                let found = route(&manifest, rule.method.as_deref().unwrap_or("GET"), &path);
                assert!(found.is_ok(), "{name}: {path}: {found:?}");
            }
            for call in key_calls(&manifest) {
                let path = call.replace('*', "x");
                for method in ["GET", "POST", "DELETE"] {
                    assert_eq!(route(&manifest, method, &path).ok(), None, "{name}: {method} {path}");
                }
            }
        }
    }
}
