//! The `dekeys` binary: runs the command line and gives its exit code.

fn main() -> std::process::ExitCode {
    dekeys::cli::run()
}
