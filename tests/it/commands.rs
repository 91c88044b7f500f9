//! The commands and files that documents, problems and the demo name: they exist, and the demo's commands work.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Command as Known;

/// Documents that people follow; and the sources, whose messages and descriptions name commands too.
const READ: [&str; 10] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs",
    "migrations/README.md",
    "policies/README.md",
    "vendors/README.md",
    "src",
];

#[test]
fn every_command_that_is_named_exists() {
    let mut known = dekeys::cli::command();
    known.build();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<PathBuf> = READ.into_iter().flat_map(|place| files(&root.join(place))).collect();
    let (mut count, mut wrong) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for command in commands(&text) {
            count += 1;
            if let Err(word) = exists(&known, &command) {
                wrong.push(format!("{}: `dekeys {command}`: `{word}`", file.display()));
            }
        }
    }
    assert!(count > 60, "only {count} commands were found");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_file_that_the_map_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut maps = vec![root.join("ARCHITECTURE.md"), root.join("docs/data-model.md")];
    maps.extend(
        fs::read_dir(root.join("docs/decisions"))
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let (mut count, mut wrong) = (0, Vec::new());
    for map in maps {
        let text = fs::read_to_string(&map).unwrap();
        let codes = text.split('`').skip(1).step_by(2);
        for path in codes.filter(|code| ends_in(Path::new(code), "rs") && !code.contains(['{', '<', '\n', ' '])) {
            count += 1;
            if !root.join(path).is_file() && !root.join("src").join(path).is_file() {
                wrong.push(format!("{}: `{path}`", map.display()));
            }
        }
    }
    assert!(count > 40, "only {count} files were found");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_command_that_does_not_exist_is_seen() {
    let mut known = dekeys::cli::command();
    known.build();
    let found: Vec<String> = commands("Run `dekeys docter`.\n```sh\n$ dekeys lease ls --sort # all\n```\n").collect();
    assert_eq!(found, ["docter", "lease ls --sort"]);
    assert_eq!(exists(&known, "docter"), Err("docter".to_owned()));
    assert_eq!(exists(&known, "lease ls --sort"), Err("--sort".to_owned()));
    assert_eq!(exists(&known, "lease ls --limit 5 --key-file ops.key"), Ok(()));
}

#[test]
fn what_the_demo_suggests_next_works() {
    let place = tempfile::tempdir().unwrap();
    let mut demo = dekeys(&["demo", "--port", "0", "--data-dir"])
        .arg(place.path().join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = Vec::new();
    while !told.last().is_some_and(|line: &String| line.contains("Ctrl-C")) {
        told.push(lines.next().unwrap_or_else(|| panic!("it ended: {told:#?}")));
    }
    let next: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split_once("dekeys "))
        .map(|(_, rest)| rest)
        .collect();
    let tried: Vec<&&str> = next
        .iter()
        .filter(|rest| rest.contains("verify") || rest.contains("tail"))
        .collect();
    let outcomes: Vec<_> = tried
        .iter()
        .map(|words| dekeys(&words.split_whitespace().collect::<Vec<_>>()).output().unwrap())
        .collect();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_eq!(tried.len(), 2, "{told:#?}");
    for outcome in outcomes {
        assert!(outcome.status.success(), "{outcome:?}");
    }
}

fn dekeys(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dekeys"));
    command.args(words);
    command
}

/// A file, or the documents and sources below a folder. Decisions may name what was decided against.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_dir() && !path.ends_with("decisions") || ends_in(path, "md") || ends_in(path, "rs"))
        .flat_map(|path| files(&path))
        .collect()
}

fn ends_in(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|end| end == wanted)
}

/// What follows `dekeys` in inline code and at the beginning of lines in blocks of code.
fn commands(text: &str) -> impl Iterator<Item = String> {
    let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
    let blocks = text.split("\n```").skip(1).step_by(2);
    let lines = blocks
        .flat_map(str::lines)
        .map(|line| line.trim_start().trim_start_matches("$ "));
    let said = inline.chain(lines).filter_map(|code| code.strip_prefix("dekeys "));
    // `dekeys 0.1.0 demo` is what the demo prints first.
    let said = said.filter(|code| !code.starts_with(|first: char| first.is_ascii_digit()));
    let cut = |code: &str| {
        code.split(['|', '#', ';', '>'])
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let found: Vec<String> = said.map(cut).collect();
    found.into_iter()
}

/// Whether all its words are known; else the first that is not.
fn exists(known: &Known, command: &str) -> Result<(), String> {
    let mut at = known;
    // What follows `--` is another program's.
    for word in command.split_whitespace().take_while(|word| *word != "--") {
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split_once('=').map_or(flag, |(name, _)| name);
            let is = |argument: &clap::Arg| argument.get_long() == Some(name);
            if !at.get_arguments().any(is) {
                return Err(word.to_owned());
            }
        } else if at.has_subcommands() && !word.starts_with('-') {
            at = at.find_subcommand(word).ok_or_else(|| word.to_owned())?;
        }
    }
    Ok(())
}
