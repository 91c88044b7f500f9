//! The tree of commands: what clap can check, examples everywhere, and that the examples are right.

use super::stage::{Stage, split};

fn walk(command: &clap::Command, path: &str, visit: &mut dyn FnMut(&clap::Command, &str)) {
    visit(command, path);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        walk(sub, &format!("{path} {}", sub.get_name()), visit);
    }
}

fn examples(command: &clap::Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Example: ").map(str::to_owned))
        .collect()
}

#[test]
fn the_tree_is_sound() {
    dekeys::cli::command().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_has_an_example() {
    let mut lacking = Vec::new();
    walk(&dekeys::cli::command(), "dekeys", &mut |command, path| {
        let example = examples(command).iter().any(|line| line.contains("dekeys"));
        if !example || command.get_about().is_none() {
            lacking.push(path.to_owned());
        }
    });
    assert_eq!(lacking, Vec::<String>::new());
}

#[test]
fn every_example_is_a_command_line_that_parses() {
    let mut wrong = Vec::new();
    let mut count = 0;
    walk(&dekeys::cli::command(), "dekeys", &mut |command, _| {
        for example in examples(command) {
            for line in command_lines(&example) {
                count += 1;
                if let Err(error) = dekeys::cli::command().try_get_matches_from(split(&line)) {
                    wrong.push(format!("{line}\n{error}"));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 50, "only {count} examples were found");
}

/// The `dekeys …` parts of a shell line: up to a pipe, a redirection, a bracket, or a remark after wide space.
fn command_lines(example: &str) -> Vec<String> {
    example
        .split(['|', ';', '(', ')'])
        .filter_map(|part| part.find("dekeys ").map(|at| part.split_at(at).1.to_owned()))
        .map(|part| part.split("    ").next().unwrap().to_owned())
        .map(|part| part.split(['>', '<']).next().unwrap().trim().to_owned())
        .collect()
}

#[test]
fn no_flag_takes_a_secret() {
    let mut found = Vec::new();
    walk(&dekeys::cli::command(), "dekeys", &mut |command, path| {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let secret = ["passphrase", "token", "root_key", "pay_key", "unseal_key", "key_file"];
            let takes_value = argument.get_action().takes_values();
            if takes_value && secret.iter().any(|word| name.contains(word)) {
                let value = argument.get_value_names().map(|names| names[0].as_str().to_owned());
                if value.as_deref() != Some("FILE") {
                    found.push(format!("{path} --{name} {value:?}"));
                }
            }
        }
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_typing_mistake_is_answered_with_what_was_meant() {
    let ran = Stage::new().run("aproval ls");
    assert_eq!(ran.exit, 2);
    assert!(ran.err.contains("'approval'") && ran.out.is_empty(), "{ran:?}");
    let ran = Stage::new().run("lease ls --limt 3");
    assert!(ran.exit == 2 && ran.err.contains("'--limit'"), "{ran:?}");
}

#[test]
fn help_and_version_are_results_and_no_failure() {
    let ran = Stage::new().run("grant create --help");
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.contains("--max-price") && ran.out.contains("Example: dekeys grant create"),
        "{ran:?}"
    );
    let ran = Stage::new().run("--version");
    assert_eq!(ran.out, concat!("dekeys ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn ids_of_another_kind_are_refused_before_anything_is_sent() {
    let ran = Stage::new().run("lease show grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3");
    assert_eq!(ran.exit, 2);
    assert!(ran.err.contains("is not an id of the form `lea_`"), "{ran:?}");
}
