//! The command line.

pub mod demo;
pub mod output;
pub mod serve;

use std::process::ExitCode;

use clap::Parser;

/// A secret broker: agents carry tokens, vendor keys are made for the moment and revoked after it.
#[derive(Debug, Parser)]
#[command(name = "dekeys", version)]
enum Command {
    /// The whole promise in eleven steps, on this machine
    Demo(demo::DemoArgs),
    /// Run an instance
    Serve(serve::ServeArgs),
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let command = Command::parse();
    let Ok(runtime) = tokio::runtime::Runtime::new() else {
        return ExitCode::FAILURE;
    };
    let outcome = runtime.block_on(async {
        match &command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => {
                let loaded = crate::config::load(&args.flags(), &crate::config::process_env);
                match loaded {
                    Ok(loaded) => serve::run(args, &loaded.config).await.map(|()| true),
                    Err(errors) => {
                        output::note(&errors.to_string());
                        Ok(false)
                    }
                }
            }
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::note(&format!("error: {error} [{}]", error.code()));
            ExitCode::FAILURE
        }
    }
}
