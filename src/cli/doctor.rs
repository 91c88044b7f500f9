//! `dekeys doctor`: what keeps this machine's dekeys from working, and what will. The server's own checks come from
//! `/readyz` of the admin address, under the same names; what only this side can see is looked at here.

mod files;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::hook;
use super::output::{Format, visible};
use super::page::{list, text};
use super::serve::DatabaseArgs;
use crate::base::time::{SystemClock, Timestamp, span_words};
use crate::client::{Client, ClientError, Request};
use crate::config::{self, AdminListen, Loaded};
use crate::setup::holder;

/// What `doctor` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys doctor\nExample: dekeys doctor --fix\nExample: dekeys doctor --config ./dekeys.toml --json"
)]
pub(crate) struct DoctorArgs {
    /// Repair what can be repaired without losing anything
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    level: Level,
    ok: bool,
    detail: String,
    fix: Option<String>,
    fixable: bool,
    #[serde(skip)]
    repair: Option<Repair>,
}

/// What `--fix` does.
#[derive(Debug, Clone)]
enum Repair {
    /// Only its owner may read it.
    Private(PathBuf),
    /// The folder is made.
    Folder(PathBuf),
    /// The database is brought up to this binary.
    Migrate,
    /// A login that is over is forgotten.
    Forget(PathBuf),
}

impl Finding {
    fn new(name: &str, level: Level, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            level,
            ok: level != Level::Fail,
            detail: detail.into(),
            fix: None,
            fixable: false,
            repair: None,
        }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into()).filter(|fix| !fix.is_empty());
        self
    }

    fn repair(mut self, repair: Repair) -> Self {
        self.fixable = true;
        self.repair = Some(repair);
        self
    }
}

/// Looks, repairs if it was asked to, and tells. Fails when a check does.
pub(crate) async fn run(args: &DoctorArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut findings = look(args, context).await?;
    let mut repaired = Vec::new();
    if args.fix {
        for finding in &mut findings {
            let Some(repair) = finding.repair.take() else { continue };
            match apply(&repair, args, context).await {
                Ok(()) => repaired.push(finding.name.clone()),
                Err(why) => finding.detail = format!("{}; not repaired: {}", finding.detail, words(&why)),
            }
        }
        if !repaired.is_empty() {
            findings = look(args, context).await?;
        }
    }
    tell(&findings, &repaired, context)
}

async fn look(args: &DoctorArgs, context: &mut Context<'_>) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![Finding::new("binary", Level::Ok, env!("CARGO_PKG_VERSION"))];
    let loaded = match config::load(&args.database.flags(), &context.world.env) {
        Ok(loaded) => {
            findings.push(configured(&loaded));
            Some(loaded)
        }
        Err(errors) => {
            findings.extend(errors.0.into_iter().map(|error| {
                let place = if error.key.is_empty() {
                    error.origin
                } else {
                    format!("{}: {}", error.origin, error.key)
                };
                Finding::new("config", Level::Fail, format!("{place}: {}", error.message)).fix(error.fix)
            }));
            None
        }
    };
    let server = serves(loaded.as_ref(), context, &mut findings).await?;
    let local = context
        .settings
        .iter()
        .any(|setting| setting.key == "addr" && setting.origin != "default");
    if let Some(loaded) = &loaded {
        if !server && !local {
            findings.extend(database(loaded).await);
        }
        findings.extend(files::of(loaded, context));
    }
    if server {
        findings.extend(sign_in(context).await?);
    }
    Ok(findings)
}

fn configured(loaded: &Loaded) -> Finding {
    let from = |start: &str| {
        loaded
            .origins
            .iter()
            .filter(|origin| origin.origin.starts_with(start))
            .count()
    };
    let file = loaded
        .origins
        .iter()
        .find_map(|origin| origin.origin.strip_prefix("file "));
    let file = file
        .and_then(|place| place.rsplit_once(':'))
        .map_or("no file, defaults", |(file, _)| file);
    let detail = match from("environment ") {
        0 => file.to_owned(),
        1 => format!("{file} (1 value from the environment)"),
        several => format!("{file} ({several} values from the environment)"),
    };
    Finding::new("config", Level::Ok, detail)
}

/// Looks at the server; whether it answers as dekeys.
async fn serves(
    loaded: Option<&Loaded>,
    context: &mut Context<'_>,
    findings: &mut Vec<Finding>,
) -> Result<bool, Failure> {
    aim(loaded, context);
    let client = context.stranger()?;
    let listen = loaded.map(|loaded| loaded.config.listen);
    let public = match context.exchange(&client, &Request::get(&["readyz"])).await? {
        Err(error) => {
            findings.push(silent(&client, listen, &error));
            return Ok(false);
        }
        Ok(reply) if list(&reply.json(), "/checks").is_empty() => {
            let detail = format!("{} answers, but not as dekeys does", client.address());
            findings.push(Finding::new("port", Level::Fail, detail).fix("name the address: --addr"));
            return Ok(false);
        }
        Ok(reply) => reply.json(),
    };
    let admin = context.admin_stranger()?;
    let told = context.exchange(&admin, &Request::get(&["readyz"])).await?;
    let told = told
        .ok()
        .map(|reply| reply.json())
        .filter(|told| told.get("process").is_some());
    findings.push(answers(&client, told.as_ref()));
    if told.is_none() {
        let detail = format!(
            "{} does not answer; what follows is what strangers are told",
            admin.address()
        );
        findings.push(
            Finding::new("admin", Level::Warn, detail).fix("run it on the server's machine, or name --admin-addr"),
        );
    }
    let checks = told.as_ref().unwrap_or(&public);
    let skew = told
        .as_ref()
        .and_then(|told| Timestamp::parse_rfc3339(&text(told, "/process/now")));
    for check in list(checks, "/checks") {
        let found = theirs(check);
        let found = if found.name == "clock" {
            skewed(found, skew)
        } else {
            found
        };
        findings.push(found);
    }
    Ok(true)
}

/// Where nothing else was said, the server is the one this machine's configuration describes.
fn aim(loaded: Option<&Loaded>, context: &mut Context<'_>) {
    let Some(loaded) = loaded else { return };
    let reached = |mut address: SocketAddr| {
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        format!("http://{address}")
    };
    let listen = reached(loaded.config.listen);
    context.globals.addr.get_or_insert(listen);
    context
        .globals
        .admin_addr
        .get_or_insert_with(|| match &loaded.config.admin_listen {
            AdminListen::Tcp(address) => reached(*address),
            AdminListen::Unix(path) => format!("unix:{}", path.display()),
        });
}

fn silent(client: &Client, listen: Option<SocketAddr>, error: &ClientError) -> Finding {
    let here = listen.filter(|listen| client.address().authority().ends_with(&format!(":{}", listen.port())));
    match here.and_then(holder::of_port) {
        Some(holder) if !matches!(error, ClientError::Unreachable(_)) => Finding::new(
            "port",
            Level::Fail,
            format!("{} is held by {holder}, which does not answer", client.address()),
        )
        .fix("look at its log, or restart it"),
        _ => Finding::new("port", Level::Fail, format!("nothing answers at {}", client.address()))
            .fix("dekeys serve, or name the address: --addr"),
    }
}

fn answers(client: &Client, told: Option<&Value>) -> Finding {
    let Some(told) = told else {
        return Finding::new("port", Level::Ok, format!("{} answers as dekeys", client.address()));
    };
    let (pid, version) = (
        told.pointer("/process/pid").cloned().unwrap_or_default(),
        text(told, "/process/version"),
    );
    let words = format!("{} answers as dekeys {version}, pid {pid}", client.address());
    if version == env!("CARGO_PKG_VERSION") {
        return Finding::new("port", Level::Ok, words);
    }
    Finding::new("port", Level::Warn, words).fix("use the same version here and there")
}

/// A check of the server's.
fn theirs(check: &Value) -> Finding {
    let ok = check.get("ok") == Some(&Value::Bool(true));
    let level = match (text(check, "/level").as_str(), ok) {
        (_, false) => Level::Fail,
        ("warn", true) => Level::Warn,
        (_, true) => Level::Ok,
    };
    Finding::new(&text(check, "/name"), level, text(check, "/detail")).fix(text(check, "/fix"))
}

/// A signature is taken up to 60 s after it was made, and up to 30 s before.
fn skewed(found: Finding, theirs: Option<Timestamp>) -> Finding {
    let (here, Some(there)) = (SystemClock::wall(), theirs) else {
        return found;
    };
    let (span, word) = if here > there {
        (here.since(there), "ahead of")
    } else {
        (there.since(here), "behind")
    };
    if span.as_secs() < 10 || found.level == Level::Fail {
        return found;
    }
    let most = if word == "behind" { 60 } else { 30 };
    let detail = format!(
        "this machine is {} {word} the server; signatures fail above {most} s",
        span_words(span)
    );
    let level = if span.as_secs() >= most {
        Level::Fail
    } else {
        Level::Warn
    };
    Finding::new("clock", level, detail).fix("timedatectl set-ntp true")
}

/// The database, when no server tells of it.
async fn database(loaded: &Loaded) -> Vec<Finding> {
    let shown = loaded.config.shown_database_url();
    let looked = match hook::look_at_database(loaded).await {
        Ok(looked) => looked,
        Err(failure) => {
            let fix = if failure.code() == "not_initialized" {
                "dekeys init"
            } else {
                "dekeys db status"
            };
            return vec![Finding::new("database", Level::Fail, format!("{shown}: {}", words(&failure))).fix(fix)];
        }
    };
    let size = looked
        .bytes
        .map_or_else(String::new, |bytes| format!(", {} MiB", bytes / (1024 * 1024)));
    let (there, here) = (looked.migrations, looked.known);
    let migrations = match there.cmp(&here) {
        std::cmp::Ordering::Equal => Finding::new("migrations", Level::Ok, format!("{there} of {here}")),
        std::cmp::Ordering::Less => {
            let detail = format!("the database is at {there}, this binary knows {here}");
            Finding::new("migrations", Level::Warn, detail)
                .fix("dekeys db migrate")
                .repair(Repair::Migrate)
        }
        std::cmp::Ordering::Greater => {
            let detail = format!("the database is at {there}, this binary knows {here}");
            Finding::new("migrations", Level::Fail, detail)
                .fix("install the version that wrote it, or restore a backup")
        }
    };
    vec![
        Finding::new("database", Level::Ok, format!("{shown}{size}")),
        migrations,
    ]
}

/// Whether who this user says they are is believed.
async fn sign_in(context: &mut Context<'_>) -> Result<Option<Finding>, Failure> {
    let login = context.login_file().ok().filter(|path| path.exists());
    let named = context.globals.key_file.is_some() || context.globals.token_file.is_some();
    if !named && login.is_none() {
        return Ok(None);
    }
    let client = match context.client() {
        Ok(client) => client,
        Err(failure) => {
            return Ok(Some(
                Finding::new("sign-in", Level::Fail, words(&failure)).fix("dekeys key new FILE"),
            ));
        }
    };
    let reply = context.exchange(&client, &Request::get(&["v1", "whoami"])).await?;
    let who = match reply {
        Ok(reply) if reply.status == 200 => reply.json(),
        Ok(reply) if reply.status == 401 => {
            let found = Finding::new("sign-in", Level::Warn, "the server does not know you any more")
                .fix("dekeys login --key-file FILE");
            return Ok(Some(match login.filter(|_| !named) {
                Some(path) => found.repair(Repair::Forget(path)),
                None => found,
            }));
        }
        // Sealed or out of order: said above.
        _ => return Ok(None),
    };
    let words = format!("{}, {}", text(&who, "/name"), text(&who, "/kind"));
    Ok(Some(Finding::new("sign-in", Level::Ok, words)))
}

async fn apply(repair: &Repair, args: &DoctorArgs, context: &Context<'_>) -> Result<(), Failure> {
    match repair {
        Repair::Private(path) => files::make_private(path),
        Repair::Folder(path) => files::make_folder(path),
        Repair::Migrate => {
            let loaded = config::load(&args.database.flags(), &context.world.env)?;
            hook::migrate(&loaded).await
        }
        Repair::Forget(path) => Ok(std::fs::remove_file(path)?),
    }
}

fn words(failure: &Failure) -> String {
    match failure {
        Failure::Told(told) => told.what.clone(),
        Failure::Unread | Failure::Quiet(_) => "it failed".to_owned(),
    }
}

fn tell(findings: &[Finding], repaired: &[String], context: &mut Context<'_>) -> Result<(), Failure> {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (failures, warnings) = (count(Level::Fail), count(Level::Warn));
    if context.style.format == Format::Text {
        let lines: Vec<String> = findings.iter().map(|finding| line(finding, context)).collect();
        context.print(&lines.join("\n"))?;
        context.say(&summary(findings, failures, warnings, repaired))?;
    } else {
        let told = json!({
            "object": "doctor", "ok": failures == 0, "failures": failures, "warnings": warnings,
            "repaired": repaired, "checks": findings,
        });
        context.show_value(&told, &[])?;
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(Failure::Quiet(exit::FAILED))
    }
}

fn line(finding: &Finding, context: &Context<'_>) -> String {
    let fix = finding.fix.as_deref().unwrap_or_default();
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "FAIL",
    };
    if !context.style.terminal.stdout {
        return [finding.name.as_str(), level, &finding.detail, fix]
            .map(visible)
            .join("\t");
    }
    let (name, detail) = (visible(&finding.name), visible(&finding.detail));
    let line = format!(" {level:<5} {name:<12}  {detail}");
    if fix.is_empty() {
        return line;
    }
    let wide = context.style.terminal.width.map_or(120, usize::from);
    let fix = visible(fix);
    if line.chars().count() + fix.chars().count() + 8 <= wide {
        return format!("{line}   fix: {fix}");
    }
    format!("{line}\n{:21}fix: {fix}", "")
}

fn summary(findings: &[Finding], failures: usize, warnings: usize, repaired: &[String]) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut words = match (failures, warnings) {
        (0, 0) => "all is well.".to_owned(),
        (failures, warnings) => format!("{}, {}.", plural(failures, "failure"), plural(warnings, "warning")),
    };
    if !repaired.is_empty() {
        words = format!("{words} Repaired: {}.", repaired.join(", "));
    }
    let open = findings
        .iter()
        .filter(|finding| finding.repair.is_some())
        .map(|finding| finding.name.as_str());
    let open: Vec<&str> = open.collect();
    if open.is_empty() {
        words
    } else {
        format!("{words} --fix can repair: {}.", open.join(", "))
    }
}
