//! A prim's signed session: RFC 9421 with HMAC, as the hot path uses it.

use std::sync::atomic::{AtomicU64, Ordering};

use dekeys::base::secret::{SecretBytes, SecretText};
use dekeys::base::time::{Clock, SystemClock};
use dekeys::client::{Client, Request, secret};
use dekeys::httpsig::{self, Parts};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::send;

pub(crate) struct Session {
    url: String,
    authority: String,
    http: reqwest::Client,
    id: String,
    key: SecretBytes,
    counter: AtomicU64,
}

/// A client without proxy and redirects, for requests that the product's own client would not send.
pub(crate) fn plain_http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

impl Session {
    pub(crate) async fn open(client: &Client) -> Self {
        let asked = Request::post(&["v1", "sessions"]).json(&json!({ "use": "sign" }));
        let opened = send(client, asked).await.good();
        let key = opened["secret"].as_str().unwrap();
        Self {
            url: client.address().to_string(),
            authority: client.address().authority(),
            http: plain_http(),
            id: opened["session_id"].as_str().unwrap().to_owned(),
            key: SecretBytes::new(data_encoding::BASE64URL_NOPAD.decode(key.as_bytes()).unwrap()),
            counter: AtomicU64::new(1),
        }
    }

    /// A signed `POST`.
    pub(crate) async fn post(&self, path: &str, token: &SecretText, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let bearer = format!("Bearer {}", secret::shown(token));
        headers.insert("authorization", HeaderValue::from_str(&bearer).unwrap());
        let parts = Parts {
            method: "POST",
            scheme: "http",
            authority: &self.authority,
            path,
            query: None,
            headers: &headers,
            body: body.as_bytes(),
        };
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let now = SystemClock::default().now();
        let signed = httpsig::sign_session(&self.id, &self.key, counter, &parts, now).unwrap();
        signed.put(&mut headers);
        let sent = self
            .http
            .post(format!("{}{path}", self.url))
            .headers(headers)
            .body(body);
        let answer = sent.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }
}
