//! The architecture, kept by tests: which module may import which, where secrets may be exposed, where proof of
//! a record may be made, how long files and functions may be. Each rule is a function from one source file to
//! its complaints, so that the tests below can show each of them a violation and see it found.

mod layers;
mod places;
mod shape;
mod source;

use std::path::Path;

use layers::{ALLOWED, layers};
use places::{committed_is_made_by_the_store, no_deprecated_doors, secrets_are_exposed_where_listed, sql_is_constant};
use shape::{documented, files_are_short, functions_are_short, named_by_a_noun_or_verb};
use source::{Source, tree};

type Rule = fn(&Source) -> Vec<String>;

/// Fails with one line per violation.
fn holds(rule: Rule, folders: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<Source> = folders.iter().flat_map(|folder| tree(root, folder)).collect();
    assert!(files.len() > 10, "found only {} files", files.len());
    let complaints: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_import_only_what_their_layer_allows() {
    holds(layers, &["src"]);
}

#[test]
fn secrets_are_exposed_only_where_it_is_listed() {
    holds(secrets_are_exposed_where_listed, &["src"]);
}

#[test]
fn proof_of_a_record_is_made_by_the_store_alone() {
    holds(committed_is_made_by_the_store, &["src"]);
}

#[test]
fn sql_is_not_built_from_strings() {
    holds(sql_is_constant, &["src"]);
}

#[test]
fn nothing_deprecated_as_unsafe_is_used() {
    holds(no_deprecated_doors, &["src", "tests"]);
}

#[test]
fn files_are_at_most_600_lines_long() {
    holds(files_are_short, &["src"]);
}

#[test]
fn functions_are_at_most_80_lines_long() {
    holds(functions_are_short, &["src", "tests"]);
}

#[test]
fn files_have_names_that_say_something() {
    holds(named_by_a_noun_or_verb, &["src", "tests"]);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    holds(documented, &["src", "tests"]);
}

#[test]
fn the_table_of_layers_has_no_circle() {
    fn reaches(from: &str, to: &str, depth: usize) -> bool {
        let next = ALLOWED
            .iter()
            .filter(|(module, _)| *module == from)
            .flat_map(|(_, allowed)| *allowed);
        depth > 0
            && next
                .into_iter()
                .any(|allowed| *allowed == to || reaches(allowed, to, depth - 1))
    }
    for (module, allowed) in ALLOWED {
        assert!(!reaches(module, module, ALLOWED.len()), "{module} reaches itself");
        for name in *allowed {
            assert!(
                ALLOWED.iter().any(|(known, _)| known == name),
                "{module} names {name}, which is no module"
            );
        }
    }
}

/// What a rule says about a file with this text.
fn complaints(rule: Rule, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

#[test]
fn a_wrong_import_is_found_in_every_spelling() {
    for text in [
        "use crate::store::Store;",
        "use crate::{base::id, store};",
        "use crate::{\n    base,\n    store::{Tx, Store},\n};",
        "use super::store::Store;",
        "fn f() { crate::store::open(); }",
        "fn f() { super::store::open(); }",
        "use crate :: store;",
        "#[cfg(test)]\nmod tests { use crate::store::Store; }",
    ] {
        assert_eq!(complaints(layers, "src/http.rs", text), 1, "{text}");
    }
    assert_eq!(complaints(layers, "src/http/x.rs", "use super::super::store;"), 1);
    assert_eq!(
        complaints(layers, "src/main.rs", "fn main() { dekeys::store::open(); }"),
        1
    );
    assert_eq!(complaints(layers, "src/unheard.rs", "//! New."), 1);
    assert_eq!(complaints(layers, "src/unheard/part.rs", "//! New."), 1);
}

#[test]
fn a_right_import_is_not_complained_about() {
    for text in [
        "use crate::{base::id, service, problem};",
        "use super::http;",
        "pub(crate) fn f() {}",
        "// use crate::store;",
        "/* crate::store /* crate::vault */ crate::store */",
        "const TEXT: &str = \"crate::store\";",
        "const TEXT: &str = r#\"crate::store \" crate::store\"#;",
        "fn f<'a>(x: &'a str) -> char { '\"' } // crate::store \"",
        "#[cfg(test)]\nmod tests { use super::*; }",
    ] {
        assert_eq!(complaints(layers, "src/http.rs", text), 0, "{text}");
    }
    assert_eq!(
        complaints(layers, "src/http/x.rs", "use super::store;"),
        0,
        "http's own"
    );
    assert_eq!(complaints(layers, "src/main.rs", "fn main() { dekeys::cli::run() }"), 0);
}

#[test]
fn a_secret_exposed_elsewhere_is_found() {
    for text in [
        "fn f() { secret.expose(); }",
        "fn f() { secret\n    .expose (); }",
        "fn f() { texts.map(SecretText::expose); }",
    ] {
        assert_eq!(
            complaints(secrets_are_exposed_where_listed, "src/service/buy.rs", text),
            1,
            "{text}"
        );
        assert_eq!(
            complaints(secrets_are_exposed_where_listed, "src/vault/envelope.rs", text),
            0,
            "{text}"
        );
    }
    for text in [
        "// expose()",
        "fn f() { exposed(); }",
        "#[cfg(test)]\nmod tests { fn f() { secret.expose(); } }",
    ] {
        assert_eq!(
            complaints(secrets_are_exposed_where_listed, "src/service/buy.rs", text),
            0,
            "{text}"
        );
    }
    let near = complaints(
        secrets_are_exposed_where_listed,
        "src/vault_door.rs",
        "fn f() { secret.expose(); }",
    );
    assert_eq!(near, 1, "a name that begins like a listed one");
}

#[test]
fn proof_made_elsewhere_is_found() {
    for text in [
        "fn f() { Committed::new(a, b, c); }",
        "fn f() { Committed :: new(a, b, c); }",
        "use crate::model::event::Committed as Proof;",
        "type Proof = Committed;",
    ] {
        assert_eq!(
            complaints(committed_is_made_by_the_store, "src/service/resolve.rs", text),
            1,
            "{text}"
        );
    }
    let making = "fn f() { Committed::new(a, b, c); }";
    assert_eq!(
        complaints(committed_is_made_by_the_store, "src/store/writer.rs", making),
        0
    );
    let test = format!("#[cfg(test)]\nmod tests {{ {making} }}");
    assert_eq!(
        complaints(committed_is_made_by_the_store, "src/vault.rs", &test),
        0,
        "unit tests may make one"
    );
    let not_test = format!("#[cfg(not(test))]\nmod live {{ {making} }}");
    assert_eq!(complaints(committed_is_made_by_the_store, "src/vault.rs", &not_test), 1);
}

#[test]
fn sql_built_from_strings_is_found() {
    for text in [
        "fn f() { sqlx::query(&format!(\"select {x}\")); }",
        "fn f() { query_as::<_, (i64,)>(&format!(\"select {x}\")); }",
        "fn f() { query_scalar(\n    \"(\",\n    format ! (\"\"),\n); }",
        "fn f() { query(AssertSqlSafe(text)); }",
    ] {
        assert_eq!(complaints(sql_is_constant, "src/store/grants.rs", text), 1, "{text}");
    }
    assert_eq!(
        complaints(
            sql_is_constant,
            "src/store/grants.rs",
            "fn f() { query(\"select 1\"); format!(\"\"); }"
        ),
        0
    );
    assert_eq!(
        complaints(
            sql_is_constant,
            "src/store/migrate.rs",
            "fn f() { query(AssertSqlSafe(text)); }"
        ),
        0
    );
}

#[test]
fn deprecated_doors_are_found() {
    let text = "fn f() { Biscuit::unsafe_deprecated_deserialize(b); }";
    assert_eq!(complaints(no_deprecated_doors, "src/token/verify.rs", text), 1);
}

#[test]
fn long_files_are_found_and_their_tests_do_not_count() {
    let lines = |count: usize| format!("//! A file.\n{}", "const X: u8 = 1;\n".repeat(count));
    assert_eq!(complaints(files_are_short, "src/http/x.rs", &lines(599)), 0);
    assert_eq!(complaints(files_are_short, "src/http/x.rs", &lines(600)), 1);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(599), lines(600));
    assert_eq!(complaints(files_are_short, "src/http/x.rs", &tested), 0);
    let hidden = format!("#[cfg(test)]\nuse x;\n{}", lines(600));
    assert_eq!(
        complaints(files_are_short, "src/http/x.rs", &hidden),
        1,
        "code after a test item counts"
    );
}

#[test]
fn long_functions_are_found() {
    let function = |count: usize| format!("fn f(x: [u8; 2]) -> char {{\n{}'}}'\n}}\n", "\"{\"\n".repeat(count));
    assert_eq!(complaints(functions_are_short, "src/http/x.rs", &function(79)), 0);
    assert_eq!(complaints(functions_are_short, "src/http/x.rs", &function(80)), 1);
    let spaced = format!("fn f() {{\n{}}}\n", "\n// said {\n".repeat(100));
    assert_eq!(
        complaints(functions_are_short, "src/http/x.rs", &spaced),
        0,
        "comments do not count"
    );
    let declared = format!("trait T {{ fn f(); }}\n{}", "const X: u8 = 1;\n".repeat(100));
    assert_eq!(
        complaints(functions_are_short, "src/http/x.rs", &declared),
        0,
        "a declaration has no body"
    );
}

#[test]
fn empty_names_are_found() {
    for path in [
        "src/http/mod.rs",
        "src/utils.rs",
        "src/http/token_helpers.rs",
        "src/common/x.rs",
        "src/key_manager.rs",
    ] {
        assert_eq!(complaints(named_by_a_noun_or_verb, path, ""), 1, "{path}");
    }
    assert_eq!(complaints(named_by_a_noun_or_verb, "src/http/commonwealth.rs", ""), 0);
}

#[test]
fn undocumented_files_are_found() {
    assert_eq!(complaints(documented, "src/http/x.rs", "use crate::base;"), 1);
    assert_eq!(
        complaints(documented, "src/http/x.rs", "/// Not the file.\nconst X: u8 = 1;"),
        1
    );
    assert_eq!(
        complaints(documented, "src/http/x.rs", "//! x\nconst X: u8 = 1;"),
        1,
        "says nothing"
    );
    assert_eq!(
        complaints(
            documented,
            "src/http/x.rs",
            "//! What this file holds.\nconst X: u8 = 1;"
        ),
        0
    );
}
