//! The payment rail, put together from the configuration.

use std::sync::Arc;

use super::{SetupError, secret_file};
use crate::base::egress::Egress;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::config::{Config, Rail};
use crate::model::instance::{Instance, Mode};
use crate::payment::{Chain, FacilitatorKey, HttpRail, PaymentRail, SimRail, Terms};

/// A rail, and the terms it works under.
type Selling = (Arc<dyn PaymentRail>, Terms);

/// The configured rail and the terms it works under; `None` when payments are off.
///
/// # Errors
/// [`SetupError`]: money of the wrong kind for the instance's mode, a file that cannot be used.
pub(super) fn open(
    config: &Config,
    instance: &Instance,
    egress: &Egress,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Option<Selling>, SetupError> {
    let payment = &config.payment;
    if payment.rail == Rail::Off {
        return Ok(None);
    }
    let terms = Terms {
        network: payment.network.clone(),
        asset: payment.asset.clone(),
        asset_name: payment.asset_name.clone(),
        asset_version: payment.asset_version.clone(),
        pay_to: payment.pay_to.clone().unwrap_or_default(),
        max_timeout: payment.max_timeout,
    };
    terms.check()?;
    let rail: Arc<dyn PaymentRail> = match (payment.rail, &payment.facilitator_url) {
        (Rail::Http, Some(facilitator)) => {
            if instance.mode == Mode::Test && !terms.is_test_network() {
                return Err(SetupError::RealMoney(terms.network));
            }
            let key = facilitator_key(config)?;
            let chain = chain(config, egress);
            let (clock, random) = (Arc::clone(clock), Arc::clone(random));
            Arc::new(HttpRail::new(
                egress.clone(),
                facilitator.clone(),
                key,
                chain,
                clock,
                random,
            ))
        }
        _ if instance.mode == Mode::Live => return Err(SetupError::SimulatedMoney),
        _ => Arc::new(SimRail::open(&config.ledger(), &terms, Arc::clone(clock))?),
    };
    Ok(Some((rail, terms)))
}

fn chain(config: &Config, egress: &Egress) -> Option<Chain> {
    let Some(node) = config.payment.rpc_url.clone() else {
        tracing::warn!("no `payment.rpc_url`: the facilitator is believed, and people decide what it leaves open");
        return None;
    };
    Some(Chain::new(egress.clone(), node, &config.payment.asset))
}

fn facilitator_key(config: &Config) -> Result<FacilitatorKey, SetupError> {
    let Some(path) = &config.payment.facilitator_key_file else {
        return Ok(FacilitatorKey::None);
    };
    let text = secret_file(path)?;
    FacilitatorKey::read(&text).map_err(|error| SetupError::Step {
        step: "payment.facilitator_key_file",
        why: format!("{}: {error}", path.display()),
    })
}
