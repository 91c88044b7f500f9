//! The page of all commands: docs/cli.md, made from the command line's own description.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// The words above the list.
const HEAD: &str = "# Commands

Made from the command line itself (`just gen`). `--help` after a command says the same; `dekeys man` makes manual
pages, `dekeys completions` what a shell needs to complete.

Results go to standard output, talk to standard error. A terminal gets tables and relative times, a pipe gets a line for
each thing with tabs between its columns, `--json` the body of the answer, unchanged. A failure says what happened, why,
and what to do; with `--json` it is the server's problem document, on standard error.

| exit | means |
|---|---|
| 0 | ok |
| 1 | failed |
| 2 | the command line or what was sent is wrong |
| 3 | there is no such thing |
| 4 | sign-in needed, or a token is over |
| 5 | not allowed |
| 6 | to be paid, or above `--max-price` |
| 7 | people have not decided, or said no |
| 8 | the vault is sealed, or there is none |
| 9 | something is not as it was thought to be |
| 10 | try again later |

What every command takes comes from a flag, else the environment, else the profile (`dekeys config set`, `--profile`), else
the default; `dekeys config show` says from where.
";

/// The whole page.
#[must_use]
pub fn reference() -> String {
    let mut all = super::command();
    all.build();
    let mut page = HEAD.to_owned();
    page.push_str("\n## Everywhere\n\n");
    options(&all, true, &mut page);
    for command in visible(&all) {
        describe(command, &format!("dekeys {}", command.get_name()), 2, &mut page);
    }
    page
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

fn describe(command: &Command, name: &str, depth: usize, page: &mut String) {
    // Writing to a text cannot fail.
    let _ = write!(page, "\n{} {name}\n\n", "#".repeat(depth));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "{}.", about.trim_end_matches('.'));
    if command.has_subcommands() {
        for sub in visible(command) {
            describe(sub, &format!("{name} {}", sub.get_name()), depth + 1, page);
        }
        return;
    }
    page.push('\n');
    options(command, false, page);
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Example: "))
        .collect();
    if !examples.is_empty() {
        let _ = write!(page, "```sh\n{}\n```\n", examples.join("\n"));
    }
}

/// Arguments and flags, a line each: those of every command, or those of this one alone.
fn options(command: &Command, everywhere: bool, page: &mut String) {
    let shown = |arg: &&Arg| {
        arg.is_global_set() == everywhere && !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
    };
    let lines: Vec<String> = command.get_arguments().filter(shown).map(line).collect();
    if !lines.is_empty() {
        let _ = write!(page, "{}\n\n", lines.join("\n"));
    }
}

fn line(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let name = match (arg.get_long(), arg.get_short()) {
        (None, _) => value.clone(),
        (Some(long), None) => format!("--{long}"),
        (Some(long), Some(short)) => format!("-{short}, --{long}"),
    };
    let name = if takes && arg.get_long().is_some() {
        format!("{name} {value}")
    } else {
        name
    };
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|choice| takes && !choice.is_hide_set())
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.display()))
        .collect();
    let mut line = format!("- `{name}`: {help}");
    if !choices.is_empty() {
        let _ = write!(line, ": {}", choices.join(", "));
    }
    if takes && !defaults.is_empty() {
        let _ = write!(line, " (default {})", defaults.join(", "));
    }
    line
}
