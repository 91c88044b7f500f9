//! The official TypeScript and Python clients, unmodified, pay a server made of nothing but the payment module.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use dekeys::base::time::{Clock, SystemClock};
use dekeys::payment::{
    Extras, Offered, Outcome, PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, PaymentRail, Resource, Settle,
    SimRail, Verify, read, required, response,
};
use serde_json::{Value, json};

use super::wallet::{PRICE, terms};

/// Needs `DEKEYS_X402_DIR`, the directory that `tests/x402/run.sh` installs the clients into.
#[tokio::test]
async fn official_clients_pay() {
    let Some(folder) = crate::skip::folder("DEKEYS_X402_DIR", "the official x402 clients") else {
        return;
    };
    let books = tempfile::tempdir().unwrap();
    let rail = SimRail::open(&books.path().join("ledger"), &terms(), Arc::new(SystemClock::default())).unwrap();
    let url = serve(rail.clone()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/x402/run.sh");
    let output = tokio::process::Command::new(script)
        .args([&url, r#"{"reference":"dk://mock/chat:write","ttl":"15m"}"#])
        .env("DEKEYS_X402_DIR", folder)
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    let answers: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2, "{told}");
    for answer in answers {
        let payer = answer["paymentResponse"]["payer"].as_str().unwrap();
        assert_eq!(rail.balance(payer).unwrap(), 1_000_000 - PRICE.atomic());
        assert_eq!(
            answer["body"]["asked"],
            r#"{"reference":"dk://mock/chat:write","ttl":"15m"}"#
        );
    }
    assert_eq!(rail.balance(&terms().pay_to).unwrap(), 1_000_000 + 2 * PRICE.atomic());
}

async fn serve(rail: SimRail) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/grants", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/grants", post(sell))
        .with_state((rail, url.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn sell(State((rail, url)): State<(SimRail, String)>, headers: HeaderMap, body: String) -> Response {
    let values: Vec<&str> = headers
        .get_all(PAYMENT_SIGNATURE)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    match read(&values, &terms(), PRICE, SystemClock::default().now()) {
        Err(refused) => ask(&url, refused.reason()),
        Ok(offered) => match settle(&rail, &offered).await {
            Ok(transaction) => {
                let told = Outcome::Settled {
                    transaction: &transaction,
                    receipt: None,
                };
                let answer = json!({ "id": "grt_1", "token": "dkt_test_1", "asked": body }).to_string();
                let paid = response(told, &offered.network, &offered.payer);
                with_header((StatusCode::CREATED, answer).into_response(), PAYMENT_RESPONSE, &paid)
            }
            Err(reason) => ask(&url, &reason),
        },
    }
}

async fn settle(rail: &SimRail, offered: &Offered) -> Result<String, String> {
    match rail.verify(offered).await {
        Verify::Valid { payer } => assert_eq!(payer, offered.payer),
        Verify::Invalid(reason) | Verify::Unknown(reason) => return Err(reason),
    }
    match rail.settle(offered).await {
        Settle::Done { transaction } => Ok(transaction),
        Settle::Refused(reason) | Settle::Unknown(reason) => Err(reason),
    }
}

/// A 402 whose body is a problem, as dekeys answers: the demand stands in the header alone.
fn ask(url: &str, reason: &str) -> Response {
    let resource = Resource {
        url: url.to_owned(),
        description: "mock/chat:write for 15m".to_owned(),
    };
    let asked = required(&terms(), PRICE, &resource, Some(reason), &Extras::default());
    let problem = json!({ "title": "Payment required", "status": 402, "code": "payment_required" }).to_string();
    with_header(
        (StatusCode::PAYMENT_REQUIRED, problem).into_response(),
        PAYMENT_REQUIRED,
        &asked.header,
    )
}

fn with_header(mut answer: Response, name: &'static str, value: &str) -> Response {
    answer.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    answer
}
