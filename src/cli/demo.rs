//! `dekeys demo`.

use std::path::PathBuf;

use clap::Args;

use super::context::Context;
use super::failure::Failure;
use super::hook;

/// What `demo` takes.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Example: dekeys demo\nExample: dekeys demo --exit --json      for scripts")]
pub(crate) struct DemoArgs {
    /// End when the steps are done instead of staying up
    #[arg(long)]
    pub exit: bool,
    /// Keep its files here instead of in a new temporary folder
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Listen on this port of 127.0.0.1; a free one if absent and 8402 is taken
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    hook::demo(args, context)
}
