//! Rust source as the rules see it: comments blank and literals filled with `"`, so that a brace in a string is no
//! brace; and the same without what is compiled for tests only.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One file.
pub(super) struct Source {
    /// From the top of the repository, with `/`.
    pub(super) path: String,
    /// As written.
    pub(super) text: String,
    /// Comments blank, literals nothing but quotes; same lines as the text.
    pub(super) code: Vec<u8>,
    /// The code without items under `#[cfg(test)]`.
    pub(super) product: Vec<u8>,
    /// How many lines those items take.
    pub(super) test_lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let whole = 0..code.len();
        let tests = if path.ends_with("/tests.rs") {
            vec![whole]
        } else {
            test_items(&code)
        };
        let mut product = code.clone();
        for item in &tests {
            fill(&mut product, item.clone(), b' ');
        }
        let lines = |item: &Range<usize>| code[item.clone()].split(|byte| *byte == b'\n').count();
        let test_lines = tests.iter().map(lines).sum();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            product,
            test_lines,
        }
    }

    /// The module path below the crate: `["vault", "keyring"]`; empty for `lib.rs` and `main.rs`.
    pub(super) fn module(&self) -> Vec<&str> {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let stem = below.strip_suffix(".rs").unwrap_or(below);
        if stem == "lib" || stem == "main" {
            Vec::new()
        } else {
            stem.split('/').collect()
        }
    }

    /// A complaint about the place `at`.
    pub(super) fn complain(&self, at: usize, what: &str) -> String {
        let line = 1 + self.code.iter().take(at).filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: {what}", self.path)
    }
}

/// All Rust files below `folder`.
pub(super) fn tree(root: &Path, folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let short = path
                    .strip_prefix(root)
                    .expect("below the root")
                    .to_string_lossy()
                    .replace('\\', "/");
                found.push(Source::new(&short, &fs::read_to_string(&path).expect("source")));
            }
        }
    }
    found
}

/// The identifiers of `code`, each with its place.
pub(super) fn idents(code: &[u8]) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code.get(at..)?.iter().position(|byte| is_ident(*byte))?;
        let start = at;
        at += code[start..].iter().take_while(|byte| is_ident(**byte)).count();
        Some((start, std::str::from_utf8(&code[start..at]).unwrap_or_default()))
    })
}

/// The first place from `at` on that is not white space.
pub(super) fn skip_space(code: &[u8], at: usize) -> usize {
    at + code
        .iter()
        .skip(at)
        .take_while(|byte| byte.is_ascii_whitespace())
        .count()
}

/// Where the bracket that opens at `open` closes; the end of the code when it does not.
pub(super) fn closing(code: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

/// The `{` that begins the body of the item at `at`, or `None` when a `;` ends it before.
pub(super) fn body(code: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match code.get(at)? {
            b'{' => return Some(at),
            b';' => return None,
            b'(' | b'[' => at = closing(code, at) + 1,
            _ => at += 1,
        }
    }
}

fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Writes spaces over comments and quotes over strings and characters; line ends stay.
fn blank(text: &str) -> Vec<u8> {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = literal_end(&code, at);
        let with = if code[at] == b'/' { b' ' } else { b'"' };
        fill(&mut code, at..end, with);
        at = end.max(at + 1);
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` when none begins there.
fn literal_end(code: &[u8], at: usize) -> usize {
    let rest = &code[at..];
    let fresh = at == 0 || !is_ident(code[at - 1]);
    if rest.starts_with(b"//") {
        at + rest.iter().take_while(|byte| **byte != b'\n').count()
    } else if rest.starts_with(b"/*") {
        at + block_comment(rest)
    } else if rest.starts_with(b"\"") {
        at + quoted(rest, b'"')
    } else if rest.starts_with(b"'") {
        at + character(rest)
    } else if fresh {
        at + raw_string(rest)
    } else {
        at
    }
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a literal between `quote`s, in which a backslash takes the next byte with it.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a character literal; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    let first = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .or_else(|error| std::str::from_utf8(&rest[1..=error.valid_up_to()]));
    match first.ok().and_then(|text| text.chars().next()) {
        Some('\\') => quoted(rest, b'\''),
        Some(one) if rest.get(1 + one.len_utf8()) == Some(&b'\'') => one.len_utf8() + 2,
        _ => 0,
    }
}

/// Length of `r"…"`, `br#"…"#` and the like; 0 when none begins here.
fn raw_string(rest: &[u8]) -> usize {
    let prefix = rest.iter().take_while(|byte| b"brc".contains(byte)).count();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let raw = (1..=2).contains(&prefix) && rest[prefix - 1] == b'r';
    if !raw || rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let open = prefix + hashes + 1;
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let inside = rest[open..].windows(end.len()).position(|window| window == end);
    inside.map_or(rest.len(), |inside| open + inside + end.len())
}

fn fill(code: &mut [u8], range: Range<usize>, with: u8) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = with;
        }
    }
}

/// Each item under `#[cfg(test)]` or `#[cfg(all(test, …))]`, with its attribute.
fn test_items(code: &[u8]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].windows(2).position(|pair| pair == b"#[") {
        let start = at + next;
        let close = closing(code, start + 1);
        at = start + 2;
        if is_test(&code[at..close]) {
            at = item_end(code, close + 1);
            items.push(start..at);
        }
    }
    items
}

/// Where the item ends whose further attributes, if any, begin at `at`.
fn item_end(code: &[u8], at: usize) -> usize {
    let mut at = skip_space(code, at);
    while code.get(at) == Some(&b'#') {
        at = skip_space(code, closing(code, at + 1) + 1);
    }
    let end = match body(code, at) {
        Some(open) => closing(code, open),
        None => at + code[at..].iter().take_while(|byte| **byte != b';').count(),
    };
    (end + 1).min(code.len())
}

fn is_test(attribute: &[u8]) -> bool {
    let tight: Vec<u8> = attribute
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    tight == b"cfg(test)" || tight.starts_with(b"cfg(all(test,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_blank_and_literals_quotes() {
        for (text, code) in [
            ("a // b", "a"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"a "b\"c" d"#, r#"a """""" d"#),
            (r##"a r#"b"c"# d"##, r#"a """""""" d"#),
            (r#"a b"\\" d"#, r#"a b"""" d"#),
            (r#"a br"\" d"#, r#"a """"" d"#),
            (r"a '{' '\'' c", r#"a """ """" c"#),
            ("<'a, 'static> 'b'", r#"<'a, 'static> """"#),
            ("r#type for", "r#type for"),
            ("bar\"x\"", "bar\"\"\""),
        ] {
            let blank = blank(text);
            let words: Vec<&str> = std::str::from_utf8(&blank).unwrap().split_whitespace().collect();
            assert_eq!((words.join(" ").as_str(), blank.len()), (code, text.len()), "{text}");
        }
        assert_eq!(blank("a 'é' b"), b"a \"\"\"\" b");
    }

    #[test]
    fn only_what_is_compiled_for_tests_is_left_out() {
        let left = |text: &str| {
            let source = Source::new("src/x.rs", text);
            String::from_utf8_lossy(&source.product)
                .split_whitespace()
                .collect::<String>()
        };
        assert_eq!(left("a; #[cfg(test)] mod tests { b; { c } } d;"), "a;d;");
        assert_eq!(left("a; #[cfg(test)] use b; c;"), "a;c;");
        assert_eq!(
            left("#[cfg(all(test, unix))] #[expect(x)] fn b() -> [u8; 2] { c } d;"),
            "d;"
        );
        assert_eq!(left("#[cfg(not(test))] fn b() {}"), "#[cfg(not(test))]fnb(){}");
        assert_eq!(
            left("#[cfg(any(test, unix))] fn b() {}"),
            "#[cfg(any(test,unix))]fnb(){}"
        );
    }
}
