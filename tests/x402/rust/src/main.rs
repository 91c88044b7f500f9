//! Buys with the unmodified Rust client: `dekeys-x402-client URL BODY`
//!
//! Pays from the key in `DEKEYS_X402_KEY`, or from a new wallet. Prints one JSON line {status, body, paymentResponse}.

use std::error::Error;
use std::sync::Arc;

use alloy_signer_local::PrivateKeySigner;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x402_chain_eip155::V2Eip155ExactClient;
use x402_reqwest::{ReqwestWithPayments as _, ReqwestWithPaymentsBuild as _, X402Client};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(body), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: dekeys-x402-client URL BODY".into());
    };
    let signer: PrivateKeySigner = match std::env::var("DEKEYS_X402_KEY") {
        Ok(key) => key.parse()?,
        Err(_) => PrivateKeySigner::random(),
    };
    let client = X402Client::new().register(V2Eip155ExactClient::new(Arc::new(signer)));
    let http = reqwest::Client::new().with_payments(client).build();
    let answer = http
        .post(url)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    let status = answer.status().as_u16();
    let paid = answer.headers().get("payment-response").cloned();
    let text = answer.text().await?;
    let paid: Option<Value> = paid.map(|value| read(value.as_bytes())).transpose()?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    println!("{}", json!({ "status": status, "body": body, "paymentResponse": paid }));
    Ok(())
}

fn read(header: &[u8]) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&STANDARD.decode(header)?)?)
}
