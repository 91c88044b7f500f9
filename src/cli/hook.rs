//! What other parts of dekeys do for a command. Each function is one call into `setup`, `mock` or `operations`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::init::{InitPlan, UnsealWith};
use crate::base::money::Money;
use crate::base::random::Random;
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;
use crate::config::Loaded;
use crate::mock::{self, MockOptions};
use crate::model::principal::PublicKey;
use crate::model::scope::Name;
use crate::operations::openapi as document;
use crate::problem;
use crate::service::init::Init;
use crate::setup::lint;
use crate::setup::look::{self, DatabaseLook};
use crate::setup::restore::{self, Moved, Restored};
use crate::setup::{self, SetupError, UnsealKey, holder};

/// Makes an instance: its id, for the person to see.
pub(crate) async fn init(loaded: &Loaded, plan: InitPlan) -> Result<String, Failure> {
    let key = unseal_key(plan.unseal)?;
    let init = Init {
        mode: plan.mode,
        operator: plan.operator,
        approvers: plan.approvers,
        quorum: plan.quorum,
        solo: plan.solo,
    };
    let instance = setup::init(&loaded.config, init, key).await?;
    Ok(instance.id.to_string())
}

fn unseal_key(with: UnsealWith) -> Result<UnsealKey, SetupError> {
    match with {
        UnsealWith::Passphrase(passphrase) => Ok(setup::passphrase(passphrase)),
        UnsealWith::KeyFile(text) => setup::key_file(&text),
        UnsealWith::Shares(text) => setup::shares(&text),
    }
}

/// What is wrong with a manifest, and how it fits to a document.
pub(crate) fn lint(file: &str, manifest: &str, document: Option<&str>) -> Result<Value, Failure> {
    let linted = lint::lint(file, manifest, document)
        .map_err(|words| Failure::usage(words, "give the vendor's OpenAPI or Swagger document as JSON"))?;
    Ok(json!(linted))
}

/// Looks at the configured database.
pub(crate) async fn look_at_database(loaded: &Loaded) -> Result<DatabaseLook, Failure> {
    Ok(look::look(&loaded.config).await?)
}

/// Brings the configured database to this binary's migrations.
pub(crate) async fn migrate(loaded: &Loaded) -> Result<(), Failure> {
    Ok(look::migrate(&loaded.config).await?)
}

/// Restores a backup into the configured database.
pub(crate) async fn restore(loaded: &Loaded, file: &Path, key: UnsealWith) -> Result<Restored, Failure> {
    Ok(restore::restore(&loaded.config, file, unseal_key(key)?).await?)
}

/// Moves the configured SQLite database to PostgreSQL, or looks whether it could be.
pub(crate) async fn to_postgres(loaded: &Loaded, target: &str, dry_run: bool) -> Result<Moved, Failure> {
    Ok(restore::to_postgres(&loaded.config, target, dry_run).await?)
}

/// Signs a payment of at most `most` for what a 402 asks for: the value of `PAYMENT-SIGNATURE`, bound to the body and
/// signer of the request.
pub(crate) fn pay(
    wallet: &SecretBytes,
    required: &Value,
    most: Money,
    request: (&Value, Option<PublicKey>),
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, Failure> {
    setup::pay(wallet, required, most, request, now, random).map_err(|why| {
        Failure::new(
            "price_too_high",
            exit::PAYMENT,
            why,
            "raise --max-price, or ask for less",
        )
    })
}

/// Runs a mock vendor until it is told to stop.
pub(crate) async fn mock(
    vendor: &Name,
    manifest: Option<&str>,
    listen: &str,
    params: &[(String, String)],
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    let manifest = mock::manifest(vendor, manifest).map_err(|why| {
        Failure::new(
            "manifest_invalid",
            exit::FAILED,
            why,
            "dekeys vendor ls shows what there is",
        )
    })?;
    let listen = listen
        .parse()
        .map_err(|_| Failure::usage(format!("`{listen}` is not an address"), "--listen 127.0.0.1:0"))?;
    let facts = manifest.facts().params;
    let asked: Vec<Asked> = facts
        .into_iter()
        .map(|param| (param.name, param.sample, param.optional))
        .collect();
    parameters(vendor, &asked, params)?;
    let options = MockOptions {
        listen,
        params: params.to_vec(),
        ..MockOptions::default()
    };
    let started = mock::MockVendor::start(&manifest, options).await;
    let running =
        started.map_err(|error| Failure::new("mock", exit::FAILED, error.to_string(), "see vendors/README.md"))?;
    let fields: serde_json::Map<String, Value> = running
        .root_fields()
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let facts =
        json!({ "object": "mock_vendor", "vendor": vendor, "url": running.url().as_str(), "root_fields": fields });
    context.print(&format!("{facts}\n"))?;
    setup::server::until_stopped().await;
    Ok(())
}

/// A parameter that a manifest has: its name, a made-up value, and whether it may be left out.
type Asked = (String, String, bool);

/// Whether these are the parameters that the manifest has.
fn parameters(vendor: &Name, asked: &[Asked], given: &[(String, String)]) -> Result<(), Failure> {
    let flags = asked
        .iter()
        .map(|(name, sample, _)| format!(" --param {name}={sample}"));
    let fix = format!("dekeys vendor mock {vendor}{}", flags.collect::<Vec<_>>().concat());
    for (name, _, optional) in asked {
        if !optional && !given.iter().any(|(known, _)| known == name) {
            return Err(Failure::usage(format!("{vendor} has the parameter `{name}`"), fix));
        }
    }
    for (name, _) in given {
        if !asked.iter().any(|(known, ..)| known == name) {
            return Err(Failure::usage(format!("{vendor} has no parameter `{name}`"), fix));
        }
    }
    Ok(())
}

/// The OpenAPI document.
pub(crate) fn openapi() -> Value {
    document::document()
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let code = problem::code(error.code()).unwrap_or(problem::INTERNAL);
        let failure = |what: String, fix: &str| Self::new(code.code, code.exit, what, fix);
        match &error {
            SetupError::PortInUse { address } => port_in_use(address),
            SetupError::InUse { path } => {
                let by = holder::of_file(Path::new(&format!("{path}.lock")));
                let by = by.map_or_else(|| "another dekeys".to_owned(), |by| by.to_string());
                failure(
                    format!("the database `{path}` is in use by {by}"),
                    "use it: dekeys status      or stop it: systemctl stop dekeys",
                )
                .because("A SQLite database is one dekeys' alone: two would take each other's work for leftovers.")
            }
            SetupError::Locked { path } => {
                let by = holder::of_file(Path::new(path));
                let by = by.map_or_else(String::new, |by| format!(" by {by}"));
                failure(format!("the database `{path}` is locked{by}"), "end that program, or move to PostgreSQL")
                    .because("Waited 5 s. Another program holds the write lock; dekeys itself never needs it that long.")
            }
            SetupError::Newer { database, binary } => failure(
                code.title.to_owned(),
                "install the version that wrote it, or restore a backup",
            )
            .because(format!(
                "It has migration {database}, this is {} and knows {binary}. Starting could damage it, so nothing was written.",
                env!("CARGO_PKG_VERSION")
            )),
            _ => failure(error.to_string(), code.fix),
        }
    }
}

fn port_in_use(address: &str) -> Failure {
    let (code, parsed) = (problem::PORT_IN_USE, address.parse::<SocketAddr>());
    let by = parsed.as_ref().ok().and_then(|address| holder::of_port(*address));
    let words = by
        .as_ref()
        .map_or_else(|| "another program".to_owned(), ToString::to_string);
    let what = match &parsed {
        Ok(address) => format!("port {} is taken by {words}", address.port()),
        Err(_) => format!("{address} is taken by {words}"),
    };
    let mut ways = Vec::new();
    if by.as_ref().is_some_and(holder::Holder::is_dekeys) {
        ways.push("use it: dekeys status".to_owned());
    }
    if let Ok(mut other) = parsed {
        other.set_port(other.port().saturating_add(10));
        ways.push(format!("another: dekeys serve --listen {other}"));
    }
    ways.push(by.map_or_else(|| "stop that one".to_owned(), |by| format!("stop it: kill {}", by.pid)));
    Failure::new(code.code, code.exit, what, ways.join("      or "))
}
