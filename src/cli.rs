//! The command line: noun, then verb. Results on standard output, talk on standard error, secrets only by file,
//! standard input or prompt, `--json` everywhere.
//!
//! A command is a file with its arguments and its `run`. [`run_in`] runs one against a [`World`], so that tests see
//! what people see.

mod api;
mod approval;
mod audit;
mod backup;
mod buy;
mod config;
mod context;
mod credential;
mod curl;
mod database;
mod demo;
mod doctor;
mod events;
mod exit;
mod failure;
mod grant;
mod hook;
mod init;
mod inject;
mod key;
mod lease;
mod lint;
mod login;
mod manual;
mod offer;
mod output;
mod page;
mod payment;
mod policy;
mod principal;
mod profile;
mod progress;
mod prompt;
mod receipt;
mod reconcile;
mod reference;
mod resolve;
mod run;
mod serve;
mod settings;
mod share;
mod status;
mod token;
mod unseal;
mod usage;
mod vendor;
mod wanted;
mod webhook;
mod world;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::base::time::Ttl;
use context::Context;
use failure::Failure;
use output::{Colour, Format};
pub use reference::reference;
pub use world::{Env, Terminal, World};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "dekeys",
    version,
    about = "Secret broker: agents carry short-lived tokens, vendor keys are made for the moment and revoked after it",
    after_help = "Example: dekeys demo\n\nExit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 sign-in needed, 5 not allowed, \
        6 payment,\n7 approval, 8 sealed, 9 conflict, 10 try again later; 125 to 127 from `dekeys run`",
    arg_required_else_help = true,
    subcommand_required = true
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Globals {
    /// Where dekeys is [env: `DEKEYS_ADDR`] [default: `http://127.0.0.1:8402`]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub addr: Option<String>,
    /// Where its admin address is [env: `DEKEYS_ADMIN_ADDR`] [default: `http://127.0.0.1:8403`]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub admin_addr: Option<String>,
    /// Sign requests with this key file [env: `DEKEYS_KEY_FILE`]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub key_file: Option<PathBuf>,
    /// Send the token in this file: a login, or an agent's token [env: `DEKEYS_TOKEN_FILE`]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub token_file: Option<PathBuf>,
    /// The form of results [env: `DEKEYS_OUTPUT`]
    #[arg(long, short, global = true, value_name = "FORM", hide_short_help = true)]
    pub output: Option<Format>,
    /// The same as `--output json`: the answer's body, unchanged
    #[arg(long, global = true, conflicts_with = "output", hide_short_help = true)]
    pub json: bool,
    /// Never ask: fail and name the flag that is missing [env: `DEKEYS_NO_INPUT`]
    #[arg(long, global = true, hide_short_help = true)]
    pub no_input: bool,
    /// Do it without asking
    #[arg(long, short, global = true, hide_short_help = true)]
    pub yes: bool,
    /// Print the request as a line for curl, and send nothing that changes anything
    #[arg(long, global = true, hide_short_help = true)]
    pub curl: bool,
    /// Whom to talk to and as whom, by the name of a table in profiles.toml [env: `DEKEYS_PROFILE`]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub profile: Option<String>,
    /// When to colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub color: Colour,
    /// No talk, only results and errors
    #[arg(long, short, global = true, hide_short_help = true)]
    pub quiet: bool,
    /// Say which requests are made
    #[arg(long, short, global = true, hide_short_help = true)]
    pub verbose: bool,
    /// How long one request may take [default: `75s`]
    #[arg(long, global = true, value_name = "SPAN", hide_short_help = true)]
    pub timeout: Option<Ttl>,
    /// The command makes a profile, so that it need not be there.
    #[arg(skip)]
    pub sets_up: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all of it on this machine: server, vendor, policy, payment, key, receipt
    Demo(demo::DemoArgs),
    /// Run the server
    Serve(serve::ServeArgs),
    /// Make an instance: its keys, its operator, its approvers. Local, on the database
    Init(init::InitArgs),
    /// Open the vault
    Unseal(unseal::UnsealArgs),
    /// Drop the keys at once
    Seal(unseal::SealArgs),
    /// How the instance is
    #[command(after_help = "Example: dekeys status")]
    Status,
    /// What keeps dekeys from working here, and what will
    Doctor(doctor::DoctorArgs),
    /// Copies that a lost instance comes back from
    #[command(subcommand, after_help = backup::EXAMPLE)]
    Backup(backup::Backup),
    /// A copied, rolled back or restored database against the vendors' lists of keys
    Reconcile(reconcile::ReconcileArgs),
    /// Sign in for eight hours with a key file
    #[command(after_help = "Example: dekeys login --key-file ~/.config/dekeys/ada.key")]
    Login,
    /// End the login that is kept, here and at the server
    #[command(after_help = "Example: dekeys logout")]
    Logout,
    /// Who dekeys thinks you are
    #[command(after_help = "Example: dekeys whoami --key-file prim.key")]
    Whoami,
    /// Key files, made on your side; and the instance's own keys
    #[command(subcommand, after_help = key::EXAMPLE)]
    Key(key::Key),
    /// What can be had
    #[command(subcommand, after_help = offer::EXAMPLE)]
    Offer(offer::Offer),
    /// Rights that were bought or given
    #[command(subcommand, after_help = grant::EXAMPLE)]
    Grant(grant::Grant),
    /// Tokens, offline
    #[command(subcommand, after_help = token::EXAMPLE)]
    Token(token::Token),
    /// Swap a token for a vendor key, as a prim
    Resolve(resolve::ResolveArgs),
    /// Run a program that uses vendors' keys without holding them; they end with it
    Run(run::RunArgs),
    /// The part of `run` that revokes at the end; `run` starts it
    #[command(hide = true, after_help = "Example: dekeys run-guard < orders")]
    RunGuard,
    /// Put keys into a file made from a template, as a prim
    Inject(inject::InjectArgs),
    /// Keys that are out
    #[command(subcommand, after_help = lease::EXAMPLE)]
    Lease(lease::Lease),
    /// What was paid
    #[command(subcommand, after_help = payment::EXAMPLE)]
    Payment(payment::Payment),
    /// What was paid, sold and owed
    #[command(after_help = usage::EXAMPLE)]
    Usage(usage::UsageArgs),
    /// Every vendor key ever asked for
    #[command(subcommand, after_help = credential::EXAMPLE)]
    Credential(credential::Credential),
    /// Provisioning policies
    #[command(subcommand, after_help = policy::EXAMPLE)]
    Policy(policy::Policy),
    /// Requests that people decide
    #[command(subcommand, after_help = approval::EXAMPLE)]
    Approval(approval::Approval),
    /// Vendors and their root credentials
    #[command(subcommand, after_help = vendor::EXAMPLE)]
    Vendor(vendor::Vendor),
    /// Who is known
    #[command(subcommand, after_help = principal::EXAMPLE)]
    Principal(principal::Principal),
    /// The audit log
    #[command(subcommand, after_help = audit::EXAMPLE)]
    Audit(audit::Audit),
    /// What happens, as it happens
    Events(events::EventsArgs),
    /// Who is told of events over HTTP
    #[command(subcommand, after_help = webhook::EXAMPLE)]
    Webhook(webhook::Webhook),
    /// Receipts
    #[command(subcommand, after_help = receipt::EXAMPLE)]
    Receipt(receipt::Receipt),
    /// The configuration of this machine
    #[command(subcommand, after_help = config::EXAMPLE)]
    Config(config::Config),
    /// Any request, signed as yours
    Api(api::ApiArgs),
    /// Print the OpenAPI document
    #[command(after_help = "Example: dekeys openapi > openapi.json")]
    Openapi,
    /// The database on this machine
    #[command(subcommand, after_help = database::EXAMPLE)]
    Db(database::Db),
    /// Print what a shell needs to complete commands
    Completions(manual::CompletionsArgs),
    /// Manual pages, as man reads them
    Man(manual::ManArgs),
}

impl Command {
    /// Whether it sends no request, so that there is nothing for `--curl`.
    const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Demo(_)
                | Self::Serve(_)
                | Self::Init(_)
                | Self::Key(_)
                | Self::Config(_)
                | Self::Openapi
                | Self::RunGuard
                | Self::Db(_)
                | Self::Backup(backup::Backup::Restore(_))
                | Self::Doctor(_)
                | Self::Completions(_)
                | Self::Man(_)
        )
    }
}

/// Runs a command line of this process.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run_in(args, &mut World::process()))
}

/// Runs a command line in a world, and gives its exit code.
pub fn run_in(args: impl IntoIterator<Item = OsString>, world: &mut World) -> u8 {
    match Cli::try_parse_from(args) {
        Ok(cli) => execute(&cli, world),
        Err(error) => parse_failed(&error, world),
    }
}

/// The command line as clap knows it: for manual pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Prints the text of `--help` and `--version` as a result, mistakes as talk.
fn parse_failed(error: &clap::Error, world: &mut World) -> u8 {
    let colour = |tty: bool| tty && (world.env)("NO_COLOR").is_none_or(|value| value.is_empty());
    let text = |colour: bool| {
        if colour {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        }
    };
    let (written, exit) = if error.use_stderr() {
        let text = text(colour(world.terminal.stderr));
        (world.stderr.write_all(text.as_bytes()), exit::USAGE)
    } else {
        let text = text(colour(world.terminal.stdout));
        (world.stdout.write_all(text.as_bytes()), 0)
    };
    // Nobody reads it: then there is nothing to tell either.
    let _ = written;
    exit
}

fn execute(cli: &Cli, world: &mut World) -> u8 {
    let mut globals = cli.globals.clone();
    globals.sets_up = matches!(cli.command, Command::Config(config::Config::Set { .. }));
    let (mut context, fit) = Context::new(&globals, world);
    let fit = fit.and_then(|()| nothing_for_curl(cli));
    match fit.and_then(|()| dispatch(&cli.command, &mut context)) {
        Ok(()) => 0,
        Err(failure) => context.fail(&failure),
    }
}

fn nothing_for_curl(cli: &Cli) -> Result<(), Failure> {
    if cli.globals.curl && cli.command.is_local() {
        let fix = "leave --curl out";
        return Err(Failure::usage("this command sends no request", fix));
    }
    Ok(())
}

fn dispatch(command: &Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(args, context),
        Command::Demo(args) => demo::run(args, context),
        Command::Run(args) => run::run(args, context),
        Command::RunGuard => run::guard::run(context),
        others => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(converse(others, context))
        }
    }
}

async fn converse(command: &Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::run(args, context),
        Command::Serve(args) => serve::run(args, context),
        Command::Run(args) => run::run(args, context),
        Command::RunGuard => run::guard::run(context),
        Command::Init(args) => init::run(args, context).await,
        Command::Unseal(args) => unseal::unseal(args, context).await,
        Command::Seal(args) => unseal::seal(args, context).await,
        Command::Status => status::run(context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Backup(verb) => backup::run(verb, context).await,
        Command::Reconcile(args) => reconcile::run(args, context).await,
        Command::Login => login::login(context).await,
        Command::Logout => login::logout(context).await,
        Command::Whoami => login::whoami(context).await,
        Command::Key(verb) => key::run(verb, context).await,
        Command::Offer(verb) => offer::run(verb, context).await,
        Command::Grant(verb) => grant::run(verb, context).await,
        Command::Token(verb) => token::run(verb, context).await,
        Command::Resolve(args) => resolve::run(args, context).await,
        Command::Inject(args) => inject::run(args, context).await,
        Command::Lease(verb) => lease::run(verb, context).await,
        Command::Payment(verb) => payment::run(verb, context).await,
        Command::Usage(args) => usage::run(args, context).await,
        Command::Credential(verb) => credential::run(verb, context).await,
        Command::Policy(verb) => policy::run(verb, context).await,
        Command::Approval(verb) => approval::run(verb, context).await,
        Command::Vendor(verb) => vendor::run(verb, context).await,
        Command::Principal(verb) => principal::run(verb, context).await,
        Command::Audit(verb) => audit::run(verb, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Webhook(verb) => webhook::run(verb, context).await,
        Command::Receipt(verb) => receipt::run(verb, context).await,
        Command::Config(verb) => config::run(verb, context),
        Command::Api(args) => api::run(args, context).await,
        Command::Openapi => api::openapi(context),
        Command::Db(verb) => database::run(verb, context).await,
        Command::Completions(args) => manual::completions(args, context),
        Command::Man(args) => manual::man(args, context),
    }
}
