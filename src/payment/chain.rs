//! What a chain says about a payment, asked by plain JSON-RPC: the token's `AuthorizationUsed` and
//! `AuthorizationCanceled` events (EIP-3009) and the `Transfer` of the same transaction. The contract's
//! `authorizationState` is never asked: it is set by a cancellation too, when no money moved.
//!
//! Times are the chain's own: an authorization is over when a block says so, whatever this machine's clock says.

use alloy_primitives::{hex, keccak256};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::exact::Offered;
use crate::base::egress::{Egress, Outgoing};
use crate::base::time::{Timestamp, Ttl};
use crate::model::payment::Purchase;

/// How far before the claim a settlement is looked for: whoever saw the authorization may have been faster.
const BEFORE: Ttl = Ttl::from_mins(10);

/// Seconds of blocks above which what is in a block, or in none, is final.
const FINAL: i64 = 60;

/// Blocks in one question; providers answer no more than a few thousand.
const RANGE: u64 = 1000;

/// Questions for one look; more are not asked, the outcome stays unknown.
const MOST_QUESTIONS: usize = 64;

/// A node of the chain, asked about one token.
pub struct Chain {
    egress: Egress,
    node: Url,
    asset: String,
}

/// The transfer that is looked for.
pub(super) struct Wanted {
    payer: String,
    nonce: String,
    pay_to: String,
    amount: i64,
    valid_before: Timestamp,
    since: Timestamp,
}

/// What the chain has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The money moved, by this transaction.
    Transferred(String),
    /// The nonce is used up, and not for this: cancelled, or another transfer. Final.
    Spent,
    /// The authorization's time is over and it was never used. Final.
    Over,
    /// Nothing yet.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    number: u64,
    /// Seconds since 1970.
    time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    address: String,
    topics: Vec<String>,
    data: String,
    block_number: String,
    transaction_hash: String,
    #[serde(default)]
    removed: bool,
}

#[derive(Deserialize)]
struct Receipt {
    status: String,
    logs: Vec<Log>,
}

impl Wanted {
    pub(super) fn of(purchase: &Purchase) -> Self {
        Self {
            payer: purchase.payer.clone(),
            nonce: purchase.nonce.clone(),
            pay_to: purchase.pay_to.clone(),
            amount: purchase.amount,
            valid_before: purchase.valid_before,
            since: purchase.created,
        }
    }

    pub(super) fn now(offered: &Offered, now: Timestamp) -> Self {
        Self {
            payer: offered.payer.clone(),
            nonce: offered.nonce.clone(),
            pay_to: offered.pay_to.clone(),
            amount: offered.amount,
            valid_before: offered.valid_before,
            since: now,
        }
    }

    /// Whether the logs of one transaction hold the transfer: the token says that this authorization was used, and with
    /// its next word that this sum moved. Not anywhere in the transaction: whoever signs one nonce twice could use it for
    /// themselves beside another payment, and have that one counted for both.
    fn is_in(&self, logs: &[Log], asset: &str) -> bool {
        let used = [topic(USED), word(&self.payer), self.nonce.clone()];
        let moved = [topic(TRANSFER), word(&self.payer), word(&self.pay_to)];
        let says = |log: &Log, topics: &[String; 3]| {
            let same = |(has, wanted): (&String, &String)| has.eq_ignore_ascii_case(wanted);
            log.topics.len() == topics.len() && log.topics.iter().zip(topics).all(same)
        };
        let ours: Vec<&Log> = logs
            .iter()
            .filter(|log| !log.removed && log.address.eq_ignore_ascii_case(asset))
            .collect();
        ours.windows(2).any(|pair| match pair {
            [first, next] => {
                says(first, &used) && says(next, &moved) && next.data.eq_ignore_ascii_case(&amount(self.amount))
            }
            _ => false,
        })
    }
}

const USED: &str = "AuthorizationUsed(address,bytes32)";
const CANCELED: &str = "AuthorizationCanceled(address,bytes32)";
const TRANSFER: &str = "Transfer(address,address,uint256)";

impl Chain {
    /// The chain behind `node`, an address that speaks Ethereum's JSON-RPC; `asset` is the token's contract.
    #[must_use]
    pub fn new(egress: Egress, node: Url, asset: &str) -> Self {
        Self {
            egress,
            node,
            asset: asset.to_ascii_lowercase(),
        }
    }

    /// Whether this very transaction moved the money.
    pub(super) async fn holds(&self, transaction: &str, wanted: &Wanted) -> Result<bool, String> {
        let receipt: Option<Receipt> = self.ask("eth_getTransactionReceipt", json!([transaction])).await?;
        Ok(receipt.is_some_and(|receipt| receipt.status == "0x1" && wanted.is_in(&receipt.logs, &self.asset)))
    }

    /// Looks for the transfer in the blocks since it was wanted, until its authorization was over.
    pub(super) async fn look(&self, wanted: &Wanted) -> Result<Seen, String> {
        let latest = self.block("latest").await?;
        let first = self.block_before(wanted.since.minus(BEFORE).as_secs(), latest).await?;
        let end = wanted.valid_before.as_secs();
        let over = latest.time >= end.saturating_add(FINAL);
        let last = if over {
            self.block_after(end.saturating_add(FINAL), first, latest).await?
        } else {
            latest.number
        };
        let mut spent = None;
        for log in self.logs(wanted, first, last).await? {
            if self.holds(&log.transaction_hash, wanted).await? {
                return Ok(Seen::Transferred(log.transaction_hash));
            }
            spent = Some(quantity(&log.block_number)?);
        }
        match spent {
            Some(number) => {
                let time = self.block(&format!("0x{number:x}")).await?.time;
                let is_final = latest.time >= time.saturating_add(FINAL);
                Ok(if is_final { Seen::Spent } else { Seen::Nothing })
            }
            None if over => Ok(Seen::Over),
            None => Ok(Seen::Nothing),
        }
    }

    /// What happened to the nonce, in blocks `first` to `last`.
    async fn logs(&self, wanted: &Wanted, first: u64, last: u64) -> Result<Vec<Log>, String> {
        let mut found = Vec::new();
        let mut from = first;
        for _ in 0..MOST_QUESTIONS {
            let to = last.min(from.saturating_add(RANGE - 1));
            let logs: Vec<Log> = self
                .ask(
                    "eth_getLogs",
                    json!([{
                        "address": self.asset,
                        "fromBlock": format!("0x{from:x}"),
                        "toBlock": format!("0x{to:x}"),
                        "topics": [[topic(USED), topic(CANCELED)], word(&wanted.payer), wanted.nonce],
                    }]),
                )
                .await?;
            found.extend(logs.into_iter().filter(|log| !log.removed));
            if to >= last {
                return Ok(found);
            }
            from = to.saturating_add(1);
        }
        Err("too many blocks to look through".to_owned())
    }

    /// A block that was made at `time` or before, not much before.
    async fn block_before(&self, time: i64, latest: Block) -> Result<u64, String> {
        let mut back = 64;
        let mut at = latest;
        while at.time > time && at.number > 0 {
            let number = latest.number.saturating_sub(back);
            at = self.block(&format!("0x{number:x}")).await?;
            back = back.saturating_mul(2);
        }
        Ok(at.number)
    }

    /// The first block between two that was made after `time`.
    async fn block_after(&self, time: i64, first: u64, latest: Block) -> Result<u64, String> {
        let (mut low, mut high) = (first, latest.number);
        while low < high {
            let middle = low.midpoint(high);
            if self.block(&format!("0x{middle:x}")).await?.time > time {
                high = middle;
            } else {
                low = middle.saturating_add(1);
            }
        }
        Ok(high)
    }

    async fn block(&self, which: &str) -> Result<Block, String> {
        #[derive(Deserialize)]
        struct Header {
            number: String,
            timestamp: String,
        }
        let header: Option<Header> = self.ask("eth_getBlockByNumber", json!([which, false])).await?;
        let header = header.ok_or("the chain has no such block")?;
        Ok(Block {
            number: quantity(&header.number)?,
            time: i64::try_from(quantity(&header.timestamp)?).map_err(|_| "the chain's time is no time")?,
        })
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, method: &str, params: Value) -> Result<T, String> {
        #[derive(Deserialize)]
        struct Reply<T> {
            // `null` is an answer.
            #[serde(default = "Option::default")]
            result: Option<T>,
            error: Option<Value>,
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut outgoing = Outgoing::new(Method::POST, self.node.clone());
        outgoing.body = body.to_string().into_bytes();
        outgoing.headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let incoming = self
            .egress
            .send(outgoing)
            .await
            .map_err(|error| format!("the chain's node: {error}"))?;
        let reply: Reply<Value> = serde_json::from_slice(&incoming.body)
            .map_err(|_| format!("the chain's node answered {} without JSON-RPC", incoming.status))?;
        if reply.error.is_some() {
            return Err(format!("the chain's node refuses {method}"));
        }
        serde_json::from_value(reply.result.unwrap_or_default())
            .map_err(|_| format!("the chain's node answered {method} in another form"))
    }
}

/// The first topic of an event.
fn topic(event: &str) -> String {
    format!("0x{}", hex::encode(keccak256(event)))
}

/// An address as a topic: 32 bytes.
fn word(address: &str) -> String {
    format!("0x{:0>64}", address.strip_prefix("0x").unwrap_or(address))
}

/// A sum as an event's data: 32 bytes.
fn amount(atomic: i64) -> String {
    format!("0x{atomic:064x}")
}

fn quantity(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| "the chain's node wrote a number in another form".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_topics_that_explorers_show() {
        // As in every USDC transfer by authorization on Base.
        let used = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
        assert_eq!(topic(USED), used);
        let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
        assert_eq!(topic(TRANSFER), transfer);
    }

    #[test]
    fn words_are_thirty_two_bytes() {
        assert_eq!(word("0x90f79bf6eb2c4f870365e785982e1f101e93b906").len(), 66);
        assert_eq!(amount(10_000).len(), 66);
        assert!(amount(10_000).ends_with("2710"));
    }

    const TOKEN: &str = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
    const PAYER: &str = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc";
    const PAY_TO: &str = "0x90f79bf6eb2c4f870365e785982e1f101e93b906";

    fn nonce(digit: char) -> String {
        format!("0x{}", digit.to_string().repeat(64))
    }

    fn log(address: &str, topics: [&str; 3], sum: i64) -> Log {
        Log {
            address: address.to_owned(),
            topics: topics.map(str::to_owned).to_vec(),
            data: if sum == 0 { "0x".to_owned() } else { amount(sum) },
            block_number: "0x1".to_owned(),
            transaction_hash: "0xab".to_owned(),
            removed: false,
        }
    }

    fn used(nonce: &str) -> Log {
        log(TOKEN, [&topic(USED), &word(PAYER), nonce], 0)
    }

    fn moved(token: &str, to: &str, sum: i64) -> Log {
        log(token, [&topic(TRANSFER), &word(PAYER), &word(to)], sum)
    }

    #[test]
    fn only_the_transfer_of_this_authorization_counts() {
        let wanted = Wanted {
            payer: PAYER.to_owned(),
            nonce: nonce('a'),
            pay_to: PAY_TO.to_owned(),
            amount: 10_000,
            valid_before: Timestamp::from_secs(1000),
            since: Timestamp::from_secs(0),
        };
        let holds = |logs: &[Log]| wanted.is_in(logs, TOKEN);
        assert!(holds(&[used(&nonce('a')), moved(TOKEN, PAY_TO, 10_000)]));
        let other = "0x1111111111111111111111111111111111111111";
        assert!(!holds(&[used(&nonce('a'))]), "nothing moved");
        assert!(
            !holds(&[used(&nonce('b')), moved(TOKEN, PAY_TO, 10_000)]),
            "another nonce"
        );
        assert!(!holds(&[used(&nonce('a')), moved(TOKEN, PAY_TO, 9_999)]), "another sum");
        assert!(
            !holds(&[used(&nonce('a')), moved(TOKEN, PAYER, 10_000)]),
            "another receiver"
        );
        assert!(
            !holds(&[used(&nonce('a')), moved(other, PAY_TO, 10_000)]),
            "another token"
        );
        // One payment, and beside it the other nonce used for its payer's own pocket.
        let both = [
            used(&nonce('a')),
            moved(TOKEN, PAYER, 10_000),
            used(&nonce('b')),
            moved(TOKEN, PAY_TO, 10_000),
        ];
        assert!(!holds(&both), "one payment counted for two");
    }
}
