//! `dekeys token`: explained, narrowed and checked on this machine, without the server; ended at the server.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Format, visible_lines};
use crate::base::secret::SecretText;
use crate::base::time::{Ttl, span_words};
use crate::client::token::{self, Authorized, Inspection, Narrowing, Use};
use crate::client::{Keys, Request, secret};
use crate::model::claims::UseKind;
use crate::model::scope::{Name, Reference, Scope};

pub(crate) const EXAMPLE: &str = "Example: dekeys token inspect token";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Say in plain words what a token allows
    #[command(after_help = "Example: dekeys token inspect token\nExample: dekeys token inspect - < token")]
    Inspect {
        /// The token's file; `-` is standard input; `--token-file` if absent
        file: Option<PathBuf>,
        /// Check its signatures with what `GET /v1/keys` answered
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
    /// Add a block that allows less; needs no key and no server
    Attenuate(AttenuateArgs),
    /// Check signatures, time and, with --ref, whether it allows a use
    Verify(VerifyArgs),
    /// End a token, and every token narrowed from it, on every instance at once
    #[command(after_help = "Example: dekeys token revoke token --key-file agent.key --yes\n\
        Its grant goes on: dekeys grant revoke ends that, with its keys.")]
    Revoke {
        /// The token's file; `-` is standard input; `--token-file` if absent
        file: Option<PathBuf>,
    },
}

/// What `attenuate` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys token attenuate token --audience prim-infer --ttl 5m --out-token pinned")]
pub(crate) struct AttenuateArgs {
    /// The token's file; `-` is standard input; `--token-file` if absent
    file: Option<PathBuf>,
    /// Only this prim. Repeat
    #[arg(long, value_name = "PRIM")]
    audience: Vec<Name>,
    /// Only this vendor. Repeat
    #[arg(long, value_name = "NAME")]
    vendor: Vec<Name>,
    /// Only this scope. Repeat
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// Only for this use. Repeat
    #[arg(long = "use", value_name = "USE")]
    uses: Vec<Purpose>,
    /// Only for so long from now
    #[arg(long, value_name = "SPAN")]
    ttl: Option<Ttl>,
    /// Only this HTTP method; forwarding only. Repeat
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// Only paths that begin with this; forwarding only. Repeat, up to 4
    #[arg(long, value_name = "PATH")]
    path_prefix: Vec<String>,
    /// Nothing can be added afterwards (biscuit's word is sealed)
    #[arg(long = "final")]
    last: bool,
    /// Write the token to this file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    out_token: Option<PathBuf>,
}

/// What `verify` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys token verify token --keys keys.json\n\
    Example: dekeys token verify token --addr https://dekeys.example.org --ref dk://openai/chat:write --as prim-infer")]
pub(crate) struct VerifyArgs {
    /// The token's file; `-` is standard input; `--token-file` if absent
    file: Option<PathBuf>,
    /// What `GET /v1/keys` answered; asked for at the address if absent
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Whether it allows this
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<Reference>,
    /// For this use
    #[arg(long = "use", value_name = "USE", default_value = "resolve", requires = "reference")]
    purpose: Purpose,
    /// By this prim
    #[arg(long = "as", value_name = "PRIM", requires = "reference")]
    prim: Option<Name>,
    /// With this method; forwarding only
    #[arg(long, value_name = "METHOD", requires = "reference")]
    method: Option<String>,
    /// At this path; forwarding only
    #[arg(long, value_name = "PATH", requires = "reference")]
    path: Option<String>,
    /// Ask the instance too whether it was revoked; for prims and operators
    #[arg(long)]
    online: bool,
}

/// [`UseKind`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// A prim gets the key.
    Resolve,
    /// dekeys sends the request.
    Forward,
    /// The holder manages its grant.
    Manage,
}

impl From<Purpose> for UseKind {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Resolve => Self::Resolve,
            Purpose::Forward => Self::Forward,
            Purpose::Manage => Self::Manage,
        }
    }
}

/// Runs a verb.
pub(crate) async fn run(verb: &Token, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Token::Inspect { file, keys } => {
            let token = read(file.as_deref(), context)?;
            let keys = keys.as_deref().map(|path| read_keys(path, context)).transpose()?;
            let inspection = token::inspect(&token, keys.as_ref())?;
            show(&inspection, None, context)
        }
        Token::Attenuate(args) => attenuate(args, context),
        Token::Verify(args) => verify(args, context).await,
        Token::Revoke { file } => revoke(file.as_deref(), context).await,
    }
}

fn attenuate(args: &AttenuateArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let narrowing = Narrowing {
        prims: args.audience.clone(),
        vendors: args.vendor.clone(),
        scopes: args.scope.clone(),
        uses: args.uses.iter().map(|purpose| (*purpose).into()).collect(),
        until: args.ttl.map(|ttl| context.now().plus(ttl)),
        methods: args.method.clone(),
        path_prefixes: args.path_prefix.clone(),
        seal: args.last,
    };
    if narrowing == Narrowing::default() {
        let fix = "say how: --audience, --vendor, --scope, --use, --ttl, --method, --path-prefix or --final";
        return Err(Failure::usage("nothing is narrowed", fix));
    }
    let token = read(args.file.as_deref(), context)?;
    let narrower = token::attenuate(&token, &narrowing)?;
    match &args.out_token {
        Some(path) => {
            secret::write_over(path, &narrower, context.world.random.as_ref())?;
            context.say(&format!("the token is in {}", path.display()))
        }
        None if context.style.format == Format::Text => Ok(secret::write_to(&mut context.world.stdout, &narrower)?),
        None => {
            let body = secret::object(&[("token", &narrower)]);
            super::output::raw(&mut context.world.stdout, &body)
        }
    }
}

async fn verify(args: &VerifyArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let token = read(args.file.as_deref(), context)?;
    let keys = if let Some(path) = &args.keys {
        read_keys(path, context)?
    } else {
        let client = context.stranger()?;
        let reply = context.send(&client, &Request::get(&["v1", "keys"])).await?;
        Keys::parse(&reply.body)?
    };
    let wanted = args.reference.clone().map(|reference| Use {
        reference,
        kind: args.purpose.into(),
        prim: args.prim.clone(),
        method: args.method.clone(),
        path: args.path.clone(),
    });
    refuse_expired(&token, context)?;
    let (inspection, allowed) = token::verify(&token, &keys, wanted.as_ref(), context.now())?;
    if args.online && !is_active(&token, context).await? {
        let fix = "get a fresh one: POST /v1/grants/{id}/tokens, signed by its holder";
        let what = "the instance does not take the token: it was revoked, its grant ended, or it is not for you";
        return Err(Failure::new("invalid_token", exit::UNAUTHENTICATED, what, fix));
    }
    let online = args.online;
    show(&inspection, Some(&Checked { allowed, online }), context)
}

/// Says of a token that is over, before anybody is asked: the server answers it like a forged one.
pub(crate) fn refuse_expired(unverified_token: &SecretText, context: &Context<'_>) -> Result<(), Failure> {
    let Ok(read) = token::inspect(unverified_token, None) else {
        return Ok(());
    };
    let now = context.now();
    if read.until > now {
        return Ok(());
    }
    let ago = span_words(now.since(read.until));
    let fix = format!(
        "a fresh one is free while the grant lives: dekeys grant token {}",
        read.grant
    );
    let failure = Failure::new(
        "token_expired",
        exit::UNAUTHENTICATED,
        format!("the token expired {ago} ago"),
        fix,
    );
    Err(failure.because(format!(
        "It was valid until {}. Its grant is {}.",
        read.until, read.grant
    )))
}

/// Introspection (RFC 7662).
async fn is_active(token: &SecretText, context: &mut Context<'_>) -> Result<bool, Failure> {
    // The token is what is asked about, not who asks.
    context.globals.token_file = None;
    let request = Request::post(&["v1", "token", "introspect"]).form(&[("token", token)]);
    let reply = context.ask(&request).await?;
    Ok(reply.json().get("active") == Some(&json!(true)))
}

async fn revoke(file: Option<&Path>, context: &mut Context<'_>) -> Result<(), Failure> {
    let token = read(file, context)?;
    context.confirm("End this token, and every token narrowed from it?")?;
    // The token is what is ended, not who ends it: that is the key's or the login's to say.
    context.globals.token_file = None;
    let request = Request::post(&["v1", "token", "revoke"]).form(&[("token", &token)]);
    context.ask(&request).await?;
    context.say("the token is over")
}

/// The token was verified.
struct Checked {
    /// It allows the use that was asked about, if one was.
    allowed: Option<Authorized>,
    /// The instance says that it was not revoked.
    online: bool,
}

fn show(inspection: &Inspection, checked: Option<&Checked>, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.style.format != Format::Text {
        let mut value = serde_json::to_value(inspection).unwrap_or_default();
        if let (Some(checked), Some(members)) = (checked, value.as_object_mut()) {
            members.insert("valid".to_owned(), json!(true));
            members.insert("revocation_checked".to_owned(), json!(checked.online));
            let allowed = &checked.allowed;
            let until = allowed
                .as_ref()
                .map(|yes| ("allowed_until".to_owned(), json!(yes.until)));
            members.extend(until);
        }
        return context.show_value(&value, &[]);
    }
    context.print(&visible_lines(&inspection.to_string()))?;
    let Some(checked) = checked else { return Ok(()) };
    let about = if checked.online {
        "not revoked"
    } else {
        "whether it was revoked, only the instance knows"
    };
    match &checked.allowed {
        None => context.print(&format!("VALID; {about}")),
        Some(yes) => {
            let pinned = yes.pinned.as_ref().map(|prim| format!(", pinned to {prim}"));
            let (until, pinned) = (yes.until, pinned.unwrap_or_default());
            context.print(&format!("ALLOWED until {until}{pinned}; {about}"))
        }
    }
}

/// The token that is named, from its file or standard input. Never from an argument, which others could see.
pub(crate) fn read(file: Option<&Path>, context: &mut Context<'_>) -> Result<SecretText, Failure> {
    let path = file.map(Path::to_owned).or_else(|| context.globals.token_file.clone());
    let path = path.ok_or_else(|| Failure::usage("no token was named", "give its file, `-`, or --token-file FILE"))?;
    let shown = path.to_string_lossy();
    if shown.starts_with("dkt_") {
        let fix = "write it to a file, or: dekeys token inspect - < FILE";
        return Err(Failure::usage(
            "a token on the command line can be seen by others on this machine",
            fix,
        ));
    }
    context.read_secret(&path)
}

fn read_keys(path: &Path, context: &mut Context<'_>) -> Result<Keys, Failure> {
    Ok(Keys::parse(context.read_text(path)?.as_bytes())?)
}
