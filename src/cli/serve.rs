//! `dekeys serve`: a real instance from its configuration, or with `--dev` one for the moment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::Format;
use crate::base::fail;
use crate::config::{self, Flags, LogConfig, LogFormat};
use crate::setup::server::{self, Server};
use crate::setup::stage::{self, PRIM, Stage};
use crate::setup::unseal_from;
use crate::telemetry::{self, Traces};

/// What `serve` takes. Whatever is absent comes from the environment, the file, or the default.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Example: dekeys serve --data-dir ./data --unseal-key-file ./unseal.key\n\
    Example: dekeys serve --dev      a test instance in a new folder, unsealed, with an operator's login"
)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Address and port for agents, prims and people
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The same by port: 127.0.0.1 and this port
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    pub port: Option<u16>,
    /// Loopback address or `unix:` path where the vault is unsealed
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// Unseal at start with this key file
    #[arg(long, value_name = "FILE")]
    pub unseal_key_file: Option<PathBuf>,
    /// Unseal at start with the passphrase in this file
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    pub unseal_passphrase_file: Option<PathBuf>,
    /// The address by which others reach this instance
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Look of log lines: auto, text or json
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,
    /// What is logged: a level, or directives such as `info,dekeys=debug`
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any other key of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// A test instance for developing: made, unsealed, signed in; never for real keys
    #[arg(long)]
    pub dev: bool,
}

/// Where the instance is kept.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DatabaseArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// `sqlite://` and a path; give `postgres://…` by file or environment, it may hold a password
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where dekeys keeps its files
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

/// Runs the server until SIGINT or SIGTERM.
pub(crate) fn run(args: &ServeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut flags = args.flags();
    if context.style.format != Format::Text {
        flags.log_format.get_or_insert_with(|| "json".to_owned());
    }
    if args.dev {
        let runtime = tokio::runtime::Runtime::new()?;
        return runtime.block_on(dev(args, context));
    }
    let loaded = config::load(&flags, &context.world.env)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if loaded.config.workers > 0 {
        builder.worker_threads(loaded.config.workers);
    }
    builder.enable_all().build()?.block_on(serve(&loaded.config, context))
}

async fn serve(config: &config::Config, context: &mut Context<'_>) -> Result<(), Failure> {
    fail::listen((context.world.env)("DEKEYS_FAIL_POINTS").map(Into::into));
    let traces = telling(&config.log, context)?;
    server::harden();
    let server = Server::start(config).await?;
    let unsealed = match unseal_from(&server.app, config).await {
        Ok(unsealed) => unsealed,
        Err(error) => {
            server.stop().await;
            return Err(error.into());
        }
    };
    context.say(&format!("dekeys listens on {}, admin on {}", server.url, server.admin))?;
    if !unsealed {
        context.say("the vault is sealed: open it with `dekeys unseal`")?;
    }
    server::until_stopped().await;
    context.say("stopping")?;
    server.stop().await;
    end(traces).await;
    Ok(())
}

/// Sets up logs and traces. What cannot be set up is said, and is no reason not to serve.
fn telling(log: &LogConfig, context: &mut Context<'_>) -> Result<Option<Traces>, Failure> {
    let traces = match Traces::from_env(&context.world.env) {
        Ok(traces) => traces,
        Err(error) => {
            context.say(&error.to_string())?;
            None
        }
    };
    let (traces, layer) = traces.unzip();
    if let Err(error) = telemetry::init(log, layer) {
        context.say(&format!("no logs: {error}"))?;
    }
    Ok(traces)
}

/// What is left of the traces goes out before the process ends.
async fn end(traces: Option<Traces>) {
    if let Some(traces) = traces {
        traces.end().await;
    }
}

/// A throw-away test instance: demo vendor, simulated payments, an approved policy, a prim.
async fn dev(args: &ServeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    // It says what it has to say on standard output; traces go where the environment wants them.
    let quiet = LogConfig {
        format: LogFormat::Auto,
        level: "off".to_owned(),
    };
    let traces = telling(&quiet, context)?;
    let data_dir = args.database.data_dir.clone().unwrap_or_else(stage::temporary_dir);
    let wanted = args.port.unwrap_or(8402);
    let stage = Stage::ready(data_dir, SocketAddr::from(([127, 0, 0, 1], wanted))).await?;
    let facts = json!({
        "url": stage.server.url,
        "admin_url": stage.server.admin,
        "admin_token": stage.login()?,
        "prim": { "name": PRIM, "key_file": stage.key_file(PRIM) },
        "operator": { "key_file": stage.key_file("operator") },
        "agent": { "key_file": stage.key_file("agent") },
        "vendor_url": stage.vendor.url().as_str().trim_end_matches('/'),
        "data_dir": stage.data_dir,
    });
    if context.style.format == Format::Text {
        context.print(&dev_words(&stage))?;
    } else {
        context.print(&format!("{facts}\n"))?;
    }
    server::until_stopped().await;
    stage.server.stop().await;
    end(traces).await;
    Ok(())
}

fn dev_words(stage: &Stage) -> String {
    format!(
        "dekeys test instance at {}\n  prim       {PRIM}, key {}\n  operator   key {}\n  vendor     {}\n  data       {}\n  \
         press Ctrl-C to stop; nothing leaves this machine, no money moves\n",
        stage.server.url,
        stage.key_file(PRIM).display(),
        stage.key_file("operator").display(),
        stage.vendor.url(),
        stage.data_dir.display()
    )
}

impl ServeArgs {
    /// The flags as the configuration takes them.
    #[must_use]
    pub(crate) fn flags(&self) -> Flags {
        let by_port = self.port.map(|port| format!("127.0.0.1:{port}"));
        Flags {
            listen: self.listen.clone().or(by_port),
            admin_listen: self.admin_listen.clone(),
            unseal_key_file: self.unseal_key_file.clone(),
            unseal_passphrase_file: self.unseal_passphrase_file.clone(),
            public_url: self.public_url.clone(),
            log_format: self.log_format.clone(),
            log_level: self.log_level.clone(),
            set: self.set.clone(),
            ..self.database.flags()
        }
    }
}

impl DatabaseArgs {
    /// The flags as the configuration takes them.
    #[must_use]
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            database_url: self.database_url.clone(),
            data_dir: self.data_dir.clone(),
            ..Flags::default()
        }
    }
}

/// `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not `key=value`"))?;
    if key.is_empty() {
        return Err(format!("`{text}` has no key before `=`"));
    }
    Ok((key.to_owned(), value.to_owned()))
}
