//! What other parts of dekeys do for a command. Each function is one call into `setup` or `operations`.

use serde_json::Value;

use super::context::Context;
use super::demo::DemoArgs;
use super::exit;
use super::failure::Failure;
use super::init::InitPlan;
use super::serve::ServeArgs;
use crate::base::money::Money;
use crate::base::random::Random;
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;
use crate::config::Loaded;
use crate::model::scope::Name;

/// Makes an instance: its id, for the person to see.
#[expect(clippy::unused_async, reason = "what it calls is")]
pub(crate) async fn init(_loaded: &Loaded, _plan: InitPlan) -> Result<String, Failure> {
    absent("init")
}

/// Runs the server until it is told to stop.
pub(crate) fn serve(_loaded: &Loaded, _args: &ServeArgs, _context: &mut Context<'_>) -> Result<(), Failure> {
    absent("serve")
}

/// Runs the demonstration.
pub(crate) fn demo(_args: &DemoArgs, _context: &mut Context<'_>) -> Result<(), Failure> {
    absent("demo")
}

/// Signs a payment of at most `most` for what a 402 asks for: the value of `PAYMENT-SIGNATURE`.
pub(crate) fn pay(
    _wallet: &SecretBytes,
    _required: &Value,
    _most: Money,
    _now: Timestamp,
    _random: &dyn Random,
) -> Result<String, Failure> {
    absent("paying")
}

/// Runs a mock vendor until it is told to stop.
#[expect(clippy::unused_async, reason = "what it calls is")]
pub(crate) async fn mock(
    _vendor: &Name,
    _manifest: Option<&str>,
    _listen: &str,
    _context: &mut Context<'_>,
) -> Result<(), Failure> {
    absent("vendor mock")
}

/// The OpenAPI document.
pub(crate) fn openapi() -> Result<Value, Failure> {
    absent("openapi")
}

fn absent<T>(what: &str) -> Result<T, Failure> {
    let what = format!("{what} is not part of this build");
    Err(Failure::new("not_built", exit::FAILED, what, "use a release of dekeys"))
}
