//! `dekeys vendor`: what can be connected, and root credentials going in. They never come out.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::context::Context;
use super::credential::ROTATION;
use super::exit;
use super::failure::Failure;
use super::hook;
use super::lint::{self, LintArgs};
use super::output::{Column, Kind};
use super::page::{list, rows, text};
use super::principal::nearest;
use crate::base::secret::SecretText;
use crate::base::time::Ttl;
use crate::client::{Request, secret};
use crate::model::scope::Name;

pub(crate) const EXAMPLE: &str = "Example: dekeys vendor connect openrouter --root-key-file key";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Vendor {
    /// Vendors, connected and available
    #[command(after_help = "Example: dekeys vendor ls")]
    Ls,
    /// One vendor
    #[command(after_help = "Example: dekeys vendor show openrouter")]
    Show {
        /// The vendor
        name: Name,
    },
    /// Enter a root credential
    Connect(ConnectArgs),
    /// Replace a root credential: it proves itself before it is used, and the one before ends
    #[command(
        after_help = "Example: dekeys vendor rotate-root gitlab                          by the vendor's API\n\
        Example: dekeys vendor rotate-root openrouter --root-key-file new      one that you made there"
    )]
    RotateRoot {
        /// The vendor
        name: Name,
        /// A file with the new root credential, if it has one field; `-` is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "fields")]
        root_key_file: Option<PathBuf>,
        /// A field of the new root credential, from a file; `@-` is standard input. Repeat
        #[arg(long = "field", value_name = "NAME=@FILE", value_parser = super::serve::pair)]
        fields: Vec<(String, String)>,
        /// How long the one before may be used, at most 24h [default: as configured]
        #[arg(long, value_name = "SPAN")]
        grace: Option<Ttl>,
    },
    /// Ask the vendor something harmless with the root credential
    #[command(after_help = "Example: dekeys vendor test openrouter")]
    Test {
        /// The vendor
        name: Name,
    },
    /// Say what is wrong with manifests, and how they fit to the vendor's own document
    Lint(LintArgs),
    /// Run a vendor that is none, on this machine, to try a manifest
    #[command(after_help = "Example: dekeys vendor mock demo --listen 127.0.0.1:9100\n\
        Example: dekeys vendor mock deepgram --param project=6f1c2e3a-1b2c-4d5e-8f90-123456789abc")]
    Mock {
        /// The vendor whose manifest it follows
        name: Name,
        /// A manifest of your own
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Where it listens
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: String,
        /// A parameter of the manifest. Repeat
        #[arg(long = "param", value_name = "NAME=VALUE", value_parser = super::serve::pair)]
        params: Vec<(String, String)>,
    },
}

/// What `connect` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys vendor connect openrouter                      asks for the key\n\
    Example: dekeys vendor connect openrouter --root-key-file key\n\
    Example: dekeys vendor connect twilio --field account_sid=@sid --field auth_token=@token\n\
    Example: pass show openrouter | dekeys vendor connect openrouter --root-key-file -"
)]
pub(crate) struct ConnectArgs {
    /// The vendor
    name: Name,
    /// A file with the root credential, if it has one field; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "fields")]
    root_key_file: Option<PathBuf>,
    /// A field of the root credential, from a file; `@-` is standard input. Repeat
    #[arg(long = "field", value_name = "NAME=@FILE", value_parser = super::serve::pair)]
    fields: Vec<(String, String)>,
    /// A parameter of the manifest; not secret. Repeat
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = super::serve::pair)]
    params: Vec<(String, String)>,
    /// Another address than the manifest's; test instances only
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// A manifest of your own
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

const LIST: &[Column] = &[
    Column("vendor", "/name", Kind::Plain),
    Column("title", "/title", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("class", "/class", Kind::Plain),
    Column("evidence", "/evidence", Kind::Plain),
    Column("scopes", "/scopes", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("vendor", "/name", Kind::Plain),
    Column("title", "/title", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("scopes", "/scopes", Kind::Plain),
    Column("class", "/class", Kind::Plain),
    Column("evidence", "/evidence", Kind::Plain),
    Column("resale", "/resale", Kind::Plain),
    Column("can mint", "/can_mint", Kind::Plain),
    Column("ends keys itself", "/vendor_expiry", Kind::Plain),
    Column("signed here", "/signed_here", Kind::Plain),
    Column("hosts", "/hosts", Kind::Plain),
    Column("root fields", "/root_fields", Kind::Plain),
    Column("manifest", "/manifest", Kind::Plain),
    Column("connected", "/connected", Kind::Time),
    Column("calls", "/keys/breaker/state", Kind::Plain),
    Column("called again", "/keys/breaker/until", Kind::Time),
    Column("keys listed", "/keys/listed", Kind::Plain),
    Column("compared", "/keys/compared", Kind::Time),
    Column("orphans", "/keys/orphans", Kind::Plain),
    Column("trouble", "/keys/trouble", Kind::Plain),
];

const TEST: &[Column] = &[
    Column("vendor", "/vendor", Kind::Plain),
    Column("ok", "/ok", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Vendor, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Vendor::Ls => context.page(&Request::get(&["v1", "vendors"]), LIST, "vendors").await,
        Vendor::Show { name } => {
            let reply = context.ask(&Request::get(&["v1", "vendors", name.as_str()])).await;
            match reply {
                Ok(reply) => context.show(&reply, FULL).map(drop),
                Err(failure) => Err(suggest(failure, name, context).await?),
            }
        }
        Vendor::Connect(args) => connect(args, context).await,
        Vendor::RotateRoot {
            name,
            root_key_file,
            fields,
            grace,
        } => {
            let args = ConnectArgs {
                name: name.clone(),
                root_key_file: root_key_file.clone(),
                fields: fields.clone(),
                params: Vec::new(),
                base_url: None,
                manifest: None,
            };
            rotate_root(&args, *grace, context).await
        }
        Vendor::Test { name } => {
            let request = Request::post(&["v1", "vendors", name.as_str(), "test"]);
            let answer = match context.ask_and_show(&request, TEST).await {
                Ok(answer) => answer,
                Err(failure) => return Err(suggest(failure, name, context).await?),
            };
            if answer.get("ok") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            if text(&answer, "/code") == "vendor_not_connected" {
                let what = format!("no root credential for vendor \"{name}\"");
                let fix = format!("dekeys vendor connect {name}          what it needs: dekeys vendor show {name}");
                let failure = Failure::new("vendor_not_connected", exit::FAILED, what, fix);
                return Err(failure.because("The manifest is there, but dekeys has no key to create keys with."));
            }
            let fix = format!("enter it again: dekeys vendor connect {name}");
            let what = format!("{name} does not accept it");
            let failure = Failure::new("vendor_refused", exit::FAILED, what, fix);
            Err(failure.because(text(&answer, "/trouble")))
        }
        Vendor::Lint(args) => lint::run(args, context),
        Vendor::Mock {
            name,
            manifest,
            listen,
            params,
        } => {
            let manifest = manifest.as_deref().map(|path| context.read_text(path)).transpose()?;
            hook::mock(name, manifest.as_deref(), listen, params, context).await
        }
    }
}

async fn connect(args: &ConnectArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let manifest = args
        .manifest
        .as_deref()
        .map(|path| context.read_text(path))
        .transpose()?;
    let fields = fields(args, context).await?;
    let fields: Vec<(&str, &SecretText)> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let params: Map<String, Value> = args
        .params
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut plain = Map::new();
    plain.insert("params".to_owned(), Value::Object(params));
    plain.extend(manifest.map(|text| ("manifest".to_owned(), json!(text))));
    plain.extend(args.base_url.as_ref().map(|url| ("base_url".to_owned(), json!(url))));
    let body = secret::with_member(&plain, "fields", &secret::object(&fields));
    let request = Request::put(&["v1", "vendors", args.name.as_str(), "root-credential"]).bytes(body);
    context.ask_and_show(&request, FULL).await?;
    context.say(&format!("stored; try it: dekeys vendor test {}", args.name))
}

/// Replaces a root credential; without one that was made by hand the vendor's API is asked.
async fn rotate_root(args: &ConnectArgs, grace: Option<Ttl>, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut plain = Map::new();
    plain.extend(grace.map(|grace| ("grace".to_owned(), json!(grace))));
    let path = ["v1", "vendors", args.name.as_str(), "rotate-root"];
    let request = if args.root_key_file.is_none() && args.fields.is_empty() {
        Request::post(&path).json(&Value::Object(plain))
    } else {
        let fields = fields(args, context).await?;
        let fields: Vec<(&str, &SecretText)> = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
        Request::post(&path).bytes(secret::with_member(&plain, "fields", &secret::object(&fields)))
    };
    context.ask_and_show(&request, ROTATION).await?;
    context.say("the one before is ended next: dekeys credential ls --due")
}

/// The root credential's fields: from files, or asked for one by one.
async fn fields(args: &ConnectArgs, context: &mut Context<'_>) -> Result<Vec<(String, SecretText)>, Failure> {
    if !args.fields.is_empty() {
        return args.fields.iter().map(|field| given(field, context)).collect();
    }
    let wanted = wanted(args, context).await?;
    match (&args.root_key_file, wanted.as_slice()) {
        (Some(path), [one]) => Ok(vec![(one.clone(), context.read_secret(path)?)]),
        (Some(_), several) => {
            let names: Vec<String> = several.iter().map(|name| format!("--field {name}=@FILE")).collect();
            let what = format!("a root credential of {} has {} fields", args.name, several.len());
            Err(Failure::usage(what, names.join(" ")))
        }
        (None, names) => names
            .iter()
            .map(|name| {
                let question = format!("{} {name}", args.name);
                Ok((
                    name.clone(),
                    context.type_secret(&question, "--root-key-file or --field")?,
                ))
            })
            .collect(),
    }
}

fn given((name, from): &(String, String), context: &mut Context<'_>) -> Result<(String, SecretText), Failure> {
    let path = from.strip_prefix('@').ok_or_else(|| {
        let what = format!("the value of `{name}` stands on the command line, where others can see it");
        Failure::usage(what, format!("write it to a file: --field {name}=@FILE"))
    })?;
    Ok((name.clone(), context.read_secret(Path::new(path))?))
}

/// Which fields the vendor's root credential has; with a manifest of one's own, what that says.
async fn wanted(args: &ConnectArgs, context: &mut Context<'_>) -> Result<Vec<String>, Failure> {
    if args.manifest.is_some() {
        let fix = "--field NAME=@FILE for each field under [root] in the manifest";
        return Err(Failure::usage("with a manifest of your own the fields are named", fix));
    }
    let request = Request::get(&["v1", "vendors", args.name.as_str()]);
    let vendor = match context.look_up(&request).await {
        Ok(reply) => reply.json(),
        Err(failure) => return Err(suggest(failure, &args.name, context).await?),
    };
    let names = list(&vendor, "/root_fields");
    Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The failure, with the vendor that was probably meant.
async fn suggest(failure: Failure, name: &Name, context: &mut Context<'_>) -> Result<Failure, Failure> {
    if !matches!(failure.code(), "not_found" | "vendor_not_connected") {
        return Ok(failure);
    }
    let answer = context.look_up(&Request::get(&["v1", "vendors"])).await?.json();
    if rows(&answer).iter().any(|row| text(row, "/name") == name.as_str()) {
        return Ok(failure);
    }
    let near = nearest(name.as_str(), rows(&answer).iter().map(|row| text(row, "/name")));
    let fix = near.map_or_else(
        || "dekeys vendor ls; or bring a manifest: --manifest FILE".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let code = failure.code().to_owned();
    Ok(failure.or_fix(&code, || fix))
}
