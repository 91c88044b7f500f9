//! How `grant create` goes on until it knows the outcome: what a price asks for is paid once, and an answer that was
//! lost is asked for again with the very same payment, never with another.

use data_encoding::BASE64;
use serde_json::Value;

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::grant::CreateArgs;
use super::hook;
use crate::base::id::base64url;
use crate::base::money::{Currency, Money};
use crate::base::random;
use crate::base::time::{Timestamp, Ttl};
use crate::client::{ClientError, Refused, Reply, Request, secret};

/// Networks where money is not real. Others are not paid on from a command line.
const TEST_NETWORKS: &[&str] = &["eip155:84532"];

/// How long a payment whose outcome is not known is asked about, if nothing else was said.
const PATIENCE: Ttl = Ttl::from_secs(30);

/// How often a connection that breaks is tried again with the same payment.
const TRIES: u8 = 4;

/// One purchase under way.
struct Purchase<'a> {
    args: &'a CreateArgs,
    body: &'a Value,
    idempotency_key: String,
    payment: Option<String>,
    broken: u8,
    until: Timestamp,
    told: bool,
}

/// Asks for a grant until the outcome is known or the time is over.
pub(crate) async fn buy(args: &CreateArgs, body: &Value, context: &mut Context<'_>) -> Result<Reply, Failure> {
    let client = context.client()?;
    let fresh = || base64url(&random::bytes::<18>(context.world.random.as_ref()));
    let mut purchase = Purchase {
        args,
        body,
        idempotency_key: args.idempotency_key.clone().unwrap_or_else(fresh),
        payment: None,
        broken: 0,
        until: context.now().plus(args.wait.unwrap_or_default()),
        told: false,
    };
    loop {
        match context.exchange(&client, &purchase.request()).await? {
            Err(error) => purchase.after_break(error, context).await?,
            Ok(reply) => {
                let demand = reply.header("payment-required").map(str::to_owned);
                match client.check(reply) {
                    Ok(reply) => return Ok(reply),
                    Err(ClientError::Refused(refused)) => {
                        purchase.after_refusal(*refused, demand.as_deref(), context).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

impl Purchase<'_> {
    fn request(&self) -> Request {
        let request = Request::post(&["v1", "grants"])
            .json(self.body)
            .header("idempotency-key", &self.idempotency_key);
        match &self.payment {
            Some(payment) => request.header("payment-signature", payment),
            None => request,
        }
    }

    /// Without a payment nothing can be lost by giving up; with one, the same request is sent again.
    async fn after_break(&mut self, error: ClientError, context: &mut Context<'_>) -> Result<(), Failure> {
        self.broken = self.broken.saturating_add(1);
        if self.payment.is_none() || self.broken > TRIES || !matches!(error, ClientError::Lost(_)) {
            return Err(self.unsure(error.into()));
        }
        context.say("the answer was lost; asking again with the same payment")?;
        self.pause(context, None).await;
        Ok(())
    }

    /// Pays, waits, or gives up.
    async fn after_refusal(
        &mut self,
        refused: Refused,
        demand: Option<&str>,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        match refused.code.as_str() {
            "payment_required" if self.payment.is_none() && self.args.pay_key_file.is_some() => {
                self.payment = Some(self.pay(demand, context)?);
                let patience = context.now().plus(self.args.wait.unwrap_or(PATIENCE));
                self.until = self.until.max(patience);
                Ok(())
            }
            "approval_pending" | "payment_unknown" | "idempotency_running" | "request_timeout" if context.now() < self.until => {
                if !self.told {
                    self.told = true;
                    context.say(&format!("{}; waiting", refused.title))?;
                }
                self.pause(context, refused.retry_after).await;
                Ok(())
            }
            "approval_pending" => {
                let wait = "wait for it: the same command with --wait 1h and --idempotency-key";
                let key = self.idempotency_key.clone();
                Err(Failure::from(refused).or_fix("approval_pending", || format!("{wait} {key}")))
            }
            "payment_required" => Err(Failure::from(refused).or_fix("payment_required", || {
                "pay on a test network: --pay-key-file FILE --max-price AMOUNT; else with an x402 wallet of your own".to_owned()
            })),
            "payment_unknown" => Err(self.unsure(refused.into())),
            _ => Err(refused.into()),
        }
    }

    /// What to say when money may have moved.
    fn unsure(&self, failure: Failure) -> Failure {
        if self.payment.is_none() {
            return failure;
        }
        failure.because("DO NOT pay again before you know: look with dekeys grant ls.")
    }

    async fn pause(&self, context: &Context<'_>, seconds: Option<u64>) {
        let asked = seconds.map(std::time::Duration::from_secs);
        let left = self.until.since(context.now()).to_std();
        let pause = asked.unwrap_or(context.world.pace).max(context.world.pace);
        context.pause("waiting", pause.min(left.max(context.world.pace))).await;
    }

    /// Signs a payment for what the 402 asks, on a test network only and within what the person allowed.
    fn pay(&self, demand: Option<&str>, context: &mut Context<'_>) -> Result<String, Failure> {
        let required = read_demand(demand).ok_or_else(|| {
            let fix = "check the address: --addr";
            Failure::new("not_dekeys", exit::FAILED, "the demand for payment cannot be read", fix)
        })?;
        let (required, price) = on_test_networks(required)?;
        match self.args.max_price {
            Some(most) if most.currency() == price.currency() && price.atomic() <= most.atomic() => {}
            Some(most) => {
                let what = format!("the price is {price}, more than {most}");
                let fix = format!("allow it: --max-price \"{price}\"");
                let failure = Failure::new("price_too_high", exit::PAYMENT, what, fix);
                return Err(failure.because("Nothing was paid."));
            }
            None => context.confirm(&format!("Pay {price} (test money)?"))?,
        }
        let path = self
            .args
            .pay_key_file
            .as_deref()
            .unwrap_or_else(|| std::path::Path::new(""));
        let wallet = secret::wallet_key(path)?;
        let signer = match context.globals.key_file {
            Some(_) => Some(context.key()?.public()),
            None => None,
        };
        hook::pay(
            &wallet,
            &required,
            price,
            (self.body, signer),
            context.now(),
            context.world.random.as_ref(),
        )
    }
}

/// `PAYMENT-REQUIRED`: base64 of JSON.
fn read_demand(demand: Option<&str>) -> Option<Value> {
    let bytes = BASE64.decode(demand?.as_bytes()).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The demand with what is offered on test networks alone, and the price of the first of it.
fn on_test_networks(mut required: Value) -> Result<(Value, Money), Failure> {
    let refused = |what: &str| {
        let fix = "pay with an x402 wallet of your own: send its PAYMENT-SIGNATURE to POST /v1/grants";
        Failure::new("payment_required", exit::PAYMENT, what, fix).because("Nothing was paid.")
    };
    let on_test = |offer: &Value| {
        let network = offer.get("network").and_then(Value::as_str).unwrap_or_default();
        TEST_NETWORKS.contains(&network)
    };
    let accepts = required.get_mut("accepts").and_then(Value::as_array_mut);
    let accepts = accepts.ok_or_else(|| refused("the demand for payment offers no way to pay"))?;
    accepts.retain(on_test);
    let first = accepts.first();
    let first = first.ok_or_else(|| refused("this is paid with real money, which a command line does not spend"))?;
    let amount = first
        .get("amount")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<i64>().ok());
    let amount = amount
        .filter(|amount| *amount > 0)
        .ok_or_else(|| refused("the price cannot be read"))?;
    accepts.truncate(1);
    Ok((required, Money::new(amount, Currency::Usdc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_test_networks_are_paid_on() {
        let offer = |network: &str, amount: &str| json!({ "network": network, "amount": amount });
        let both = json!({ "accepts": [offer("eip155:8453", "1"), offer("eip155:84532", "10000"), offer("eip155:84532", "1")] });
        let (left, price) = on_test_networks(both).unwrap();
        assert_eq!(price, "0.01 USDC".parse().unwrap());
        assert_eq!(left["accepts"], json!([offer("eip155:84532", "10000")]));
        for none in [
            json!({}),
            json!({ "accepts": [] }),
            json!({ "accepts": [offer("eip155:8453", "1")] }),
            json!({ "accepts": [offer("eip155:84532", "-1")] }),
        ] {
            assert_eq!(on_test_networks(none).unwrap_err().exit(), exit::PAYMENT);
        }
    }
}
