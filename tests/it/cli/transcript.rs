//! Transcripts: what stands in `tests/it/cli/transcripts/` is what the binary prints, typed into a shell against a real
//! server. A line that begins with `$ ` is typed; what follows up to the next is what comes back, standard output and
//! standard error as they come, then `(exit N)` unless N is 0. Lines that begin with `# ` are for readers.
//!
//! Ids, keys, digests, times, ports, process ids and folders differ from run to run and are masked.
//! `DEKEYS_WRITE_TRANSCRIPTS=1` writes anew what comes back; read the difference before you keep it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

/// Where commands are typed.
pub(super) struct Machine {
    /// The working directory; its name is masked.
    pub(super) dir: PathBuf,
    pub(super) env: Vec<(String, String)>,
}

impl Machine {
    /// Types a line; what comes back, masked.
    pub(super) fn shell(&self, line: &str) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_dekeys")).parent().unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{line}")])
            .current_dir(&self.dir)
            .env_clear()
            .env("HOME", self.dir.join("home"))
            .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().unwrap();
        if code != 0 {
            writeln!(text, "(exit {code})").unwrap();
        }
        masked(&text.replace(&self.dir.display().to_string(), "DIR"))
    }
}

/// Plays a transcript: every line that was typed gives what stands below it.
#[track_caller]
pub(super) fn plays(name: &str, machine: &Machine) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/cli/transcripts/{name}.txt"));
    let kept = std::fs::read_to_string(&path).unwrap();
    let mut played = String::new();
    for block in blocks(&kept) {
        let Some(line) = block.strip_prefix("$ ").and_then(|rest| rest.lines().next()) else {
            played.push_str(&block);
            continue;
        };
        write!(played, "$ {line}\n{}", machine.shell(line)).unwrap();
    }
    if std::env::var_os("DEKEYS_WRITE_TRANSCRIPTS").is_some() {
        std::fs::write(&path, &played).unwrap();
        return;
    }
    let differs = kept
        .lines()
        .zip(played.lines())
        .take_while(|(kept, played)| kept == played);
    let from = differs.count() + 1;
    assert!(
        kept == played,
        "transcripts/{name}.txt differs from line {from}; it is now:\n{played}"
    );
}

/// The words before a typed line, and each typed line with what came back.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        let words = line.starts_with("# ");
        let after_words = blocks.last().is_some_and(|block| block.starts_with("# "));
        if line.starts_with("$ ") || words && !after_words || blocks.is_empty() {
            blocks.push(String::new());
        }
        blocks.last_mut().unwrap().push_str(line);
    }
    blocks
}

/// The text without what differs from run to run.
pub(super) fn masked(text: &str) -> String {
    let masks = [
        (r"\b([a-z]{3,4})_[0-9A-Z]{26}\b", "${1}_…"),
        (r"b3:[0-9a-f]{8,}", "b3:…"),
        (r"ed25519:[A-Za-z0-9_-]{43}", "ed25519:…"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r#""dekeys serve [^"]*""#, "\"dekeys serve …\""),
        (r"port \d{4,5}", "port PORT"),
        (r"(pid|kill) \d+", "$1 N"),
        (r"\d+ (s|min|h|d) ago", "SPAN ago"),
        (r"in \d+ (s|min)\b", "in SPAN"),
        (r"the next is free in \w+", "the next is free in SPAN"),
        (r"\d+ GiB", "N GiB"),
        (r"0x[0-9a-fA-F]{40}", "0x…"),
    ];
    masks.iter().fold(text.to_owned(), |text, (mask, instead)| {
        Regex::new(mask).unwrap().replace_all(&text, *instead).into_owned()
    })
}

#[test]
fn what_differs_is_masked_and_nothing_else() {
    let text = "grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3 at 127.0.0.1:8402, sealed 2 min ago, 30 s pause";
    assert_eq!(masked(text), "grt_… at 127.0.0.1:PORT, sealed SPAN ago, 30 s pause");
}

#[test]
fn a_transcript_is_words_and_typed_lines() {
    let text = "# one\n# two\n\n$ a\nout\n$ b\n(exit 1)\n\n# three\n$ c\n";
    let found = blocks(text);
    let firsts: Vec<&str> = found.iter().map(|block| block.lines().next().unwrap()).collect();
    assert_eq!(firsts, ["# one", "$ a", "$ b", "# three", "$ c"]);
    assert_eq!(found.concat(), text);
}
