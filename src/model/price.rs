//! What a grant costs, by what is in it. All of it is paid before the grant comes into force, for the life and the
//! resolves that were asked for: whoever asks for less pays less.

use serde::{Deserialize, Serialize};

use super::scope::Scope;
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;

/// The prices of a policy, in USDC. At least one is set, none is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// For each grant item, whatever it is.
    pub amount: Option<Money>,
    /// For each resolve the grant may make.
    pub per_resolve: Option<Money>,
    /// For each minute of the grant's life that is begun. No lease outlives its grant.
    pub per_minute: Option<Money>,
    /// For each of these scopes, beside the others.
    pub scopes: Vec<(Scope, Money)>,
}

/// The prices of one offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct PriceParts {
    /// For each grant item.
    pub amount: Option<Money>,
    /// For this scope, beside it.
    pub scope: Option<Money>,
    /// For each resolve that is asked for.
    pub per_resolve: Option<Money>,
    /// For each minute that is asked for and begun.
    pub per_minute: Option<Money>,
}

impl Price {
    /// What one grant with these scopes, life and resolves costs.
    #[must_use]
    pub fn of(&self, scopes: &[Scope], life: Ttl, resolves: i64) -> Money {
        usdc(self.item(scopes, life).saturating_add(self.resolves(resolves)))
    }

    /// What an item costs without its resolves, in atomic units: several items share those.
    #[must_use]
    pub fn item(&self, scopes: &[Scope], life: Ttl) -> i64 {
        let each = scopes.iter().filter_map(|scope| self.scope(scope));
        let scopes = each.fold(0_i64, |sum, price| sum.saturating_add(price.atomic()));
        let time = times(self.per_minute, minutes(life));
        times(self.amount, 1).saturating_add(scopes).saturating_add(time)
    }

    /// What the whole minutes of a span cost, in atomic units.
    #[must_use]
    pub fn whole_minutes(&self, span: Ttl) -> i64 {
        times(self.per_minute, (span.as_secs() / 60).max(0))
    }

    /// What so many resolves cost, in atomic units.
    #[must_use]
    pub fn resolves(&self, count: i64) -> i64 {
        times(self.per_resolve, count)
    }

    /// The least that a grant of one of these scopes costs.
    #[must_use]
    pub fn least(&self, offered: &[Scope]) -> Money {
        let one = |scope: &Scope| self.of(std::slice::from_ref(scope), Ttl::from_secs(1), 1);
        let cheapest = offered.iter().map(one).min_by_key(|price| price.atomic());
        cheapest.unwrap_or_else(|| self.of(&[], Ttl::from_secs(1), 1))
    }

    /// Its parts, as they count for one scope.
    #[must_use]
    pub fn parts(&self, scope: &Scope) -> PriceParts {
        PriceParts {
            amount: self.amount,
            scope: self.scope(scope),
            per_resolve: self.per_resolve,
            per_minute: self.per_minute,
        }
    }

    fn scope(&self, wanted: &Scope) -> Option<Money> {
        let found = self.scopes.iter().find(|(scope, _)| scope == wanted);
        found.map(|(_, price)| *price)
    }
}

fn usdc(atomic: i64) -> Money {
    Money::new(atomic, Currency::Usdc)
}

fn times(price: Option<Money>, count: i64) -> i64 {
    price.map_or(0, |price| price.times(count).atomic())
}

/// Minutes that are begun.
fn minutes(life: Ttl) -> i64 {
    life.as_millis().saturating_add(59_999) / 60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> Price {
        Price {
            amount: "0.01 USDC".parse().ok(),
            per_resolve: "0.001 USDC".parse().ok(),
            per_minute: "0.0001 USDC".parse().ok(),
            scopes: vec![("chat:write".parse().unwrap(), "0.02 USDC".parse().unwrap())],
        }
    }

    #[test]
    fn each_part_counts_for_what_is_asked() {
        let read: Scope = "chat:read".parse().unwrap();
        let write: Scope = "chat:write".parse().unwrap();
        for (scopes, life, resolves, costs) in [
            (vec![read.clone()], Ttl::from_mins(10), 5, "0.016 USDC"),
            (vec![write.clone()], Ttl::from_mins(10), 5, "0.036 USDC"),
            (vec![read.clone(), write.clone()], Ttl::from_secs(61), 1, "0.0312 USDC"),
        ] {
            assert_eq!(price().of(&scopes, life, resolves).to_string(), costs);
        }
        assert_eq!(price().least(&[read, write]).to_string(), "0.0111 USDC");
    }

    #[test]
    fn more_than_there_is_money_stays_more() {
        let all = price().of(&[], Ttl::from_millis(i64::MAX), i64::MAX);
        assert_eq!(all.atomic(), i64::MAX);
    }
}
