//! Where certain things may stand: secrets exposed, proof of a record made, SQL put together.

use super::source::{Source, closing, idents, skip_space};

/// Files and folders whose product code may call `expose`. `base/secret.rs` defines it.
const EXPOSING: &[&str] = &[
    "src/audit/checkpoint.rs",
    "src/base/secret.rs",
    // The other side of the wire: files, headers and answers of the one who owns the secret (decision 0007).
    "src/client/inject.rs",
    "src/client/mask.rs",
    "src/client/secret.rs",
    "src/client/token.rs",
    "src/http/resolve.rs",
    "src/httpsig/key.rs",
    "src/payment",
    "src/proxy",
    "src/token/mint.rs",
    "src/token/roots.rs",
    "src/vault",
    "src/vendor/inject.rs",
    "src/vendor/template.rs",
];

/// `expose` anywhere else. Unit tests may look.
pub(super) fn secrets_are_exposed_where_listed(source: &Source) -> Vec<String> {
    if within(source, EXPOSING) {
        return Vec::new();
    }
    let exposing = idents(&source.product).filter(|(_, word)| *word == "expose");
    exposing
        .map(|(at, _)| source.complain(at, "a secret is exposed outside the listed files"))
        .collect()
}

/// `Committed` made, or given another name under which it could be made, outside the store. Unit tests of what
/// takes one may make one: `Committed::new` is not visible outside the crate.
pub(super) fn committed_is_made_by_the_store(source: &Source) -> Vec<String> {
    if within(source, &["src/store"]) {
        return Vec::new();
    }
    let code = &source.product;
    let made = |at: usize| {
        let after = tight(code, at + "Committed".len(), 5);
        let before = tight_before(code, at);
        after.starts_with("::new") || after.starts_with("::{") || before.ends_with('=') || renamed(code, at)
    };
    idents(code)
        .filter(|(at, word)| *word == "Committed" && made(*at))
        .map(|(at, _)| source.complain(at, "only the store makes a `Committed`"))
        .collect()
}

/// Queries put together from strings, and the door around sqlx's own check of that.
pub(super) fn sql_is_constant(source: &Source) -> Vec<String> {
    let code = &source.product;
    // `statement` joins constant fragments; values are bound.
    let doors = ["src/store/migrate.rs", "src/store/dialect.rs", "src/store/statement.rs"];
    idents(code)
        .filter_map(|(at, word)| match word {
            "AssertSqlSafe" if !within(source, &doors) => Some(source.complain(
                at,
                "`AssertSqlSafe` stands in store/migrate.rs and store/dialect.rs only",
            )),
            "query" | "query_as" | "query_scalar" | "query_with" | "raw_sql" if formats(code, at + word.len()) => {
                Some(source.complain(at, "SQL is built with `format!`"))
            }
            _ => None,
        })
        .collect()
}

/// Functions that a library keeps for compatibility and calls unsafe itself.
pub(super) fn no_deprecated_doors(source: &Source) -> Vec<String> {
    let doors = idents(&source.code).filter(|(_, word)| word.starts_with(concat!("unsafe", "_deprecated")));
    doors
        .map(|(at, word)| source.complain(at, &format!("`{word}` is used")))
        .collect()
}

/// Whether the file is one of `places`, or lies in one; `src/vault` means `src/vault.rs` and `src/vault/*`.
fn within(source: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| {
        let rest = source.path.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    })
}

/// Whether the call whose name ends at `at` has `format!` among its arguments.
fn formats(code: &[u8], at: usize) -> bool {
    let open = skip_turbofish(code, skip_space(code, at));
    if code.get(open) != Some(&b'(') {
        return false;
    }
    let arguments = code.get(open..closing(code, open)).unwrap_or_default();
    idents(arguments).any(|(at, word)| word == "format" && tight(arguments, at + word.len(), 1) == "!")
}

/// Where `::<…>` ends; `at` when none begins there.
fn skip_turbofish(code: &[u8], at: usize) -> usize {
    if tight(code, at, 3) != "::<" {
        return at;
    }
    let mut depth = 0i32;
    for (at, byte) in code.iter().enumerate().skip(at) {
        match byte {
            b'<' => depth += 1,
            b'>' if depth == 1 => return skip_space(code, at + 1),
            b'>' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Up to `count` bytes from `at` on, white space left out.
fn tight(code: &[u8], at: usize, count: usize) -> String {
    let bytes = code.iter().skip(at).filter(|byte| !byte.is_ascii_whitespace());
    bytes.take(count).map(|byte| char::from(*byte)).collect()
}

/// What stands before `at` on its line or the ones above, as far as the last visible byte.
fn tight_before(code: &[u8], at: usize) -> String {
    let bytes = code.iter().take(at).rev().find(|byte| !byte.is_ascii_whitespace());
    bytes.map(|byte| char::from(*byte)).into_iter().collect()
}

fn renamed(code: &[u8], at: usize) -> bool {
    let after = code.get(at + "Committed".len()..).unwrap_or_default();
    after.starts_with(b" ")
        && idents(after)
            .next()
            .is_some_and(|(offset, word)| word == "as" && offset == 1)
}
