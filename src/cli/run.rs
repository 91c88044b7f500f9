//! `dekeys run`: a program that uses vendors' keys without holding them, or, for a prim, with them in its environment.
//!
//! An agent's program gets a loopback address for each vendor and a stand-in for each key ([`signer`]). What `run` opened
//! ends with the program, whatever ends it or `run` ([`guard`]).

mod child;
pub(crate) mod guard;
mod keys;
mod pass;
mod signer;
mod variables;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output::Format;
use super::resolve::PIN;
use super::token;
use crate::base::secret::SecretText;
use crate::base::time::Ttl;
use crate::client::mask::Mask;
use crate::client::token::{Inspection, Narrowing, inspect};
use crate::client::{ClientError, KeyFile, Request};
use crate::model::claims::UseKind;
use crate::model::scope::Name;
use child::{Program, Running, Set};
use guard::{Guard, Outcome};
use signer::{Parties, Signer};
use variables::{Filling, Variable};

/// `run` itself failed.
pub(crate) const RUN_FAILED: u8 = 125;
/// The program is there and cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
pub(crate) const NOT_FOUND: u8 = 127;

/// What `run` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys run --key-file agent.key --token-file token -- python nightly.py\n\
    Example: dekeys run --vendor openai --path /v1/chat/ --env MY_KEY=openai.key -- ./nightly\n\
    Example: dekeys run --key-file prim.key --token-file token --env-file .env -- ./service\n\n\
    An agent's program finds <VENDOR>_BASE_URL and <VENDOR>_API_KEY (for openai: OPENAI_BASE_URL, OPENAI_API_KEY): an\n\
    address of this machine and a stand-in that is good there alone. The grant is revoked when the program ends.\n\n\
    Exit codes: the program's own; 125 dekeys failed, 126 it cannot be executed, 127 it is not there"
)]
pub(crate) struct RunArgs {
    /// For a prim: put the variables of this file into the program's environment, `dk://vendor/scope` as the key
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// For a prim: start the program again when a key changed
    #[arg(long, requires = "env_file")]
    watch: bool,
    /// Leave secrets in the program's output as they are, and its output a terminal
    #[arg(long)]
    no_masking: bool,
    /// Only this vendor of the token. Repeat
    #[arg(long, value_name = "NAME", conflicts_with = "env_file")]
    vendor: Vec<Name>,
    /// Only paths at the vendor that begin with this. Repeat, up to 4
    #[arg(long, value_name = "PATH", conflicts_with = "env_file")]
    path: Vec<String>,
    /// Only this HTTP method. Repeat
    #[arg(long, value_name = "METHOD", conflicts_with = "env_file")]
    method: Vec<String>,
    /// How long each token for the program is good; a new one follows while it runs
    #[arg(long, value_name = "SPAN", default_value = "5m")]
    ttl: Ttl,
    /// One more variable: `NAME=VENDOR.key`, or `NAME=VENDOR.base_url/path`. Repeat
    #[arg(long, value_name = "NAME=WHAT", conflicts_with = "env_file")]
    env: Vec<Variable>,
    /// Do not revoke the grant when the program ends
    #[arg(long, conflicts_with = "env_file")]
    keep_grant: bool,
    /// The agent's token, in place of --token-file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    agent_token: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the program, and gives its exit code.
pub(crate) fn run(args: &RunArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.globals.curl {
        let what = "a program that runs is more than one request";
        return Err(Failure::usage(what, "leave --curl out").exiting(RUN_FAILED));
    }
    hide_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(whole(args, context));
    runtime.shutdown_background();
    match outcome {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Quiet(code)),
        Err(failure) if matches!(failure.exit(), NOT_EXECUTABLE | NOT_FOUND) => Err(failure),
        Err(failure) => Err(failure.exiting(RUN_FAILED)),
    }
}

/// Other processes of this user cannot read this one's memory, nor the kernel write it into a core file. A program that
/// is started is as it would be without.
pub(crate) fn hide_memory() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // Without it keys are only as safe as any process's memory is.
        let _hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

async fn whole(args: &RunArgs, context: &mut Context<'_>) -> Result<u8, Failure> {
    let key = match context.globals.key_file.clone() {
        Some(path) => Some(context.read_key(&path)?),
        None => None,
    };
    let prim = match &key {
        Some(_) => prim_name(context).await?,
        None => None,
    };
    match &args.env_file {
        Some(file) => keys::run(args, file, key, prim.as_ref(), context).await,
        None => forwarding(args, key, prim, context).await,
    }
}

/// The name of the prim whose key file is used; `None` for everybody else.
async fn prim_name(context: &mut Context<'_>) -> Result<Option<Name>, Failure> {
    let client = context.client()?;
    let answer = match client.send(&Request::get(&["v1", "whoami"])).await {
        Ok(reply) => reply.json(),
        // A holder's key that dekeys knows by its grant alone.
        Err(ClientError::Refused(refused)) if matches!(refused.status, 401 | 403) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str);
    let is_prim = text("/kind") == Some("prim");
    Ok(text("/name").filter(|_| is_prim).and_then(|name| name.parse().ok()))
}

/// A program that reaches its vendors through the signer.
async fn forwarding(
    args: &RunArgs,
    key: Option<KeyFile>,
    prim: Option<Name>,
    context: &mut Context<'_>,
) -> Result<u8, Failure> {
    let unverified = token::read(args.agent_token.as_deref(), context)?;
    let about = inspect(&unverified, None)?;
    fits(&about, key.as_ref(), prim.is_some(), context)?;
    let vendors = vendors(&about, &args.vendor)?;
    let variables = variables::all(&vendors, &args.env)?;
    let stand_in = guard::stand_in(context.world.random.as_ref());
    let masks = masks(args, &[&stand_in, &unverified], false, context);
    // A prim's token must be pinned to it, for no longer than a pin is good.
    let span = if prim.is_some() { args.ttl.min(PIN) } else { args.ttl };
    let narrowing = Narrowing {
        prims: prim.iter().cloned().collect(),
        vendors: vendors.clone(),
        uses: vec![UseKind::Forward],
        methods: args.method.clone(),
        path_prefixes: args.path.clone(),
        ..Narrowing::default()
    };
    let pass = pass::Pass::new(unverified, narrowing, span, context.now())?;
    let client = context.client()?;
    let address = client.address().clone();
    // The signer signs with a key of its own; this one is for the guard.
    let guarded = key
        .as_ref()
        .filter(|_| !args.keep_grant && prim.is_none())
        .map(copy)
        .transpose()?;
    let signer = Signer::start(Parties {
        address: address.clone(),
        key,
        client,
        pass,
        vendors,
        stand_in: copied(&stand_in),
        clock: std::sync::Arc::clone(&context.world.clock),
        random: std::sync::Arc::clone(&context.world.random),
    })
    .await?;
    let program = Program {
        command: &args.command,
        set: environment(&variables, &signer, &stand_in, context),
        masks,
    };
    let grant = about.grant.to_string();
    let mut guard = match guarded {
        Some(key) => Some(Guard::start(&address.to_string(), &key)?),
        None => None,
    };
    if let Some(guard) = &mut guard {
        guard.end("grants", &grant)?;
    }
    announce(&variables, &signer, &grant, guard.is_some(), context);
    let signals = child::signals()?;
    let running = start(&program, &mut guard)?;
    let code = follow(running, signals, guard, context).await?;
    drop(signer);
    Ok(code)
}

/// Starts the program; when that fails, nothing is revoked.
fn start(program: &Program<'_>, guard: &mut Option<Guard>) -> Result<Running, Failure> {
    program.start().inspect_err(|_| {
        // The grant is good for another try. That the guard does not hear it means that it is gone.
        let _told = guard.take().map(Guard::forget);
    })
}

/// Passes signals on until the program ends; then ends what was opened.
async fn follow(
    mut running: Running,
    mut signals: tokio::sync::mpsc::UnboundedReceiver<Signal>,
    guard: Option<Guard>,
    context: &mut Context<'_>,
) -> Result<u8, Failure> {
    let mut stopping = None;
    let status = loop {
        tokio::select! {
            status = running.wait() => break status?,
            Some(signal) = signals.recv() => {
                if signal == Signal::TERM {
                    stopping.get_or_insert_with(|| tokio::time::Instant::now() + child::GRACE);
                }
                if !child::came_from_terminal(signal, context.style.terminal) {
                    running.signal(signal);
                }
            }
            () = until(stopping) => {
                running.signal(Signal::KILL);
                stopping = None;
            }
        }
    };
    end(guard, context).await;
    running.drain().await;
    Ok(child::exit_code(status))
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Has the guard end what was opened, and says how that went.
async fn end(guard: Option<Guard>, context: &mut Context<'_>) {
    let Some(guard) = guard else { return };
    let named = guard.named();
    let outcomes = guard.finish().await;
    if context.style.format != Format::Text {
        talk(
            context,
            &json!({ "object": "run_ended", "outcomes": outcomes }).to_string(),
        );
        return;
    }
    for outcome in &outcomes {
        talk(context, &ending(outcome));
    }
    if outcomes.len() < named {
        let text = "dekeys: warning: dekeys does not answer; what this run opened is ended as soon as it does";
        talk(context, text);
    }
}

/// Talks. That nobody reads it is no reason to leave a program or its keys alone.
fn talk(context: &mut Context<'_>, text: &str) {
    let _unread = context.say(text);
}

fn ending(outcome: &Outcome) -> String {
    let (kind, id) = (outcome.target.kind.trim_end_matches('s'), &outcome.target.id);
    match (outcome.state.as_str(), &outcome.why) {
        ("ended", _) => format!("dekeys: {id} is revoked, {}", dead(outcome.keys)),
        ("unconfirmed", _) => format!(
            "dekeys: warning: {id} is revoked; a vendor has not confirmed yet that the key is dead: dekeys keeps trying"
        ),
        (_, why) => {
            let why = why.as_deref().unwrap_or("no reason is known");
            format!("dekeys: warning: {id} was not revoked: {why}. Do it: dekeys {kind} revoke {id}")
        }
    }
}

fn dead(keys: u64) -> String {
    match keys {
        0 => "it had no key of its own".to_owned(),
        1 => "its key is dead".to_owned(),
        more => format!("its {more} keys are dead"),
    }
}

/// A token is for its holder's key, or for a prim it was handed to.
fn fits(about: &Inspection, key: Option<&KeyFile>, prim: bool, context: &Context<'_>) -> Result<(), Failure> {
    if about.until <= context.now() {
        let error = crate::client::token::TokenError::Expired { at: about.until };
        return Err(error.into());
    }
    match (about.holder, key) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Failure::usage(
            "the token is good with its holder's key only",
            "name the key file: --key-file FILE, or DEKEYS_KEY_FILE",
        )),
        (Some(holder), Some(key)) if prim || holder == key.public() => Ok(()),
        (Some(holder), Some(_)) => {
            let what = format!("the token is held by {holder}, which is not the key of --key-file");
            Err(Failure::usage(what, "use the key with which the grant was asked for"))
        }
    }
}

/// The vendors of the token that the program may reach.
fn vendors(about: &Inspection, only: &[Name]) -> Result<Vec<Name>, Failure> {
    let mut allowed: Vec<Name> = about.rights.iter().map(|right| right.vendor.clone()).collect();
    allowed.sort();
    allowed.dedup();
    if let Some(foreign) = only.iter().find(|name| !allowed.contains(name)) {
        let names: Vec<&str> = allowed.iter().map(Name::as_str).collect();
        let what = format!("the token does not allow {foreign}");
        return Err(Failure::usage(what, format!("choose from: {}", names.join(", "))));
    }
    allowed.retain(|name| only.is_empty() || only.contains(name));
    Ok(allowed)
}

/// What is taken out of the program's output. On a terminal, where nothing but a stand-in could be seen, the program has
/// the terminal itself: it would not be interactive through a pipe.
fn masks(args: &RunArgs, secrets: &[&SecretText], on_terminals: bool, context: &Context<'_>) -> [Mask; 2] {
    let terminal = context.style.terminal;
    [terminal.stdout, terminal.stderr].map(|terminal| {
        if args.no_masking || (terminal && !on_terminals) {
            return Mask::default();
        }
        Mask::new(secrets)
    })
}

/// The variables of the program, and where a proxy is set, that loopback does not go through it.
fn environment(variables: &[Variable], signer: &Signer, stand_in: &SecretText, context: &Context<'_>) -> Vec<Set> {
    let fill = |variable: &Variable| match &variable.filling {
        Filling::BaseUrl(path) => Set::Plain(variable.name.clone(), signer.base_url(&variable.vendor, path)),
        Filling::Key => Set::Secret(variable.name.clone(), copied(stand_in)),
    };
    let around = ["NO_PROXY", "no_proxy"].map(|name| {
        let before = (context.world.env)(name).filter(|value| !value.is_empty());
        let own = signer.address().ip().to_string();
        Set::Plain(
            name.to_owned(),
            before.map_or_else(|| own.clone(), |value| format!("{value},{own}")),
        )
    });
    variables.iter().map(fill).chain(around).collect()
}

fn announce(variables: &[Variable], signer: &Signer, grant: &str, ends: bool, context: &mut Context<'_>) {
    let names: Vec<&str> = variables.iter().map(|variable| variable.name.as_str()).collect();
    if context.style.format != Format::Text {
        let facts = json!({
            "object": "run", "address": format!("http://{}", signer.address()), "variables": names, "grant": grant,
            "revoked_at_end": ends,
        });
        return talk(context, &facts.to_string());
    }
    let end = if ends {
        "is revoked when the program ends (--keep-grant keeps it)"
    } else {
        "stays when the program ends"
    };
    talk(context, &format!("dekeys: {} are set; {grant} {end}", names.join(", ")));
}

/// A second copy, for the process that revokes.
fn copy(key: &KeyFile) -> Result<KeyFile, Failure> {
    Ok(KeyFile::parse(&key.to_text())?)
}

fn copied(secret: &SecretText) -> SecretText {
    crate::client::secret::joined(&[crate::client::secret::Piece::Secret(secret)])
}
