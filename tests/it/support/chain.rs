//! A chain with one token, and a facilitator that settles on it: one server on loopback that keeps the truth about what
//! moved. Blocks come every two seconds; their time can be put ahead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use dekeys::base::time::SystemClock;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What the facilitator does with the next settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// It moves the money and says so.
    Settle,
    /// It refuses, and nothing moves.
    Refuse,
    /// It moves the money and answers with an error of its server.
    LoseAnswer,
    /// It moves the money and says that it is under way.
    Pending,
    /// It breaks before anything moves.
    Break,
    /// It says settled, and nothing moves.
    LieSettled,
    /// It says refused, and the money moves.
    LieRefused,
    /// The payer cancels first; the facilitator answers with an error.
    Cancelled,
    /// The payer uses the nonce for its own pocket first.
    SpentElsewhere,
}

#[derive(Default)]
struct Books {
    scripts: VecDeque<Script>,
    /// Transactions: block, hash, logs.
    transactions: Vec<(u64, String, Vec<Value>)>,
    /// How many transactions there ever were.
    made: u64,
    ahead: u64,
    settles: u32,
    /// How many verifications go by before one is held.
    hold_after: Option<u32>,
    /// Whether the one that is held is answered with an error of the server.
    broken: bool,
    headers: Option<HeaderMap>,
    /// The last authorization.
    seen: Option<Value>,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Chain {
    books: Arc<Mutex<Books>>,
    began: u64,
    arrived: Arc<Notify>,
    go: Arc<Notify>,
    pub(crate) url: String,
}

const TOKEN: &str = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
const USED: &str = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
const CANCELED: &str = "0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81";
const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

impl Chain {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let chain = Self {
            books: Arc::default(),
            arrived: Arc::default(),
            go: Arc::default(),
            // Long ago, so that there are many blocks to look through.
            began: seconds() - 40_000,
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let router = Router::new()
            .route("/x402/verify", post(verify))
            .route("/x402/settle", post(settle))
            .route("/rpc", post(rpc))
            .with_state(chain.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        chain
    }

    /// What becomes of the next settlement; without it they settle.
    pub(crate) fn next(&self, script: Script) {
        self.books.lock().unwrap().scripts.push_back(script);
    }

    /// The chain's time goes ahead of the machine's.
    pub(crate) fn advance(&self, seconds: u64) {
        self.books.lock().unwrap().ahead += seconds;
    }

    /// Whoever saw an authorization uses it: the last that was brought here.
    pub(crate) fn observer_settles(&self) {
        let mut books = self.books.lock().unwrap();
        let signed = books.seen.clone().unwrap();
        let to = signed["to"].as_str().unwrap().to_owned();
        self.transfer(&mut books, &signed, &to);
    }

    /// A reorganisation: the last transaction is in no block any more.
    pub(crate) fn take_back(&self) {
        self.books.lock().unwrap().transactions.pop().unwrap();
    }

    /// Holds the verification after `others` until [`Self::release`].
    pub(crate) fn hold_verification(&self, others: u32) {
        self.books.lock().unwrap().hold_after = Some(others);
    }

    /// Waits until a verification is held.
    pub(crate) async fn held(&self) {
        self.arrived.notified().await;
    }

    /// Lets what is held go on.
    pub(crate) fn release(&self) {
        self.go.notify_one();
    }

    /// Lets what is held go on, and fail: the facilitator breaks over it.
    pub(crate) fn release_broken(&self) {
        self.books.lock().unwrap().broken = true;
        self.go.notify_one();
    }

    /// How often it was asked to settle.
    pub(crate) fn settles(&self) -> u32 {
        self.books.lock().unwrap().settles
    }

    /// Whether it was shown any authorization.
    pub(crate) fn shown(&self) -> bool {
        self.books.lock().unwrap().seen.is_some()
    }

    /// The headers of the last settlement.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let books = self.books.lock().unwrap();
        Some(books.headers.as_ref()?.get(name)?.to_str().unwrap().to_owned())
    }

    /// Transfers to `pay_to`, in all.
    pub(crate) fn paid(&self, pay_to: &str) -> usize {
        let books = self.books.lock().unwrap();
        let logs = books.transactions.iter().flat_map(|(_, _, logs)| logs);
        logs.filter(|log| log["topics"][0] == TRANSFER && log["topics"][2] == word(pay_to))
            .count()
    }

    fn height(&self, books: &Books) -> u64 {
        (seconds() + books.ahead - self.began) / 2
    }

    /// Puts events into the newest block; the transaction's hash.
    fn include(&self, books: &mut Books, events: Vec<(Vec<String>, String)>) -> String {
        books.made += 1;
        let number = self.height(books);
        let hash = format!("0x{:064x}", 0xabcd_0000_u64 + books.made);
        let log = |(topics, data): (Vec<String>, String)| {
            json!({
                "address": TOKEN, "topics": topics, "data": data, "blockNumber": format!("0x{number:x}"),
                "transactionHash": hash, "removed": false,
            })
        };
        let logs = events.into_iter().map(log).collect();
        books.transactions.push((number, hash.clone(), logs));
        hash
    }

    /// The payer's authorization is used for `to`.
    fn transfer(&self, books: &mut Books, signed: &Value, to: &str) -> String {
        let text = |name: &str| signed[name].as_str().unwrap().to_lowercase();
        let value: u64 = text("value").parse().unwrap();
        let used = vec![USED.to_owned(), word(&text("from")), text("nonce")];
        let moved = vec![TRANSFER.to_owned(), word(&text("from")), word(to)];
        self.include(books, vec![(used, "0x".to_owned()), (moved, format!("0x{value:064x}"))])
    }

    fn is_used(books: &Books, nonce: &str) -> bool {
        let mut logs = books.transactions.iter().flat_map(|(_, _, logs)| logs);
        logs.any(|log| log["topics"][2] == nonce && log["topics"][0] != TRANSFER)
    }
}

fn seconds() -> u64 {
    u64::try_from(SystemClock::wall().as_secs()).unwrap()
}

fn word(address: &str) -> String {
    format!("0x{:0>64}", address.trim_start_matches("0x").to_lowercase())
}

fn authorization(payment: &Value) -> &Value {
    &payment["paymentPayload"]["payload"]["authorization"]
}

async fn verify(State(chain): State<Chain>, Json(payment): Json<Value>) -> Response {
    let signed = authorization(&payment);
    let held = {
        let mut books = chain.books.lock().unwrap();
        books.seen = Some(signed.clone());
        let held = books.hold_after == Some(0);
        books.hold_after = books.hold_after.and_then(|others| others.checked_sub(1));
        held
    };
    if held {
        chain.arrived.notify_one();
        chain.go.notified().await;
        if std::mem::take(&mut chain.books.lock().unwrap().broken) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    }
    let books = chain.books.lock().unwrap();
    let used = Chain::is_used(&books, signed["nonce"].as_str().unwrap());
    Json(if used {
        json!({ "isValid": false, "invalidReason": "invalid_transaction_state", "payer": signed["from"] })
    } else {
        json!({ "isValid": true, "payer": signed["from"] })
    })
    .into_response()
}

async fn settle(State(chain): State<Chain>, headers: HeaderMap, Json(payment): Json<Value>) -> Response {
    let mut books = chain.books.lock().unwrap();
    books.settles += 1;
    books.headers = Some(headers);
    let signed = authorization(&payment).clone();
    let (to, nonce) = (signed["to"].as_str().unwrap(), signed["nonce"].as_str().unwrap());
    let broken = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
    if Chain::is_used(&books, nonce) {
        return broken();
    }
    let refused = json!({ "success": false, "errorReason": "insufficient_funds", "transaction": "" });
    match books.scripts.pop_front().unwrap_or(Script::Settle) {
        Script::Settle => {
            let hash = chain.transfer(&mut books, &signed, to);
            Json(json!({ "success": true, "transaction": hash, "network": "eip155:84532", "payer": signed["from"] }))
                .into_response()
        }
        Script::Refuse => Json(refused).into_response(),
        Script::LoseAnswer => {
            chain.transfer(&mut books, &signed, to);
            broken()
        }
        Script::Pending => {
            let hash = chain.transfer(&mut books, &signed, to);
            Json(json!({ "success": false, "errorReason": "settlement_pending", "transaction": hash })).into_response()
        }
        Script::Break => broken(),
        Script::LieSettled => Json(json!({ "success": true, "transaction": format!("0x{:064x}", 7) })).into_response(),
        Script::LieRefused => {
            chain.transfer(&mut books, &signed, to);
            Json(refused).into_response()
        }
        Script::Cancelled => {
            let from = word(signed["from"].as_str().unwrap());
            let cancelled = vec![CANCELED.to_owned(), from, nonce.to_owned()];
            chain.include(&mut books, vec![(cancelled, "0x".to_owned())]);
            broken()
        }
        Script::SpentElsewhere => {
            chain.transfer(&mut books, &signed, signed["from"].as_str().unwrap());
            broken()
        }
    }
}

/// As a node answers; ranges of more than 1000 blocks are refused, as providers do.
async fn rpc(State(chain): State<Chain>, Json(call): Json<Value>) -> Json<Value> {
    let books = chain.books.lock().unwrap();
    let height = chain.height(&books);
    let quantity = |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let params = &call["params"];
    let result = match call["method"].as_str().unwrap() {
        "eth_getBlockByNumber" => {
            let number = if params[0] == "latest" {
                height
            } else {
                quantity(&params[0])
            };
            let time = chain.began + number * 2;
            (number <= height).then(|| json!({ "number": format!("0x{number:x}"), "timestamp": format!("0x{time:x}") }))
        }
        "eth_getTransactionReceipt" => {
            let found = books.transactions.iter().find(|(_, hash, _)| *hash == params[0]);
            found.map(|(_, hash, logs)| json!({ "status": "0x1", "transactionHash": hash, "logs": logs }))
        }
        "eth_getLogs" => {
            let (from, to) = (quantity(&params[0]["fromBlock"]), quantity(&params[0]["toBlock"]));
            if to - from >= 1000 {
                return Json(json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32005, "message": "range" } }));
            }
            let topics = params[0]["topics"].as_array().unwrap();
            let fits = |log: &&Value| {
                topics.iter().enumerate().all(|(at, wanted)| match wanted {
                    Value::Array(any) => any.contains(&log["topics"][at]),
                    one => *one == log["topics"][at],
                })
            };
            let within = books
                .transactions
                .iter()
                .filter(|(number, _, _)| (from..=to).contains(number));
            let logs: Vec<&Value> = within.flat_map(|(_, _, logs)| logs).filter(fits).collect();
            Some(json!(logs))
        }
        other => panic!("{other} is not asked"),
    };
    Json(json!({ "jsonrpc": "2.0", "id": 1, "result": result }))
}
