//! The hostile payments of `own/x402.jsonl`: every id is tried here, without the file
//! too, or listed with the place that must try it.

use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{Address, Signature, U256};
use dekeys::base::money::{Currency, Money};
use dekeys::base::time::ManualClock;
use dekeys::payment::{Faults, Offered, PaymentError, PaymentRail, Settle, SimRail, Terms, Verify, read};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::wallet::{NOW, PRICE, Payment, Token, in_seconds, terms, token};

/// Not to be seen in the payment or at the simulated rail: the file and the test that try it.
const ELSEWHERE: [(&str, &str, &str); 22] = [
    (
        "x402-003",
        PAYMENTS,
        "one_payment_sent_fifty_times_at_once_settles_once",
    ),
    ("x402-004", STOLEN, "a_bound_payment_pays_for_one_request_of_one_signer"),
    ("x402-006", STOLEN, "a_wallet_on_record_pays_only_for_its_own_keys"),
    (
        "x402-038",
        PRICES,
        "what_was_quoted_stands_for_five_minutes_for_that_request_alone",
    ),
    (
        "x402-040",
        PRICES,
        "what_was_quoted_stands_for_five_minutes_for_that_request_alone",
    ),
    ("x402-049", "src/payment/facilitator.rs", "only_a_clear_word_counts"),
    (
        "x402-050",
        FACILITATOR,
        "money_that_did_not_move_gives_nothing_whatever_is_said",
    ),
    (
        "x402-051",
        FACILITATOR,
        "money_that_did_not_move_gives_nothing_whatever_is_said",
    ),
    (
        "x402-052",
        "src/payment/chain.rs",
        "only_the_transfer_of_this_authorization_counts",
    ),
    (
        "x402-055",
        "tests/it/hostile/tls.rs",
        "a_facilitator_that_does_not_prove_its_name_is_shown_no_payment",
    ),
    (
        "x402-056",
        "tests/it/egress.rs",
        "a_redirect_to_another_host_is_an_answer_and_the_key_stays",
    ),
    (
        "x402-057",
        CRASH,
        "money_that_moved_before_the_kill_gives_its_grant_once",
    ),
    (
        "x402-058",
        CRASH,
        "a_settlement_that_is_also_found_by_the_reconciler_gives_one_grant",
    ),
    (
        "x402-061",
        FACILITATOR,
        "money_that_did_not_move_gives_nothing_whatever_is_said",
    ),
    (
        "x402-063",
        FACILITATOR,
        "what_the_chain_takes_back_is_settled_again_or_ends_its_grant",
    ),
    (
        "x402-064",
        FACILITATOR,
        "money_that_did_not_move_gives_nothing_whatever_is_said",
    ),
    (
        "x402-065",
        PAYMENTS,
        "a_payment_identifier_is_paid_once_whatever_is_signed_for_it",
    ),
    // It is never required.
    (
        "x402-066",
        "src/payment/quote.rs",
        "asks_in_the_wire_types_of_another_implementation",
    ),
    // The ids of two payers are two: no conflict, and nothing of the other's.
    (
        "x402-067",
        PAYMENTS,
        "a_payment_identifier_is_paid_once_whatever_is_signed_for_it",
    ),
    (
        "x402-068",
        PRICES,
        "a_quote_and_a_receipt_are_signed_as_offer_receipt_has_them",
    ),
    (
        "x402-069",
        ALLOWANCE,
        "a_wallet_buys_so_often_and_the_next_time_is_not_charged",
    ),
    ("x402-070", PAYMENTS, "only_wallets_that_the_policy_names_may_buy"),
];
const PAYMENTS: &str = "tests/it/acceptance/payments.rs";
const STOLEN: &str = "tests/it/acceptance/stolen.rs";
const PRICES: &str = "tests/it/payment/prices.rs";
const ALLOWANCE: &str = "tests/it/payment/allowance.rs";
const FACILITATOR: &str = "tests/it/payment/facilitator.rs";
const CRASH: &str = "tests/crash/moments.rs";

/// Tried here.
const HERE: [&str; 35] = [
    "x402-000", "x402-002", "x402-008", "x402-009", "x402-010", "x402-012", "x402-013", "x402-014", "x402-015",
    "x402-016", "x402-017", "x402-018", "x402-019", "x402-020", "x402-023", "x402-024", "x402-025", "x402-026",
    "x402-029", "x402-030", "x402-031", "x402-032", "x402-033", "x402-034", "x402-036", "x402-037", "x402-039",
    "x402-042", "x402-043", "x402-044", "x402-046", "x402-047", "x402-048", "x402-053", "x402-062",
];

#[test]
fn what_is_tried_elsewhere_is_there() {
    for (id, file, name) in ELSEWHERE {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "{id}: no `{name}` in {file}");
    }
}

#[tokio::test]
async fn every_hostile_payment_is_refused() {
    for id in HERE {
        assert!(
            try_payment(id) || try_spelling(id) || try_rail(id).await,
            "{id} is not tried"
        );
    }
}

#[test]
fn no_hostile_payment_is_forgotten() {
    let Some(folder) = crate::skip::folder("DEKEYS_VECTORS", "whether no hostile payment is forgotten") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("own/x402.jsonl")).unwrap();
    let mut cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    cases.retain(|case| {
        let listed = |id: &str| case["id"] == id;
        let (here, elsewhere) = (
            HERE.into_iter().any(listed),
            ELSEWHERE.iter().any(|(id, ..)| listed(id)),
        );
        assert!(!(here && elsewhere), "{case}");
        !here && !elsewhere
    });
    assert_eq!(cases, Vec::<Value>::new());
}

/// Payments whose JSON says something wrong. False when the id is not one of them.
fn try_payment(id: &str) -> bool {
    const VALUE: &str = "/payload/authorization/value";
    const AFTER: &str = "/payload/authorization/validAfter";
    const BEFORE: &str = "/payload/authorization/validBefore";
    const OTHER: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
    let good = Payment::good;
    let zero = Address::ZERO.to_string();
    let hostile = match id {
        "x402-012" => values(&json!("9999")),
        "x402-013" => values(&json!("10001")),
        "x402-014" => values(&json!("0")),
        "x402-015" => values(&json!("-10000")),
        "x402-016" => values(&json!(format!("{}6", U256::MAX / U256::from(10)))),
        "x402-017" => values(&json!("1e4")),
        "x402-018" => values(&json!("0x2710")),
        "x402-019" => values(&json!(" 10000")),
        "x402-020" => vec![good().with(VALUE, 10000.0), good().with(VALUE, 10000)],
        "x402-023" => {
            let contract = Address::ZERO;
            let payment = good().with("/accepted/asset", zero);
            vec![payment.clone().signed(&Token { contract, ..token() }), payment]
        }
        "x402-024" => vec![
            good()
                .with("/accepted/payTo", OTHER)
                .with("/payload/authorization/to", OTHER),
            good().with("/accepted/payTo", OTHER),
        ],
        "x402-025" => vec![good().with("/payload/authorization/to", OTHER)],
        "x402-029" => vec![
            good().signed(&Token {
                name: "USD Coin",
                ..token()
            }),
            good().signed(&Token {
                version: "1",
                ..token()
            }),
            good().with("/accepted/extra/name", "USD Coin"),
            good().with("/accepted/extra/version", 2),
        ],
        "x402-030" => vec![good().signed(&Token {
            contract: OTHER.parse().unwrap(),
            ..token()
        })],
        "x402-031" => vec![good().with("/accepted/scheme", "upto")],
        "x402-032" => vec![
            good().with("/x402Version", 3),
            good().with("/x402Version", 1),
            good().with("/x402Version", "2"),
        ],
        "x402-033" => vec![good().with(AFTER, in_seconds(60).as_secs().to_string())],
        "x402-034" => [0, -1, 29]
            .map(|left| good().with(BEFORE, in_seconds(left).as_secs().to_string()))
            .to_vec(),
        "x402-036" => [181, 10 * 365 * 86_400, i64::MAX / 1000]
            .map(|left| good().with(BEFORE, (NOW.as_secs() + left).to_string()))
            .to_vec(),
        _ => return false,
    };
    for payment in hostile {
        assert!(payment.offer().is_err(), "{id}: {}", payment.json);
    }
    true
}

/// The value alone, and together with the amount that was asked for.
fn values(value: &Value) -> Vec<Payment> {
    let one = Payment::good().with("/payload/authorization/value", value.clone());
    vec![
        one.clone(),
        one.with("/accepted/amount", value.clone()),
        Payment::good().with("/accepted/amount", value.clone()),
    ]
}

/// Payments that are wrong as a header, in their signature, or for these terms, this price or this time.
fn try_spelling(id: &str) -> bool {
    let header = Payment::good().header();
    match id {
        "x402-000" => assert_eq!(Payment::good().offer().unwrap().amount, 10_000),
        "x402-008" => refuse_signatures(&[malleated(Payment::good().signature())]),
        "x402-009" => refuse_encodings(),
        "x402-010" => {
            let refused = read(&[&header, &header], &terms(), PRICE, NOW).unwrap_err();
            assert!(matches!(refused, PaymentError::Repeated(2)) && refused.is_malformed());
        }
        "x402-026" => {
            let mainnet = Terms {
                network: "eip155:8453".to_owned(),
                ..terms()
            };
            let relabelled = Payment::good().with("/accepted/network", "eip155:8453").header();
            assert!(read(&[&header], &mainnet, PRICE, NOW).is_err());
            assert!(read(&[&relabelled], &mainnet, PRICE, NOW).is_err());
        }
        "x402-037" => {
            for seconds in [-600, -61, 91, 600] {
                assert!(Payment::good().offer_at(in_seconds(seconds)).is_err(), "{seconds}");
            }
            for seconds in [-60, 0, 90] {
                assert!(Payment::good().offer_at(in_seconds(seconds)).is_ok(), "{seconds}");
            }
        }
        "x402-039" => {
            let refused = read(&[&header], &terms(), Money::new(12_000, Currency::Usdc), NOW).unwrap_err();
            assert!(matches!(refused, PaymentError::Amount { price: 12_000, .. }) && !refused.is_malformed());
        }
        "x402-042" => {
            let short = Payment::good().signature().as_erc2098();
            refuse_signatures(&[format!("0x{}", data_encoding::HEXLOWER.encode(&short))]);
        }
        "x402-043" => refuse_signatures(&[String::new(), "0x".to_owned(), "00".repeat(1_000_000), "zz".repeat(65)]),
        // A contract's signature has any length; none is asked, so none can loop.
        "x402-044" => refuse_signatures(&[format!("0x{}", "ab".repeat(96)), format!("0x{}1b", "ab".repeat(64))]),
        _ => return false,
    }
    true
}

/// The other signature of the same key over the same bytes that anybody can make.
fn malleated(signature: Signature) -> String {
    let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .unwrap();
    Signature::new(signature.r(), order - signature.s(), !signature.v()).to_string()
}

fn refuse_signatures(signatures: &[String]) {
    for signature in signatures {
        let mut payment = Payment::good();
        payment.set("/payload/signature", signature.as_str());
        assert!(payment.offer().is_err(), "{signature:.140}");
    }
}

/// The same JSON in other spellings of base64: with them a header that was seen could come again as another.
fn refuse_encodings() {
    let mut payment = Payment::good();
    let mut described = "??>>\u{ff}\u{fb}".to_owned();
    while !(payment.header().ends_with('=') && payment.header().contains(['+', '/'])) {
        described.push('>');
        payment.set("/resource/description", described.as_str());
    }
    assert!(payment.offer().is_ok());
    let good = payment.header();
    let unpadded = good.trim_end_matches('=');
    let last = unpadded.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let others = [
        unpadded.to_owned(),
        format!("{good}="),
        format!("{good}===="),
        good.replace('+', "-").replace('/', "_"),
        format!(" {good}"),
        format!("{good}\n"),
        {
            let mut folded = good.clone();
            folded.insert(76, '\n');
            folded
        },
        good.replace(&format!("{last}="), &format!("{next}=")),
    ];
    for other in others {
        assert_ne!(other, good);
        let refused = read(&[&other], &terms(), PRICE, NOW).unwrap_err();
        assert_eq!(refused, PaymentError::Encoding, "{other}");
    }
}

/// What only the rail's books can tell.
async fn try_rail(id: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    let rail = SimRail::open(&folder.path().join("ledger"), &terms(), clock).unwrap();
    let offered = Payment::good().offer().unwrap();
    let (valid, left) = (
        Verify::Valid {
            payer: offered.payer.clone(),
        },
        || rail.balance(&offered.payer).unwrap(),
    );
    match id {
        "x402-002" => {
            let settled = futures_util::future::join_all((0..64).map(|_| rail.settle(&offered))).await;
            assert!(
                settled
                    .iter()
                    .all(|one| matches!(one, Settle::Done { .. }) && one == &settled[0])
            );
            assert_eq!(left(), 990_000);
            assert_eq!(
                std::fs::read_to_string(folder.path().join("ledger"))
                    .unwrap()
                    .lines()
                    .count(),
                1
            );
        }
        "x402-046" | "x402-048" => {
            rail.set_faults(Faults {
                fail_settle: 1,
                ..Faults::default()
            });
            assert_eq!(rail.verify(&offered).await, valid);
            assert!(matches!(rail.settle(&offered).await, Settle::Refused(_)));
            assert_eq!(left(), 1_000_000);
        }
        "x402-047" => {
            rail.set_faults(Faults {
                lose_answer: 1,
                ..Faults::default()
            });
            assert!(matches!(rail.settle(&offered).await, Settle::Unknown(_)));
            assert!(matches!(rail.settle(&offered).await, Settle::Done { .. }));
            assert_eq!(left(), 990_000);
        }
        "x402-053" => {
            rail.set_faults(Faults {
                unreachable: 2,
                ..Faults::default()
            });
            assert!(matches!(rail.verify(&offered).await, Verify::Unknown(_)));
            assert!(matches!(rail.settle(&offered).await, Settle::Unknown(_)));
            assert_eq!(left(), 1_000_000);
        }
        "x402-062" => {
            assert_eq!(rail.verify(&offered).await, valid);
            assert!(matches!(rail.settle(&everything()).await, Settle::Done { .. }));
            assert_eq!(
                rail.settle(&offered).await,
                Settle::Refused("insufficient_funds".to_owned())
            );
        }
        _ => return false,
    }
    true
}

/// Another payment by the same wallet, of all it has.
fn everything() -> Offered {
    let all = Payment::good()
        .with("/payload/authorization/value", "1000000")
        .with("/accepted/amount", "1000000")
        .with("/payload/authorization/nonce", format!("0x{}", "77".repeat(32)));
    read(&[&all.header()], &terms(), Money::new(1_000_000, Currency::Usdc), NOW).unwrap()
}

#[test]
fn what_clients_may_do_to_the_offer_is_accepted() {
    let good = Payment::good().offer().unwrap();
    let lower = Payment::good().json["accepted"]["payTo"]
        .as_str()
        .unwrap()
        .to_lowercase();
    for extra in [
        json!({"version": "2", "name": "USDC"}),
        json!({"name": "USDC"}),
        json!({}),
        json!({"more": 1}),
        Value::Null,
    ] {
        assert_eq!(
            Payment::good().with("/accepted/extra", extra).offer().as_ref(),
            Ok(&good)
        );
    }
    let respelled = Payment::good()
        .with("/accepted/payTo", lower.as_str())
        .with("/payload/authorization/to", lower);
    assert_eq!(respelled.offer().as_ref(), Ok(&good));
    let mut bare = Payment::good();
    bare.json
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "extensions" && key != "resource");
    assert_eq!(bare.offer().as_ref(), Ok(&good));
}

#[test]
fn signatures_have_one_last_byte() {
    let good = Payment::good().json["payload"]["signature"]
        .as_str()
        .unwrap()
        .to_owned();
    let odd = Payment::good().signature().v();
    let body = good.strip_suffix(if odd { "1c" } else { "1b" }).unwrap();
    // The same parity as a bare bit, and as EIP-155 writes it for chains 1 and 84532 (cut to a byte).
    let others: [u8; 4] = if odd { [1, 38, 0x1d, 0x5c] } else { [0, 37, 0x1e, 0x5b] };
    refuse_signatures(&others.map(|last| format!("{body}{last:02x}")));
}

#[test]
fn upper_case_digits_are_the_same_payment() {
    let mut loud = Payment::good();
    for pointer in [
        "/payload/signature",
        "/payload/authorization/nonce",
        "/payload/authorization/from",
    ] {
        let text = loud.json.pointer(pointer).unwrap().as_str().unwrap().to_uppercase();
        loud.set(pointer, text.replacen("0X", "0x", 1));
    }
    assert_eq!(loud.offer(), Payment::good().offer());
    loud.set("/payload/authorization/nonce", format!("0X{}", "5A".repeat(32)));
    assert!(loud.offer().is_err_and(|refused| refused.is_malformed()));
}

#[test]
fn nothing_is_no_payment_even_when_nothing_is_asked() {
    let nothing = Payment::good()
        .with("/payload/authorization/value", "0")
        .with("/accepted/amount", "0");
    let free = Money::new(0, Currency::Usdc);
    assert!(read(&[&nothing.header()], &terms(), free, NOW).is_err());
}

#[test]
fn payments_of_another_shape_are_refused_as_malformed() {
    let good = Payment::good().json.to_string();
    let shapes = [
        "null".to_owned(),
        String::new(),
        format!("{good}{good}"),
        good.replacen("\"payload\":", "\"payload\":{},\"payload\":", 1),
        good.replacen("\"nonce\":", "\"nonce\":\"0x00\",\"nonce\":", 1),
        good.replacen("\"nonce\":", "\"more\":\"0x00\",\"nonce\":", 1),
        good.replacen("\"signature\":", "\"permit2Authorization\":{},\"signature\":", 1),
        good.replacen("\"validAfter\"", "\"validafter\"", 1),
        "[".repeat(5000),
    ];
    for shape in shapes {
        assert_ne!(shape, good);
        let header = data_encoding::BASE64.encode(shape.as_bytes());
        let refused = read(&[&header], &terms(), PRICE, NOW).unwrap_err();
        assert!(matches!(refused, PaymentError::Shape(_)), "{refused} {shape}");
    }
    assert_eq!(read(&[], &terms(), PRICE, NOW), Err(PaymentError::Missing));
    let long = "A".repeat(16 * 1024 + 4);
    assert_eq!(
        read(&[&long], &terms(), PRICE, NOW),
        Err(PaymentError::TooLarge(long.len()))
    );
}

#[test]
fn payment_ids_are_read_and_bounded() {
    let with = |id: Value| {
        let mut payment = Payment::good();
        payment.json["extensions"]["payment-identifier"]["info"]["id"] = id;
        payment.offer().map(|offered| offered.payment_id)
    };
    assert_eq!(
        with(json!("pay_7d5d747be160e280")),
        Ok(Some("pay_7d5d747be160e280".to_owned()))
    );
    for wrong in [
        json!("short"),
        json!("x".repeat(129)),
        json!("sixteen characters with spaces"),
        json!(7),
        json!(null),
    ] {
        assert!(
            with(wrong.clone()).is_err_and(|refused| refused.is_malformed()),
            "{wrong}"
        );
    }
}

proptest! {
    /// Nothing in what is signed can be changed by a byte, but for the case of a hexadecimal digit, which means the same.
    #[test]
    fn a_changed_byte_in_the_payload_is_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = Payment::good();
        let offered = good.offer().unwrap();
        let text = good.json.to_string();
        let payload = good.json["payload"].to_string();
        let start = text.find(&payload).unwrap();
        let mut changed = text.clone().into_bytes();
        changed[start + place.index(payload.len())] = byte;
        let header = data_encoding::BASE64.encode(&changed);
        let answer = read(&[&header], &terms(), PRICE, NOW);
        let meant_the_same = changed.eq_ignore_ascii_case(text.as_bytes());
        prop_assert!(answer.is_err() || (meant_the_same && answer == Ok(offered)));
        prop_assert!(answer.is_ok() || changed != text.into_bytes());
    }

    /// Whatever comes in the header, reading it ends, and without a panic.
    #[test]
    fn any_header_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..600), text in ".{0,200}") {
        let _ = read(&[&data_encoding::BASE64.encode(&bytes)], &terms(), PRICE, NOW);
        prop_assert!(read(&[&text], &terms(), PRICE, NOW).is_err());
    }
}
