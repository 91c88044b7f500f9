//! The `dekeys` binary: runs the command line and gives its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dekeys::cli::run(std::env::args_os())
}
