//! `--curl`: the request as a line for a shell, instead of sending it.
//!
//! No secret stands in it: a token is read from its file, a body that holds one is named, not shown. A signature is
//! shown, since it proves this one request, once, within a minute.

use std::fmt::Write as _;
use std::path::Path;

use http::header::AUTHORIZATION;

use crate::client::{Address, Prepared, Request};

/// The file a body that is not shown has to be put into.
pub(crate) const BODY_FILE: &str = "body.json";

/// The line. `token` is the file of the token in `Authorization`.
pub(crate) fn line(request: &Request, prepared: &Prepared, address: &Address, token: Option<&Path>) -> String {
    let mut line = String::from("curl -sS");
    if request.method != http::Method::GET {
        word(&mut line, " -X", request.method.as_str());
    }
    if let Some(socket) = address.socket() {
        word(&mut line, " --unix-socket", &socket.display().to_string());
    }
    word(&mut line, "", prepared.url.as_str());
    for (name, value) in &prepared.headers {
        let Ok(value) = value.to_str() else { continue };
        match name {
            name if name == AUTHORIZATION => {
                let file = token.map_or_else(|| "TOKEN_FILE".to_owned(), |path| quoted(&path.display().to_string()));
                // Writing to a text cannot fail.
                let _ = write!(line, " \\\n  -H \"authorization: Bearer $(cat {file})\"");
            }
            name => word(&mut line, " \\\n  -H", &format!("{name}: {value}")),
        }
    }
    if request.hides_body() {
        word(&mut line, " \\\n  --data-binary", &format!("@{BODY_FILE}"));
    } else if !request.body().is_empty() {
        word(
            &mut line,
            " \\\n  --data-binary",
            &String::from_utf8_lossy(request.body()),
        );
    }
    line
}

fn word(line: &mut String, flag: &str, text: &str) {
    line.push_str(flag);
    line.push(' ');
    line.push_str(&quoted(text));
}

/// As a POSIX shell reads one word.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@%+=,".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        assert_eq!(quoted("http://127.0.0.1:8402/v1"), "http://127.0.0.1:8402/v1");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
