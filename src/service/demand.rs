//! What a 402 asks for, and whether a payment that came answers it. The price is signed for five minutes: who pays it by
//! then has what the request asks for, whatever a policy asks meanwhile, if the policies then in force allow it at all.

use data_encoding::HEXLOWER;
use url::Url;

use super::App;
use super::buy::Presented;
use super::error::Error;
use super::offer::Deal;
use crate::audit;
use crate::base::id::GrantId;
use crate::base::money::Money;
use crate::base::random;
use crate::model::payment::Purchase;
use crate::payment::{self, Basis, Extras, Offered, Paid, PaidFor, PaymentError, Quote, Required, Resource, Terms};

/// A price, in this server's terms.
pub(super) struct Demand<'a> {
    app: &'a App,
    terms: &'a Terms,
    price: Money,
    basis: Basis,
    resource: Resource,
    /// What people have approved, if this pays for it.
    grant: Option<GrantId>,
}

impl<'a> Demand<'a> {
    /// # Errors
    /// [`Error::Conflict`] where nothing can be paid.
    pub(super) fn new(
        app: &'a App,
        deal: &Deal,
        price: Money,
        presented: &Presented,
        grant: Option<GrantId>,
    ) -> Result<Self, Error> {
        let (_, terms) = app
            .rail
            .as_ref()
            .ok_or_else(|| Error::Conflict("this instance takes no payments".to_owned()))?;
        let basis = Basis {
            policies: deal.priced_by(),
            request: payment::short(presented.request()),
        };
        Ok(Self {
            app,
            terms,
            price,
            resource: Resource {
                url: sold_at(app),
                description: words(deal, price, &terms.network),
            },
            basis,
            grant,
        })
    }

    /// The 402, with the reason why a payment before was refused, if there was one.
    pub(super) fn required(&self, error: Option<&str>) -> Required {
        let extras = Extras {
            quote: self.signed(),
            sign_in: self.challenge(),
        };
        payment::required(self.terms, self.price, &self.resource, error, &extras)
    }

    /// `None` while the vault is sealed; then nothing is sold either.
    fn signed(&self) -> Option<String> {
        let opened = self.app.opened().ok()?;
        let now = self.app.now();
        let quote = Quote::new(self.terms, self.price, &self.resource.url, self.basis.clone(), now);
        audit::state_as(
            &opened.log,
            payment::did(&opened.log.public().key()),
            payment::QUOTE,
            &quote,
        )
    }

    fn challenge(&self) -> Option<serde_json::Value> {
        let uri = Url::parse(&self.resource.url).ok()?;
        let nonce = HEXLOWER.encode(&random::bytes::<8>(self.app.random.as_ref()));
        Some(payment::challenge(self.terms, &uri, &nonce, self.app.now()))
    }

    /// Nothing was paid yet.
    pub(super) fn unpaid(&self) -> Error {
        Error::PaymentRequired {
            required: Box::new(self.required(None)),
            words: format!("{} The price is of {}.", self.resource.description, self.versions()),
            grant: self.grant,
        }
    }

    fn versions(&self) -> String {
        self.basis.policies.join(", ")
    }

    /// Reads the payment and checks all that can be checked without the rail. A quote that was given for this request
    /// and still stands is as good as the price now; not where people approved a price.
    ///
    /// # Errors
    /// [`Error::PaymentRequired`] when there is none; [`Error::Invalid`], [`Error::PaymentInvalid`].
    pub(super) fn read(&self, presented: &Presented) -> Result<Offered, Error> {
        if presented.payment.is_empty() {
            return Err(self.unpaid());
        }
        let read = match self.grant {
            Some(_) => exactly(self.app, self.terms, self.price, presented),
            None => read(self.app, self.terms, self.price, presented),
        };
        read.map_err(|error| match error {
            broken if broken.is_malformed() => Error::invalid("/payment-signature", broken),
            other => Error::PaymentInvalid {
                reason: match &other {
                    PaymentError::Amount { .. } => format!("{other}, by {}", self.versions()),
                    other => other.to_string(),
                },
                required: Box::new(self.required(Some(other.reason()))),
                response: None,
            },
        })
    }
}

/// Where grants are sold.
pub(super) fn sold_at(app: &App) -> String {
    format!("{}/v1/grants", app.public_url)
}

/// The payment that was presented, if it pays `price`, or what was quoted for the same request.
pub(super) fn read(app: &App, terms: &Terms, price: Money, presented: &Presented) -> Result<Offered, PaymentError> {
    let other = match exactly(app, terms, price, presented) {
        Err(other @ PaymentError::Amount { .. }) => other,
        read => return read,
    };
    match quoted(app, terms, presented) {
        Some(quoted) => exactly(app, terms, quoted, presented),
        None => Err(other),
    }
}

fn exactly(app: &App, terms: &Terms, price: Money, presented: &Presented) -> Result<Offered, PaymentError> {
    payment::read(&presented.headers(), terms, price, app.now())
}

/// What was quoted for this request, by a quote of ours that stands.
fn quoted(app: &App, terms: &Terms, presented: &Presented) -> Option<Money> {
    let opened = app.opened().ok()?;
    let request = presented.request();
    payment::unverified_quotes(&presented.headers())
        .iter()
        .find_map(|unverified| {
            let quote: Quote = audit::open_statement(unverified, payment::QUOTE, opened.log.public()).ok()?;
            quote.stands(terms, request, app.now())
        })
}

/// The signed receipt of a settled payment.
pub(super) fn receipt(app: &App, purchase: &Purchase, transaction: &str) -> Option<String> {
    let opened = app.opened().ok()?;
    let paid = Paid {
        dekeys: PaidFor { grant: purchase.grant },
        issued_at: app.now().as_secs(),
        network: purchase.network.clone(),
        payer: purchase.payer.clone(),
        resource_url: sold_at(app),
        transaction: transaction.to_owned(),
        version: 1,
    };
    audit::state_as(
        &opened.log,
        payment::did(&opened.log.public().key()),
        payment::RECEIPT,
        &paid,
    )
}

fn words(deal: &Deal, price: Money, network: &str) -> String {
    let what: Vec<String> = deal
        .items
        .iter()
        .flat_map(|item| item.scopes.iter().map(|scope| format!("{}/{scope}", item.vendor)))
        .collect();
    format!("{} for {} costs {price} on {network}.", what.join(", "), deal.ttl)
}
