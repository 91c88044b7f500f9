//! The shape of files: their length, the length of their functions, their names, their first line.

use super::source::{Source, body, closing, idents};

const FILE: usize = 600;
const FUNCTION: usize = 80;

/// Files over 600 lines, tests left out.
pub(super) fn files_are_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count().saturating_sub(source.test_lines);
    if lines > FILE {
        vec![source.complain(0, &format!("{lines} lines; {FILE} are allowed"))]
    } else {
        Vec::new()
    }
}

/// Functions with over 80 lines of code between their braces; blank lines and comments do not count.
pub(super) fn functions_are_short(source: &Source) -> Vec<String> {
    let code = &source.code;
    let too_long = |(at, _): (usize, &str)| {
        let open = body(code, at)?;
        let lines = lines_of_code(code.get(open + 1..closing(code, open))?);
        (lines > FUNCTION).then(|| source.complain(at, &format!("a function of {lines} lines; {FUNCTION} are allowed")))
    };
    idents(code)
        .filter(|(_, word)| *word == "fn")
        .filter_map(too_long)
        .collect()
}

/// `mod.rs`, and names that say nothing about what is inside.
pub(super) fn named_by_a_noun_or_verb(source: &Source) -> Vec<String> {
    let empty = [
        "utils", "util", "helpers", "helper", "manager", "managers", "common", "misc",
    ];
    let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
    let mut words = stem.split(['/', '_']);
    if stem.ends_with("/mod") || words.any(|word| empty.contains(&word)) {
        vec![source.complain(
            0,
            "this name says nothing: a file is a noun or a verb, and never mod.rs",
        )]
    } else {
        Vec::new()
    }
}

/// Files that do not begin with `//!` and, once they hold code, a few words.
pub(super) fn documented(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let holds_code = lines_of_code(&source.code) > 0;
    match first.strip_prefix("//!") {
        None => vec![source.complain(0, "the first line does not begin with `//!`")],
        Some(words) if holds_code && words.split_whitespace().count() < 2 => {
            vec![source.complain(0, "the first line does not say what the file holds")]
        }
        Some(_) => Vec::new(),
    }
}

fn lines_of_code(code: &[u8]) -> usize {
    code.split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .count()
}
