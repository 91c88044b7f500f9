//! The rail over HTTP: a facilitator verifies and settles (x402 version 2, `/verify` and `/settle`), the chain says what
//! became of it. Answers are read from bodies, not from status codes: facilitators disagree about these. What is neither
//! a clear yes nor a clear no is unknown.
//!
//! With a chain to ask, nobody is believed about money: a settlement counts when its transfer is in a block, and a
//! refusal when no transfer is; and what its chain takes back, in a reorganisation, is settled again. Not protected:
//! without a chain the facilitator's word is taken.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use serde::Deserialize;
use url::Url;

use super::chain::{Chain, Seen, Wanted};
use super::exact::Offered;
use super::facilitator_key::FacilitatorKey;
use super::rail::{Answer, Find, PaymentRail, Settle, Verify};
use crate::base::egress::{Egress, Outgoing};
use crate::base::random::Random;
use crate::base::time::{Clock, Timestamp};
use crate::model::payment::Purchase;

/// How long a verification may take.
const VERIFY: Duration = Duration::from_secs(15);

/// How long a settlement may take: facilitators wait for the block, up to 30 s. Below what a purchase waits (45 s).
const SETTLE: Duration = Duration::from_secs(40);

/// The longest answer that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// A facilitator, and the chain it settles on.
pub struct HttpRail {
    egress: Egress,
    address: Url,
    key: FacilitatorKey,
    chain: Option<Chain>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// An answer to `/verify` (x402 version 2, 7.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    is_valid: bool,
    invalid_reason: Option<String>,
    payer: Option<String>,
}

/// An answer to `/settle` (x402 version 2, 7.2). Some facilitators write `error_reason`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settled {
    success: bool,
    #[serde(alias = "error_reason")]
    error_reason: Option<String>,
    transaction: Option<String>,
}

impl HttpRail {
    /// The facilitator at `address`, known to it by `key`. `chain` is asked what became of payments.
    #[must_use]
    pub fn new(
        egress: Egress,
        address: Url,
        key: FacilitatorKey,
        chain: Option<Chain>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            egress,
            address,
            key,
            chain,
            clock,
            random,
        }
    }

    /// Sends a payment; answers status and body.
    async fn post(&self, verb: &str, payload: &str, timeout: Duration) -> Result<(u16, Vec<u8>), String> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| "the facilitator's address has no path".to_owned())?
            .pop_if_empty()
            .push(verb);
        let proof = self.key.header(&url, self.clock.now(), self.random.as_ref());
        let mut outgoing = Outgoing::new(Method::POST, url);
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        outgoing.headers = [json].into_iter().chain(proof).collect();
        outgoing.body = payload.as_bytes().to_vec();
        outgoing.timeout = timeout;
        outgoing.max_body = LONGEST;
        let mut incoming = self.egress.send(outgoing).await.map_err(|error| error.to_string())?;
        Ok((incoming.status, std::mem::take(&mut incoming.body)))
    }

    async fn settle_with(&self, payload: &str) -> Settle {
        let (status, body) = match self.post("settle", payload, SETTLE).await {
            Ok(answer) => answer,
            Err(trouble) => return Settle::Unknown(format!("the facilitator: {trouble}")),
        };
        match serde_json::from_slice::<Settled>(&body) {
            Ok(settled) => judge(status, settled),
            Err(_) => Settle::Unknown(format!("the facilitator answered {status} without an outcome")),
        }
    }

    /// What is said is held against the chain.
    async fn confirmed(&self, said: Settle, wanted: &Wanted) -> Settle {
        let Some(chain) = &self.chain else {
            return said;
        };
        match said {
            Settle::Done { transaction } => match chain.holds(&transaction, wanted).await {
                Ok(true) => Settle::Done { transaction },
                Ok(false) => Settle::Unknown("called settled, and not in a block of the chain".to_owned()),
                Err(trouble) => Settle::Unknown(trouble),
            },
            Settle::Refused(reason) => match chain.look(wanted).await {
                Ok(Seen::Transferred(transaction)) => Settle::Done { transaction },
                Ok(_) => Settle::Refused(reason),
                Err(trouble) => Settle::Unknown(trouble),
            },
            unknown @ Settle::Unknown(_) => unknown,
        }
    }

    /// What is settled is in a block, or it is settled again: the same authorization moves its money at most once, so a
    /// node that is behind costs nothing.
    async fn still_settled(&self, purchase: &Purchase) -> Find {
        let Some(chain) = &self.chain else {
            let transaction = purchase.transaction.clone().unwrap_or_default();
            return Find::Settled { transaction };
        };
        match chain.look(&Wanted::of(purchase)).await {
            Ok(Seen::Transferred(transaction)) => Find::Settled { transaction },
            Ok(Seen::Spent | Seen::Over) => Find::NotSettled,
            Ok(Seen::Nothing) => {
                let _looked_for = self.settle_with(&purchase.payload).await;
                Find::Unknown("no block has it any more; it was ordered again".to_owned())
            }
            Err(trouble) => Find::Unknown(trouble),
        }
    }

    async fn found(&self, purchase: &Purchase, now: Timestamp) -> Find {
        let Some(chain) = &self.chain else {
            return self.asked_again(purchase, now).await;
        };
        match chain.look(&Wanted::of(purchase)).await {
            Ok(Seen::Transferred(transaction)) => Find::Settled { transaction },
            Ok(Seen::Spent | Seen::Over) => Find::NotSettled,
            Ok(Seen::Nothing) => Find::Unknown("no block has it yet".to_owned()),
            Err(trouble) => Find::Unknown(trouble),
        }
    }

    /// Without a chain: the same authorization is settled again, which moves its money at most once. A refusal does not
    /// tell a used authorization from one that never moved, so it stays unknown, and people decide.
    async fn asked_again(&self, purchase: &Purchase, now: Timestamp) -> Find {
        if now >= purchase.valid_before {
            return Find::Unknown(
                "the authorization is over, and no chain can be asked: people must decide".to_owned(),
            );
        }
        match self.settle_with(&purchase.payload).await {
            Settle::Done { transaction } => Find::Settled { transaction },
            Settle::Refused(reason) => Find::Unknown(format!("asked again, the facilitator says {reason}")),
            Settle::Unknown(trouble) => Find::Unknown(trouble),
        }
    }
}

/// A clear yes has a transaction; a clear no has none, and is neither the server's failure nor still under way.
fn judge(status: u16, settled: Settled) -> Settle {
    let transaction = settled.transaction.unwrap_or_default();
    let reason = settled
        .error_reason
        .unwrap_or_else(|| "unexpected_settle_error".to_owned());
    match (settled.success, transaction.is_empty()) {
        (true, false) => Settle::Done { transaction },
        (true, true) => Settle::Unknown("called settled without a transaction".to_owned()),
        (false, true) if status < 500 && status != 202 && reason != "settlement_pending" => {
            Settle::Refused(cut(&reason))
        }
        (false, _) => Settle::Unknown(format!("the facilitator answered {status}: {}", cut(&reason))),
    }
}

/// A facilitator's word in what people read: short, and without control characters.
fn cut(reason: &str) -> String {
    let plain = |char: &char| char.is_ascii_graphic() || *char == ' ';
    reason.chars().filter(plain).take(100).collect()
}

impl PaymentRail for HttpRail {
    fn verify<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Verify> {
        Box::pin(async move {
            let (status, body) = match self.post("verify", &offered.payload, VERIFY).await {
                Ok(answer) => answer,
                Err(trouble) => return Verify::Unknown(format!("the facilitator: {trouble}")),
            };
            match serde_json::from_slice::<Verified>(&body) {
                Ok(Verified {
                    is_valid: true, payer, ..
                }) => Verify::Valid {
                    // Who paid was checked by the signature; a facilitator that names another is not believed.
                    payer: payer.map_or_else(|| offered.payer.clone(), |payer| payer.to_ascii_lowercase()),
                },
                Ok(verified) => {
                    let reason = verified.invalid_reason;
                    Verify::Invalid(cut(reason.as_deref().unwrap_or("unexpected_verify_error")))
                }
                Err(_) => Verify::Unknown(format!("the facilitator answered {status} without a verdict")),
            }
        })
    }

    fn settle<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Settle> {
        Box::pin(async move {
            let said = self.settle_with(&offered.payload).await;
            self.confirmed(said, &Wanted::now(offered, self.clock.now())).await
        })
    }

    fn find<'a>(&'a self, purchase: &'a Purchase, now: Timestamp) -> Answer<'a, Find> {
        Box::pin(self.found(purchase, now))
    }

    fn moved<'a>(&'a self, purchase: &'a Purchase, now: Timestamp) -> Answer<'a, Find> {
        if self.chain.is_none() {
            return Box::pin(async { Find::NotSettled });
        }
        Box::pin(self.found(purchase, now))
    }

    fn may_take_back(&self) -> bool {
        self.chain.is_some()
    }

    fn confirm<'a>(&'a self, purchase: &'a Purchase) -> Answer<'a, Find> {
        Box::pin(self.still_settled(purchase))
    }

    fn name(&self) -> &'static str {
        "http"
    }

    fn simulated(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Settle {
        judge(status, serde_json::from_str(body).unwrap())
    }

    #[test]
    fn only_a_clear_word_counts() {
        let done = Settle::Done {
            transaction: "0xab".to_owned(),
        };
        assert_eq!(
            judged(200, r#"{"success":true,"transaction":"0xab","payer":"0x1"}"#),
            done
        );
        assert_eq!(judged(500, r#"{"success":true,"transaction":"0xab"}"#), done);
        let refused = Settle::Refused("insufficient_funds".to_owned());
        for body in [
            r#"{"success":false,"errorReason":"insufficient_funds","transaction":""}"#,
            r#"{"success":false,"error_reason":"insufficient_funds"}"#,
        ] {
            assert_eq!(judged(200, body), refused, "{body}");
            assert_eq!(judged(400, body), refused, "{body}");
            assert!(matches!(judged(500, body), Settle::Unknown(_)), "{body}");
            assert!(matches!(judged(202, body), Settle::Unknown(_)), "{body}");
        }
        for body in [
            r#"{"success":true}"#,
            r#"{"success":false,"errorReason":"settlement_pending","transaction":"0xab"}"#,
            r#"{"success":false,"errorReason":"settlement_pending"}"#,
            r#"{"success":false,"errorReason":"timeout","transaction":"0xab"}"#,
        ] {
            assert!(matches!(judged(200, body), Settle::Unknown(_)), "{body}");
        }
    }
}
