//! What a 402 asks for, and whether a payment that came answers it.

use super::App;
use super::buy::Presented;
use super::error::Error;
use super::offer::Deal;
use crate::base::id::GrantId;
use crate::base::money::Money;
use crate::payment::{self, Offered, PaymentError, Required, Resource, Terms};

/// A price, in this server's terms.
pub(super) struct Demand<'a> {
    terms: &'a Terms,
    price: Money,
    resource: Resource,
    /// What people have approved, if this pays for it.
    grant: Option<GrantId>,
}

impl<'a> Demand<'a> {
    /// # Errors
    /// [`Error::Conflict`] where nothing can be paid.
    pub(super) fn new(app: &'a App, deal: &Deal, price: Money, grant: Option<GrantId>) -> Result<Self, Error> {
        let (_, terms) = app
            .rail
            .as_ref()
            .ok_or_else(|| Error::Conflict("this instance takes no payments".to_owned()))?;
        Ok(Self {
            terms,
            price,
            resource: Resource {
                url: format!("{}/v1/grants", app.public_url),
                description: words(deal, price, &terms.network),
            },
            grant,
        })
    }

    /// The 402, with the reason why a payment before was refused, if there was one.
    pub(super) fn required(&self, error: Option<&str>) -> Required {
        payment::required(self.terms, self.price, &self.resource, error)
    }

    /// Nothing was paid yet.
    pub(super) fn unpaid(&self) -> Error {
        Error::PaymentRequired {
            required: Box::new(self.required(None)),
            words: self.resource.description.clone(),
            grant: self.grant,
        }
    }

    /// Reads the payment and checks all that can be checked without the rail.
    ///
    /// # Errors
    /// [`Error::PaymentRequired`] when there is none; [`Error::Invalid`], [`Error::PaymentInvalid`].
    pub(super) fn read(&self, app: &App, presented: &Presented) -> Result<Offered, Error> {
        if presented.payment.is_empty() {
            return Err(self.unpaid());
        }
        read(app, self.terms, self.price, presented).map_err(|error| match error {
            broken if broken.is_malformed() => Error::invalid("/payment-signature", broken),
            other => Error::PaymentInvalid {
                reason: other.to_string(),
                required: Box::new(self.required(Some(other.reason()))),
                response: None,
            },
        })
    }
}

/// The payment that was presented, if it pays `price`.
pub(super) fn read(app: &App, terms: &Terms, price: Money, presented: &Presented) -> Result<Offered, PaymentError> {
    let headers: Vec<&str> = presented.payment.iter().map(String::as_str).collect();
    payment::read(&headers, terms, price, app.now())
}

fn words(deal: &Deal, price: Money, network: &str) -> String {
    let what: Vec<String> = deal
        .items
        .iter()
        .flat_map(|item| item.scopes.iter().map(|scope| format!("{}/{scope}", item.vendor)))
        .collect();
    format!("{} for {} costs {price} on {network}.", what.join(", "), deal.ttl)
}
