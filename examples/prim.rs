//! A prim: a small service that does something for agents with a vendor's key, which the agents never see.
//!
//! Try it against an instance for tests:
//!
//! ```sh
//! dekeys serve --dev                      # says where its keys are, and its address
//! DEKEYS_ADDR=http://127.0.0.1:8402 DEKEYS_KEY_FILE=prim-echo.key cargo run --example prim
//! curl -H "Authorization: Bearer $(cat pinned)" http://127.0.0.1:8500/echo
//! ```
//!
//! An agent sends its token, narrowed to this prim (`dekeys token attenuate --audience prim-echo --ttl 5m`). The prim
//! checks it here, asks dekeys once until the lease ends, and asks the vendor. A key that the vendor refuses is reported,
//! and the request tried once more with the key in its place.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use dekeys::base::secret::SecretText;
use dekeys::client::{Prim, PrimError};
use serde_json::json;
use tokio::net::TcpListener;

/// What it does for agents needs this.
const NEEDED: &str = "dk://demo/echo:read";

/// What every request needs.
pub(crate) struct Service {
    /// The way to keys.
    pub(crate) prim: Prim,
    /// The way to the vendor.
    pub(crate) vendor: reqwest::Client,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let from = |name: &str, default: &str| std::env::var_os(name).unwrap_or_else(|| default.into());
    let address = from("DEKEYS_ADDR", "http://127.0.0.1:8402");
    let address = address.to_str().ok_or("DEKEYS_ADDR is not text")?;
    let prim = Prim::connect(address, from("DEKEYS_KEY_FILE", "prim-echo.key")).await?;
    let service = Service {
        prim: prim.verifying().await?,
        vendor: reqwest::Client::builder().no_proxy().build()?,
    };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 8500))).await?;
    axum::serve(listener, router(service)).await?;
    Ok(())
}

/// Its one route.
pub(crate) fn router(service: Service) -> Router {
    Router::new().route("/echo", get(echo)).with_state(Arc::new(service))
}

async fn echo(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let Some(token) = bearer(&headers) else {
        return (StatusCode::UNAUTHORIZED, "send your token: Authorization: Bearer dkt_…").into_response();
    };
    let status = |answer: &Result<reqwest::Response, reqwest::Error>| {
        answer.as_ref().map_or(502, |answer| answer.status().as_u16())
    };
    let vendor = &service.vendor;
    let answer = service.prim.call(NEEDED, &token, status, |key| async move {
        let url = format!("{}/echo", key.base_url.as_str().trim_end_matches('/'));
        vendor.get(url).headers(key.headers()).send().await
    });
    match answer.await {
        Ok(Ok(answer)) => Json(json!({ "vendor": answer.status().as_u16() })).into_response(),
        Ok(Err(_)) => StatusCode::BAD_GATEWAY.into_response(),
        Err(error) => (status_of(&error), error.to_string()).into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<SecretText> {
    let value = headers.get("authorization")?.to_str().ok()?;
    Some(SecretText::new(value.strip_prefix("Bearer ")?.to_owned()))
}

/// Why the agent got nothing: its token, or dekeys.
fn status_of(error: &PrimError) -> StatusCode {
    let refused = error.refused().map(|refused| refused.status);
    let fault = match error {
        PrimError::Token(_) | PrimError::Audience(_) => Some(401),
        _ => refused,
    };
    fault
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY)
}
