//! The page of each problem, in Markdown: served by this binary at `/problems/{slug}` and kept in
//! `docs/problems.md`.

use std::fmt::Write as _;

use super::{CODES, Code, Problem};

/// The page of one code.
#[must_use]
pub fn page(code: &'static Code) -> String {
    format!("# {}\n\n{}", code.title, body(code))
}

/// All codes on one page: a table, then each.
#[must_use]
pub fn all_pages() -> String {
    let mut text = String::from(HEAD);
    // Writing to a String cannot fail.
    for code in CODES {
        let (name, slug, retry) = (code.code, code.slug(), yes(code.retryable));
        let _ = writeln!(
            text,
            "| [`{name}`](#{slug}) | {} | {retry} | {} | {} |",
            code.status, code.exit, code.title
        );
    }
    for code in CODES {
        let _ = write!(text, "\n## {}\n\n{}", code.slug(), body(code));
    }
    text
}

const HEAD: &str = "# Problems

Every error is an RFC 9457 problem (`application/problem+json`). Programs switch on `code`. `fix` says what helps,
`retryable` whether the same request can succeed later or with what `fix` adds. A code that only the command line
has shows status 500 here.

| code | status | retryable | exit code | what |
|---|---|---|---|---|
";

fn body(code: &'static Code) -> String {
    format!(
        "Code `{}`, HTTP status {}, exit code {}, retryable: {}.\n\n{}\n\n**Fix:** {}\n\n```json\n{}\n```\n",
        code.code,
        code.status,
        code.exit,
        yes(code.retryable),
        code.cause,
        code.fix,
        example(code),
    )
}

fn example(code: &'static Code) -> String {
    let body = Problem::new(code, code.example).to_json(None, "http://127.0.0.1:8402");
    serde_json::to_string_pretty(&body).unwrap_or_default()
}

const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page() {
        let all = all_pages();
        for code in CODES {
            let page = page(code);
            assert!(
                page.contains(code.cause) && page.contains(code.fix) && page.contains(code.example),
                "{}",
                code.code
            );
            assert!(
                all.contains(&format!("\n## {}\n", code.slug())) && all.contains(code.cause),
                "{}",
                code.code
            );
            let json = page
                .split("```json\n")
                .nth(1)
                .and_then(|rest| rest.split("\n```").next())
                .unwrap();
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(json).unwrap()["code"],
                code.code
            );
        }
    }
}
