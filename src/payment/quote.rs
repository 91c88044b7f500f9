//! What a 402 asks for, and what the answer to a payment says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::sign_in::SIGN_IN_WITH_X;
use super::signed_quote::{self, OFFER_RECEIPT};
use super::terms::Terms;
use crate::base::money::Money;

/// What is sold: a line for the payer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The address the payment goes to, absolute.
    pub url: String,
    /// What it is, in a sentence; at most 120 bytes are sent.
    pub description: String,
}

/// A demand for payment, x402 `PaymentRequired` version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// The JSON, for the answer's body.
    pub body: Value,
    /// The same in base64, for the header `PAYMENT-REQUIRED`. Kept below 2.9 kB: longer ones get lost on the way.
    pub header: String,
}

/// What a demand says beside its price.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The signed quote.
    pub quote: Option<String>,
    /// What a wallet is to sign that paid before ([`super::challenge`]). Left out where the header has no room for it.
    pub sign_in: Option<Value>,
}

/// The longest header that facilitators and catalogues are known to take.
const LONGEST: usize = 2900;

/// Asks for `price` under `terms`. `error` is the reason a payment before was refused, if there was one.
#[must_use]
pub fn required(terms: &Terms, price: Money, resource: &Resource, error: Option<&str>, extras: &Extras) -> Required {
    let example = json!({ "reference": "dk://openai/chat:write", "ttl": "15m" });
    let mut body = json!({
        "x402Version": 2,
        "error": shortened(error.unwrap_or("PAYMENT-SIGNATURE header is required")),
        "resource": {
            "url": resource.url,
            "description": shortened(&resource.description),
            "mimeType": "application/json",
        },
        "accepts": [requirements(terms, price)],
        "extensions": { "payment-identifier": payment_identifier(), "bazaar": bazaar(&example) },
    });
    if let (Some(quote), Some(extensions)) = (&extras.quote, extensions(&mut body)) {
        extensions.insert(OFFER_RECEIPT.to_owned(), signed_quote::offer(quote));
    }
    in_room(body, extras.sign_in.as_ref())
}

/// The demand with as much of what is only good to have as a header has room for: the challenge goes first, then what
/// catalogues show, which they find at `/discovery/resources` too.
fn in_room(mut body: Value, sign_in: Option<&Value>) -> Required {
    let bare = body.clone();
    if let (Some(challenge), Some(extensions)) = (sign_in, extensions(&mut body)) {
        extensions.insert(SIGN_IN_WITH_X.to_owned(), challenge.clone());
    }
    for body in [body, bare.clone()] {
        let header = encode(&body);
        if header.len() < LONGEST {
            return Required { body, header };
        }
    }
    let mut body = bare;
    if let Some(extensions) = extensions(&mut body) {
        extensions.remove("bazaar");
    }
    let header = encode(&body);
    Required { body, header }
}

fn extensions(body: &mut Value) -> Option<&mut Map<String, Value>> {
    body.get_mut("extensions").and_then(Value::as_object_mut)
}

/// How `price` is paid under `terms`: x402 `PaymentRequirements` version 2.
#[must_use]
pub fn requirements(terms: &Terms, price: Money) -> Value {
    json!({
        "scheme": "exact",
        "network": terms.network,
        "amount": price.atomic().to_string(),
        "asset": terms.asset,
        "payTo": terms.pay_to,
        "maxTimeoutSeconds": terms.max_timeout.as_secs(),
        "extra": { "name": terms.asset_name, "version": terms.asset_version },
    })
}

/// What became of a payment, for its payer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Settled.
    Settled {
        /// The transaction's hash.
        transaction: &'a str,
        /// The signed receipt.
        receipt: Option<&'a str>,
    },
    /// Nothing was charged.
    Refused {
        /// An x402 reason, such as `insufficient_funds`.
        reason: &'a str,
    },
}

/// The header `PAYMENT-RESPONSE`: x402 `SettleResponse` in base64. There is none while the outcome is unknown.
#[must_use]
pub fn response(outcome: Outcome<'_>, network: &str, payer: &str) -> String {
    encode(&match outcome {
        Outcome::Settled { transaction, receipt } => {
            let mut settled =
                json!({ "success": true, "transaction": transaction, "network": network, "payer": payer });
            if let (Some(receipt), Some(fields)) = (receipt, settled.as_object_mut()) {
                fields.insert("extensions".to_owned(), signed_quote::receipt(receipt));
            }
            settled
        }
        Outcome::Refused { reason } => json!({
            "success": false, "errorReason": reason, "transaction": "", "network": network, "payer": payer,
        }),
    })
}

fn encode(body: &Value) -> String {
    STANDARD.encode(body.to_string())
}

/// At most 120 bytes of JSON.
fn shortened(text: &str) -> String {
    let (mut short, mut bytes) = (String::new(), 0_usize);
    for char in text.chars().map(|char| if char.is_control() { ' ' } else { char }) {
        let escape = usize::from(matches!(char, '"' | '\\'));
        bytes = bytes.saturating_add(char.len_utf8()).saturating_add(escape);
        if bytes > 120 {
            break;
        }
        short.push(char);
    }
    short
}

/// Clients may send an id with their payment by which they repeat a request.
fn payment_identifier() -> Value {
    json!({
        "info": { "required": false },
        "schema": {
            "type": "object",
            "properties": {
                "required": { "type": "boolean" },
                "id": { "type": "string", "minLength": 16, "maxLength": 128 },
            },
            "required": ["required"],
        },
    })
}

/// What catalogues of paid resources show: how to ask, here with `body`, and what comes back. The full form is in the
/// `OpenAPI` document.
#[must_use]
pub fn bazaar(body: &Value) -> Value {
    json!({
        "info": {
            "input": {
                "type": "http",
                "method": "POST",
                "bodyType": "json",
                "body": body,
            },
            "output": { "type": "json", "example": { "id": "grt_…", "token": "dkt_…" } },
        },
        "schema": {
            "$schema": SCHEMA,
            "type": "object",
            "properties": { "input": { "type": "object" } },
            "required": ["input"],
        },
    })
}

const SCHEMA: &str = "https://json-schema.org/draft/2020-12/schema";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use x402_types::proto::v2;

    use super::*;
    use crate::base::money::Currency;

    fn ask(url: &str, description: &str, error: Option<&str>) -> Required {
        let terms = Terms::base_sepolia("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
        let resource = Resource {
            url: url.to_owned(),
            description: description.to_owned(),
        };
        let extras = Extras {
            quote: Some("q".repeat(900)),
            sign_in: Some(json!({ "info": "i".repeat(300) })),
        };
        required(&terms, Money::new(10_000, Currency::Usdc), &resource, error, &extras)
    }

    fn decoded(header: &str) -> Value {
        serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap()
    }

    #[test]
    fn asks_in_the_wire_types_of_another_implementation() {
        let asked = ask("https://broker.example/v1/grants", "openai/chat:write for 15m", None);
        assert_eq!(decoded(&asked.header), asked.body);
        let parsed: v2::PaymentRequired = serde_json::from_value(asked.body.clone()).unwrap();
        assert_eq!(parsed.accepts[0].amount, "10000");
        assert_eq!(parsed.accepts[0].max_timeout_seconds, 120);
        assert_eq!(parsed.resource.unwrap().url, "https://broker.example/v1/grants");
        assert_eq!(
            asked.body["extensions"]["payment-identifier"]["info"]["required"],
            false
        );
    }

    #[test]
    fn the_example_for_catalogues_fits_its_schema() {
        let bazaar = bazaar(&json!({ "reference": "dk://openai/chat:write" }));
        assert!(jsonschema::is_valid(&bazaar["schema"], &bazaar["info"]));
        let identifier = payment_identifier();
        assert!(jsonschema::is_valid(&identifier["schema"], &identifier["info"]));
    }

    #[test]
    fn an_answer_spells_its_reason_as_the_specification_does() {
        let refused = decoded(&response(
            Outcome::Refused {
                reason: "insufficient_funds",
            },
            "eip155:84532",
            "0xab",
        ));
        assert_eq!(refused["errorReason"], "insufficient_funds");
        assert_eq!(
            (&refused["success"], &refused["transaction"]),
            (&json!(false), &json!(""))
        );
        let settled = decoded(&response(
            Outcome::Settled {
                transaction: "0x74",
                receipt: Some("a.b.c"),
            },
            "eip155:84532",
            "0xab",
        ));
        assert_eq!(
            (&settled["success"], &settled["transaction"]),
            (&json!(true), &json!("0x74"))
        );
        assert!(settled.get("errorReason").is_none());
        let receipt = &settled["extensions"]["offer-receipt"]["info"]["receipt"];
        assert_eq!(receipt, &json!({ "format": "jws", "signature": "a.b.c" }));
    }

    proptest! {
        #[test]
        fn the_header_stays_short_whatever_is_said(description in ".{0,400}", error in ".{0,400}") {
            let url = format!("https://{}.example/v1/grants", "a".repeat(200));
            let asked = ask(&url, &description, Some(&error));
            prop_assert!(asked.header.len() < 2900, "{} bytes", asked.header.len());
        }
    }
}
