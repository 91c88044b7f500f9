//! What strangers send to break a server: broken JSON, and more of everything than it takes. Nothing panics, what is
//! broken is refused, and everybody else is served meanwhile.

mod disk;
mod json;
mod load;
mod tls;
pub(crate) mod vendor;

use std::time::Duration;

use dekeys::operations::{Method, Operation};

use crate::support::TestApp;

/// No answer was seen: the connection ended while a body was written that is longer than any that is read.
const CUT_OFF: u16 = 0;

/// The longest body that is read.
const LARGEST: usize = 256 * 1024;

/// A client that sends bytes as they are, as an operator would be known.
struct Sender {
    http: reqwest::Client,
    login: String,
}

/// What came back.
struct Back {
    status: u16,
    code: String,
}

impl Sender {
    fn new(app: &TestApp) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_mins(1))
            .build()
            .unwrap();
        Self {
            http,
            login: app.stage.login().unwrap(),
        }
    }

    /// Sends a body to an operation.
    async fn send(&self, app: &TestApp, operation: &Operation, body: Vec<u8>) -> Back {
        let method = match operation.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Delete => http::Method::DELETE,
        };
        let length = body.len();
        let server = &app.stage.server;
        let base = if operation.admin { &server.admin } else { &server.url };
        let request = self
            .http
            .request(method, format!("{base}{}", path(operation)))
            .header("content-type", "application/json")
            .bearer_auth(&self.login)
            .body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // A body that is too large is not read to its end: who still writes may miss the answer.
            Err(_) if length > LARGEST => {
                return Back {
                    status: CUT_OFF,
                    code: String::new(),
                };
            }
            Err(error) => panic!("{error}"),
        };
        let status = answer.status().as_u16();
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default().to_owned();
        Back { status, code }
    }
}

/// The path with ids of the right kind in it, of things that are not there.
fn path(operation: &Operation) -> String {
    let id = |prefix: &str| format!("{prefix}_01KAG4C1B2T5Q3V7X9Z0A1B2C3");
    let prefix = match operation.path.split('/').nth(2).unwrap_or_default() {
        "grants" => id("grt"),
        "leases" => id("lea"),
        "approvals" => id("apr"),
        "principals" => id("pri"),
        "credentials" => id("cred"),
        _ => "demo".to_owned(),
    };
    operation
        .path
        .replace("{id}", &prefix)
        .replace("{name}", "demo")
        .replace("{code}", "internal")
}
