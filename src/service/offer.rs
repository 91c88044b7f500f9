//! Offers: what the policies in force put up, and what a request for some of it comes to.

use std::collections::HashMap;

use super::App;
use super::caller::Context;
use super::control::InForce;
use super::error::Error;
use crate::base::canonical::Digest;
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;
use crate::model::grant::{Grant, GrantItem};
use crate::model::offer::Offer;
use crate::model::policy::{GrantApproval, Policy, Rate};
use crate::model::price::Price;
use crate::model::principal::PrincipalKind;
use crate::model::scope::{Name, Reference};
use crate::policy::{self, Ask, Decision, Terms};

/// What is asked for where neither caller nor policy says how long.
const SHORT: Ttl = Ttl::from_mins(1);

/// Everything on offer, in the order of references.
///
/// # Errors
/// [`Error::Sealed`], the store's.
pub async fn list(app: &App) -> Result<Vec<Offer>, Error> {
    let policies = app.policies().await?;
    let mut usable = Vec::new();
    for in_force in policies.iter() {
        match as_approved(app, std::iter::once(in_force)).await {
            Ok(one) => usable.extend(one),
            // A forged manifest is raised; what others sell is sold.
            Err(Error::Forged(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let mut offers: Vec<Offer> = usable.into_iter().flat_map(offers_of).collect();
    offers.sort_by(|one, other| (&one.reference, &one.policy).cmp(&(&other.reference, &other.policy)));
    Ok(offers)
}

/// Those policies whose vendor's manifest is the one that was approved with them: the digest covers it (DESIGN 11), so
/// with another it is not the policy that people said yes to.
async fn as_approved<'p>(app: &App, policies: impl Iterator<Item = &'p InForce>) -> Result<Vec<&'p InForce>, Error> {
    let mut pins: HashMap<&Name, Digest> = HashMap::new();
    let mut usable = Vec::new();
    for in_force in policies {
        let vendor = &in_force.policy.vendor;
        let pin = if let Some(pin) = pins.get(vendor) {
            *pin
        } else {
            let (_, pin) = app.manifest(vendor).await?;
            pins.insert(vendor, pin);
            pin
        };
        if pin == in_force.version.manifest {
            usable.push(in_force);
        }
    }
    Ok(usable)
}

fn offers_of(in_force: &InForce) -> Vec<Offer> {
    let policy = &in_force.policy;
    let offer = |scope: &crate::model::scope::Scope| Offer {
        reference: Reference {
            vendor: policy.vendor.clone(),
            scope: scope.clone(),
        },
        policy: policy.name.clone(),
        policy_version: in_force.version.version,
        price: policy.price.as_ref().map(|price| {
            price.of(
                std::slice::from_ref(scope),
                policy.grant.max_ttl,
                policy.grant.max_resolves,
            )
        }),
        prices: policy.price.as_ref().map(|price| price.parts(scope)),
        max_ttl: policy.grant.max_ttl,
        max_resolves: policy.grant.max_resolves,
        prims: policy
            .reveal
            .as_ref()
            .map(|reveal| reveal.prims.clone())
            .unwrap_or_default(),
        bearer: policy.forward.bearer,
        approval: policy.approval.as_str().to_owned(),
    };
    policy.scopes.iter().map(offer).collect()
}

/// What somebody asks for.
pub struct Wanted<'a> {
    /// The references.
    pub references: &'a [Reference],
    /// For how long.
    pub ttl: Option<Ttl>,
    /// How many resolves.
    pub max_resolves: Option<i64>,
    /// For which prims.
    pub audience: &'a [Name],
    /// The payer's wallet once a payment proved it (CAIP-10).
    pub wallet: Option<&'a str>,
}

/// What a request comes to.
pub struct Deal {
    /// The items, each under one policy version.
    pub items: Vec<GrantItem>,
    /// How long a key made for each item lives.
    pub lives: Vec<Ttl>,
    /// The grant's life.
    pub ttl: Ttl,
    /// The grant's resolves.
    pub max_resolves: i64,
    /// The price of all items; `None` is free.
    pub price: Option<Money>,
    /// Whether people decide about each item.
    pub approvals: Vec<GrantApproval>,
    /// Whether a vendor in it wants to be settled first.
    pub settle_first: bool,
    /// The smallest limit of payments a day among the policies, and whose it is.
    pub paid_per_day: Option<(Money, Name)>,
    /// How many grants in a span each policy allows one payer.
    pub grants: Vec<(Name, Rate)>,
    /// The prices of each item.
    prices: Vec<Option<Price>>,
}

/// Finds, for each reference, the cheapest policy that allows it, and joins references under one policy to an item.
///
/// # Errors
/// [`Error::PolicyNotApproved`] with what each policy says; [`Error::Invalid`].
pub async fn deal(app: &App, context: &Context, wanted: &Wanted<'_>) -> Result<Deal, Error> {
    if wanted.references.is_empty() || wanted.references.len() > 20 {
        return Err(Error::invalid("/references", "a grant has 1 to 20 references"));
    }
    let policies = app.policies().await?;
    let mut deal = Deal::none();
    let asked_for = |in_force: &&InForce| {
        wanted
            .references
            .iter()
            .any(|reference| reference.vendor == in_force.policy.vendor)
    };
    let usable = as_approved(app, policies.iter().filter(asked_for)).await?;
    for reference in wanted.references {
        let (in_force, terms) = choose(context, &usable, wanted, reference)?;
        deal.add(in_force, &terms, reference);
    }
    deal.cost();
    deal.ask_vendors(app).await?;
    Ok(deal)
}

/// The deal of a grant that people approved, for the wallet that pays it. `None`: a policy of it is not in force any
/// more as they knew it, or asks another price.
///
/// # Errors
/// [`Error::PolicyNotApproved`] when its policies do not let this wallet in.
pub(super) async fn approved(
    app: &App,
    context: &Context,
    grant: &Grant,
    wallet: Option<&str>,
) -> Result<Option<Deal>, Error> {
    let life = grant.asked.as_ref().map(|asked| asked.life);
    let policies = app.policies().await?;
    let mut deal = Deal::none();
    for item in &grant.items {
        let is_it = |in_force: &&InForce| {
            let version = &in_force.version;
            version.name == item.policy && version.digest() == item.policy_digest
        };
        let usable = as_approved(app, policies.iter().filter(is_it)).await?;
        if usable.is_empty() {
            return Ok(None);
        }
        for scope in &item.scopes {
            let reference = Reference {
                vendor: item.vendor.clone(),
                scope: scope.clone(),
            };
            let wanted = Wanted {
                references: std::slice::from_ref(&reference),
                ttl: life,
                max_resolves: Some(grant.max_resolves),
                audience: &grant.audience,
                wallet,
            };
            let (in_force, terms) = choose(context, &usable, &wanted, &reference)?;
            deal.add(in_force, &terms, &reference);
        }
    }
    deal.cost();
    deal.ask_vendors(app).await?;
    Ok(Some(deal).filter(|deal| deal.items == grant.items && deal.price == grant.price()))
}

/// The best policy for one reference. A stranger who has not paid yet is quoted as if its wallet were one that may
/// pay; the payment then proves it, and the deal is made again.
fn choose<'a>(
    context: &Context,
    policies: &[&'a InForce],
    wanted: &Wanted<'_>,
    reference: &Reference,
) -> Result<(&'a InForce, Terms), Error> {
    let principal = context.caller.principal();
    let mut wallets: Vec<String> = principal.map(|principal| principal.wallets.clone()).unwrap_or_default();
    wallets.extend(wanted.wallet.map(str::to_owned));
    let mut best: Option<(&InForce, Terms)> = None;
    let of_vendor: Vec<&'a InForce> = policies
        .iter()
        .copied()
        .filter(|in_force| in_force.policy.vendor == reference.vendor)
        .collect();
    for in_force in &of_vendor {
        let ask = ask(context, &in_force.policy, wanted, reference, &wallets);
        let decision = match wanted.wallet {
            Some(_) => policy::decide(&in_force.policy, &ask),
            None => policy::decide_unpaid(&in_force.policy, &ask),
        };
        if let Decision::Allow(terms) = decision
            && best.as_ref().is_none_or(|(_, other)| rank(&terms) < rank(other))
        {
            best = Some((in_force, terms));
        }
    }
    best.ok_or_else(|| {
        let all: Vec<_> = of_vendor
            .iter()
            .map(|in_force| (in_force.policy.clone(), in_force.version.version))
            .collect();
        let fallback = of_vendor.first().map(|in_force| &in_force.policy);
        Error::PolicyNotApproved(Box::new(policy::explain(
            &all,
            &ask_of(context, fallback, wanted, reference, &wallets),
        )))
    })
}

/// Not asking people comes before cheap.
fn rank(terms: &Terms) -> (bool, i64) {
    (
        terms.approval != GrantApproval::None,
        terms.price.map_or(0, Money::atomic),
    )
}

fn ask<'a>(
    context: &'a Context,
    policy: &Policy,
    wanted: &Wanted<'a>,
    reference: &'a Reference,
    wallets: &'a [String],
) -> Ask<'a> {
    ask_of(context, Some(policy), wanted, reference, wallets)
}

fn ask_of<'a>(
    context: &'a Context,
    policy: Option<&Policy>,
    wanted: &Wanted<'a>,
    reference: &'a Reference,
    wallets: &'a [String],
) -> Ask<'a> {
    let principal = context.caller.principal();
    Ask {
        kind: principal.map_or(PrincipalKind::Agent, |principal| principal.kind),
        name: principal.map(|principal| &principal.name),
        known: principal.is_some(),
        wallets,
        vendor: &reference.vendor,
        scope: &reference.scope,
        ttl: wanted
            .ttl
            .or_else(|| policy.map(|policy| policy.grant.max_ttl))
            .unwrap_or(SHORT),
        max_resolves: wanted
            .max_resolves
            .or_else(|| policy.map(|policy| policy.grant.max_resolves))
            .unwrap_or(1),
        audience: wanted.audience,
    }
}

impl Deal {
    const fn none() -> Self {
        Self {
            items: Vec::new(),
            lives: Vec::new(),
            ttl: Ttl::from_millis(i64::MAX),
            max_resolves: i64::MAX,
            price: None,
            approvals: Vec::new(),
            settle_first: false,
            paid_per_day: None,
            grants: Vec::new(),
            prices: Vec::new(),
        }
    }

    /// What all of it costs. The items share the resolves, so these are paid once, at the price of the dearest.
    fn cost(&mut self) {
        let priced = || {
            let both = self.items.iter().zip(&self.prices);
            both.filter_map(|(item, price)| Some((item, price.as_ref()?)))
        };
        let items = priced().fold(0_i64, |sum, (item, price)| {
            sum.saturating_add(price.item(&item.scopes, self.ttl))
        });
        let dearest = priced().map(|(_, price)| price.resolves(self.max_resolves)).max();
        self.price = dearest.map(|resolves| Money::new(items.saturating_add(resolves), Currency::Usdc));
    }

    async fn ask_vendors(&mut self, app: &App) -> Result<(), Error> {
        for item in &self.items {
            let (manifest, _) = app.manifest(&item.vendor).await?;
            self.settle_first |= manifest.settles_first();
        }
        Ok(())
    }

    /// The policies whose price it is, each `name@version`.
    pub(super) fn priced_by(&self) -> Vec<String> {
        let both = self.items.iter().zip(&self.prices);
        let priced = both.filter(|(_, price)| price.is_some());
        priced
            .map(|(item, _)| format!("{}@{}", item.policy, item.policy_version))
            .collect()
    }

    /// Whether people may have to decide some of it.
    pub(super) fn may_ask(&self) -> bool {
        self.approvals.iter().any(|approval| *approval != GrantApproval::None)
    }

    fn add(&mut self, in_force: &InForce, terms: &Terms, reference: &Reference) {
        self.ttl = self.ttl.min(terms.ttl);
        self.max_resolves = self.max_resolves.min(terms.max_resolves);
        let version = &in_force.version;
        let same = |item: &&mut GrantItem| item.policy == version.name && item.vendor == reference.vendor;
        if let Some(item) = self.items.iter_mut().find(same) {
            if !item.scopes.contains(&reference.scope) {
                item.scopes.push(reference.scope.clone());
            }
            return;
        }
        self.items.push(GrantItem {
            vendor: reference.vendor.clone(),
            scopes: vec![reference.scope.clone()],
            policy: version.name.clone(),
            policy_version: version.version,
            policy_digest: version.digest(),
        });
        self.lives.push(terms.max_lease);
        self.approvals.push(terms.approval);
        self.prices.push(in_force.policy.price.clone());
        let often = in_force.policy.limits.grants;
        self.grants.extend(often.map(|rate| (version.name.clone(), rate)));
        let limit = in_force.policy.limits.paid_per_day;
        let limit = limit.map(|limit| (limit, version.name.clone()));
        self.paid_per_day = smaller(self.paid_per_day.take(), limit);
    }
}

fn smaller(one: Option<(Money, Name)>, other: Option<(Money, Name)>) -> Option<(Money, Name)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0.atomic() < one.0.atomic() { other } else { one }),
        (one, other) => one.or(other),
    }
}
