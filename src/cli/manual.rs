//! `dekeys completions` and `dekeys man`: made from the command line's own description.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::context::Context;
use super::failure::Failure;
use super::{exit, principal};

/// What `completions` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys completions bash > ~/.local/share/bash-completion/completions/dekeys\n\
    Example: dekeys completions zsh > ~/.zfunc/_dekeys\n\
    Example: dekeys completions fish > ~/.config/fish/completions/dekeys.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys man grant create | man -l -\nExample: dekeys man --out-dir ~/.local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// The command the page is about; dekeys itself if absent
    #[arg(conflicts_with = "out_dir")]
    command: Vec<String>,
    /// Write the page of every command into this folder
    #[arg(long, value_name = "FOLDER")]
    out_dir: Option<PathBuf>,
}

/// Prints the script of a shell.
pub(crate) fn completions(args: &CompletionsArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "dekeys", &mut script);
    super::output::raw(&mut context.world.stdout, &script)
}

/// Prints a page, or writes them all.
pub(crate) fn man(args: &ManArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut all = super::command();
    all.build();
    let Some(folder) = &args.out_dir else {
        let page = page(find(&all, &args.command)?.clone())?;
        return super::output::raw(&mut context.world.stdout, &page);
    };
    std::fs::create_dir_all(folder)?;
    let mut written = 0;
    write(&all, "dekeys", folder, &mut written)?;
    context.say(&format!("{written} pages in {}", folder.display()))
}

fn find<'c>(all: &'c Command, names: &[String]) -> Result<&'c Command, Failure> {
    names.iter().try_fold(all, |command, name| {
        command.find_subcommand(name).ok_or_else(|| {
            let known = command.get_subcommands().map(|sub| sub.get_name().to_owned());
            let fix = principal::nearest(name, known).map_or_else(
                || "dekeys --help lists the commands".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Failure::new("usage", exit::USAGE, format!("there is no command `{name}`"), fix)
        })
    })
}

fn write(command: &Command, name: &str, folder: &std::path::Path, written: &mut usize) -> Result<(), Failure> {
    std::fs::write(folder.join(format!("{name}.1")), page(command.clone())?)?;
    *written = written.saturating_add(1);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        write(sub, &format!("{name}-{}", sub.get_name()), folder, written)?;
    }
    Ok(())
}

fn page(command: Command) -> Result<Vec<u8>, Failure> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut page = Vec::new();
    Man::new(command).title(name.to_uppercase()).render(&mut page)?;
    Ok(page)
}
