//! `dekeys vendor lint` as somebody runs it who writes a manifest.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::text;

/// Exit code and what was printed.
fn lint(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_dekeys"))
        .env_clear()
        .current_dir(folder)
        .args(["vendor", "lint"])
        .args(arguments)
        .output()
        .unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn no_manifest_that_comes_with_dekeys_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendors");
    let entries = std::fs::read_dir(&folder).unwrap();
    let names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let names: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml"))
        .collect();
    let (code, told) = lint(&folder, &[&names[..], &["-o", "json"]].concat());
    let answer: Value = serde_json::from_str(&told).unwrap();
    let bad: Vec<&Value> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["ok"] != true)
        .collect();
    assert_eq!((code, bad), (0, Vec::new()));
    assert!(names.len() > 80, "{}", names.len());
}

/// What is wrong, the line on which it stands, and words that say so or what to write instead.
const WRONG: [(&str, &str, &str, &str); 15] = [
    ("[revoke]", "[revok]", "[revok]", "did you mean `revoke`"),
    (
        "path = \"/keys/${id}\"",
        "path = \"keys/${id}\"",
        "path = \"keys/${id}\"",
        "begins with `/`",
    ),
    (
        "path = \"/keys/${id}\"",
        "path = \"/keys/%2e%2e/${id}\"",
        "path = \"/keys/%2e",
        "step up",
    ),
    (
        "path = \"/keys/${id}\"",
        "path = \"https://evil.test/${id}\"",
        "path = \"https://evil",
        "host",
    ),
    (
        "hosts = [\"demo-vendor.invalid\"]\n",
        "hosts = [\"*.demo-vendor.invalid\"]\n",
        "hosts = [\"*.",
        "exact host",
    ),
    (
        "[proxy]\nhosts = [\"demo-vendor.invalid\"]",
        "[proxy]\nhosts = [\"evil.test\"]",
        "hosts = [\"evil.test\"]",
        "host",
    ),
    (
        "[create]\nmethod = \"POST\"",
        "[create]\nquery = { key = \"${root.key}\" }\nmethod = \"POST\"",
        "query = {",
        "root.key",
    ),
    (
        "[create]\nmethod = \"POST\"",
        "[create]\nheaders = { \"X-Key\" = \"${root.key}\" }\nmethod = \"POST\"",
        "headers = {",
        "root.key",
    ),
    (
        "[create]\nmethod = \"POST\"",
        "[create]\nheaders = { \"X-A\" = \"a\\r\\nX-B: b\" }\nmethod = \"POST\"",
        "headers = {",
        "line break",
    ),
    (
        "[create]\nmethod = \"POST\"",
        "[create]\nmethod = \"FETCH\"",
        "method = \"FETCH\"",
        "unknown value `FETCH`",
    ),
    ("schema = 1", "schema = 1\nschema = 1", "schema = 1", "duplicate"),
    ("class = 2", "class = two", "class = two", ""),
    (
        "unit = \"rfc3339_utc\"",
        "unit = \"rfc3339\"",
        "unit = \"rfc3339\"",
        "use one of `rfc3339_utc`",
    ),
    (
        "[create]\nmethod = \"POST\"",
        "[create]\nencoding = \"jsn\"\nmethod = \"POST\"",
        "encoding = \"jsn\"",
        "did you mean `json`",
    ),
    (
        "[vendor]\nid = \"demo\"",
        "[vendor]\nid = \"Demo Vendor\"",
        "id = \"Demo Vendor\"",
        "a-z, 0-9 and `-`",
    ),
];

#[test]
fn what_is_wrong_is_told_with_file_line_and_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut bad = Vec::new();
    for (old, new, line, words) in WRONG {
        let changed = text("demo").replacen(old, new, 1);
        assert_ne!(changed, text("demo"), "{old}");
        std::fs::write(folder.path().join("acme.toml"), &changed).unwrap();
        let (code, told) = lint(folder.path(), &["acme.toml", "-o", "json"]);
        let answer: Value = serde_json::from_str(&told).unwrap();
        let findings = answer["data"][0]["findings"].as_array().unwrap();
        let on_it = findings.iter().any(|finding| {
            let at = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
            let said = format!("{} {}", finding["message"], finding["fix"]);
            changed.lines().nth(at - 1).unwrap().contains(line) && said.contains(words)
        });
        if code != 1 || !on_it {
            bad.push(format!("{new}: {code} {told}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn a_manifest_is_compared_with_the_vendors_own_document() {
    let Some(specs) = crate::skip::folder("DEKEYS_SPECS", "lint beside a vendor's document") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.toml"), text("openrouter")).unwrap();
    let wrong = text("openrouter").replacen("path = \"/keys\"", "path = \"/kees\"", 1);
    std::fs::write(folder.path().join("wrong.toml"), wrong).unwrap();
    let spec = specs.join("openrouter.json");
    let spec = spec.to_str().unwrap();
    let (code, told) = lint(folder.path(), &["good.toml", "--spec", spec, "-o", "json"]);
    let answer: Value = serde_json::from_str(&told).unwrap();
    let operations = &answer["data"][0]["document"]["operations"];
    assert!(
        code == 0 && operations["good"] == operations["all"] && operations["all"].as_u64() > Some(2),
        "{told}"
    );
    let (code, told) = lint(folder.path(), &["wrong.toml", "--spec", spec, "-o", "json"]);
    assert!(
        code == 1 && told.contains("the document has no POST /api/v1/kees"),
        "{told}"
    );
    std::fs::write(folder.path().join("text.json"), "openapi: 3.0.0").unwrap();
    let (code, _) = lint(folder.path(), &["good.toml", "--spec", "text.json"]);
    assert_eq!(code, 2);
}
