//! The `dekeys` binary: runs the command line and gives its exit code.

use std::process::ExitCode;

/// Many small allocations in a request; docs/performance.md says what it is worth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dekeys::cli::run(std::env::args_os())
}
