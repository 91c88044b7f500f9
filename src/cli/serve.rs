//! `dekeys serve`: a real instance from its configuration, or with `--dev` one for the moment.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::output;
use crate::config::{self, Flags};
use crate::setup::server::Server;
use crate::setup::stage::{PRIM, Stage, temporary_dir};
use crate::setup::{SetupError, unseal_from};

/// What `dekeys serve` takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where agents, prims and people connect
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where the vault is unsealed: a loopback address, or `unix:` and a path
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<String>,
    /// `sqlite://` and a path, or `postgres://…`
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// What dekeys itself writes
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Unseal at start with this key file
    #[arg(long, value_name = "FILE")]
    pub unseal_key_file: Option<PathBuf>,
    /// Unseal at start with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    pub unseal_passphrase_file: Option<PathBuf>,
    /// The address by which others reach this instance
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Any key of the configuration
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// A throw-away test instance: demo vendor, simulated payments, an approved policy, a prim
    #[arg(long)]
    pub dev: bool,
    /// First line on standard output is one JSON object (with --dev)
    #[arg(long)]
    pub json: bool,
    /// The port of --dev; 0 takes a free one
    #[arg(long, default_value_t = 8402, requires = "dev")]
    pub port: u16,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl ServeArgs {
    /// The flags of the configuration among them.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            database_url: self.database_url.clone(),
            data_dir: self.data_dir.clone(),
            unseal_key_file: self.unseal_key_file.clone(),
            unseal_passphrase_file: self.unseal_passphrase_file.clone(),
            public_url: self.public_url.clone(),
            set: self.set.clone(),
            ..Flags::default()
        }
    }
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// [`SetupError`].
pub async fn run(args: &ServeArgs, config: &config::Config) -> Result<(), SetupError> {
    if args.dev {
        return dev(args).await;
    }
    crate::setup::server::harden();
    let server = Server::start(config).await?;
    let unsealed = unseal_from(&server.app, config).await;
    let unsealed = match unsealed {
        Ok(unsealed) => unsealed,
        Err(error) => {
            server.stop().await;
            return Err(error);
        }
    };
    output::note(&format!("dekeys listens on {}, admin on {}", server.url, server.admin));
    if !unsealed {
        output::note("the vault is sealed: open it with `dekeys unseal`");
    }
    until_stopped().await;
    output::note("stopping");
    server.stop().await;
    Ok(())
}

async fn dev(args: &ServeArgs) -> Result<(), SetupError> {
    let data_dir = args.data_dir.clone().unwrap_or_else(temporary_dir);
    let wanted = SocketAddr::from(([127, 0, 0, 1], args.port));
    let listen = if std::net::TcpListener::bind(wanted).is_ok() {
        wanted
    } else {
        SocketAddr::from(([127, 0, 0, 1], 0))
    };
    let stage = Stage::ready(data_dir, listen).await?;
    let admin_token = stage.login()?;
    let first = json!({
        "url": stage.server.url,
        "admin_url": stage.server.admin,
        "admin_token": admin_token,
        "prim": { "name": PRIM, "key_file": stage.key_file(PRIM) },
        "operator": { "key_file": stage.key_file("operator") },
        "agent": { "key_file": stage.key_file("agent") },
        "vendor_url": stage.vendor.url().as_str().trim_end_matches('/'),
        "data_dir": stage.data_dir,
    });
    if args.json {
        output::line(&first.to_string());
    } else {
        output::line(&format!("dekeys test instance at {}", stage.server.url));
        output::line(&format!("  prim       {PRIM}, key {}", stage.key_file(PRIM).display()));
        output::line(&format!("  operator   key {}", stage.key_file("operator").display()));
        output::line(&format!("  vendor     {}", stage.vendor.url()));
        output::line(&format!("  data       {}", stage.data_dir.display()));
        output::line("  press Ctrl-C to stop; nothing leaves this machine, no money moves");
    }
    until_stopped().await;
    stage.server.stop().await;
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub async fn until_stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _interrupted = tokio::signal::ctrl_c().await;
        }
    }
}
