//! Offers: what can be bought, under which policy, at what price.

use serde::{Deserialize, Serialize};

use super::price::PriceParts;
use super::scope::{Name, Reference};
use crate::base::money::Money;
use crate::base::time::Ttl;

/// One thing that can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Offer {
    /// What to ask for.
    pub reference: Reference,
    /// The policy that offers it.
    pub policy: Name,
    /// Its version.
    pub policy_version: i64,
    /// What a grant of it costs for its longest life and with its most resolves, which is what a request gets that says
    /// nothing of them; absent when it is free.
    pub price: Option<Money>,
    /// What that is made of; absent when it is free.
    pub prices: Option<PriceParts>,
    /// The longest a grant may live.
    pub max_ttl: Ttl,
    /// The most resolves one grant may have.
    pub max_resolves: i64,
    /// Prims that may receive a key under it.
    pub prims: Vec<Name>,
    /// For how long from its making an unsigned token may be used through the proxy; absent when only signed requests
    /// are taken. Whoever has such a token can use it: a lesser promise than a token that is bound to a holder's key.
    pub bearer: Option<Ttl>,
    /// Whether people approve each grant: `none`, `first` or `always`.
    pub approval: String,
}
