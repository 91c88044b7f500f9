//! Agents that buy and prims that resolve, and what they saw: the answers that must stay true after a crash.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dekeys::base::money::{Currency, Money};
use dekeys::base::random::{OsRandom, Random, bytes};
use dekeys::base::secret::{SecretBytes, SecretText};
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::{Client, ClientError, Reply, Request, secret, token};
use dekeys::model::principal::PublicKey;
use dekeys::payment;
use dekeys::setup::stage::PRIM;
use dekeys::token::Narrowing;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::scene::{FREE, PAID, Scene, word};
use super::server::{Server, pause};

/// A payment as it was signed; presenting it again must never cost twice.
#[derive(Clone)]
pub(crate) struct Payment {
    pub(crate) payer: String,
    pub(crate) nonce: String,
    body: Value,
    header: String,
}

/// A key that a prim was given.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) lease: String,
    pub(crate) event: String,
    pub(crate) secret: String,
}

/// What was answered before the crash.
#[derive(Default)]
pub(crate) struct Answers {
    /// Grants that were given, and whether somebody asked for their end or for a short life.
    pub(crate) grants: Vec<(String, bool)>,
    /// Keys that were given.
    pub(crate) keys: Vec<Key>,
    /// Keys whose end was confirmed.
    pub(crate) dead: Vec<String>,
    /// Payments whose request got no answer.
    pub(crate) unclear: Vec<Payment>,
    /// Answers that nobody should get.
    pub(crate) odd: Vec<String>,
}

/// Shared by all who act.
pub(crate) type Seen = Arc<Mutex<Answers>>;

pub(crate) fn note(seen: &Seen, write: impl FnOnce(&mut Answers)) {
    write(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

/// The server is gone.
pub(crate) struct Gone;

impl From<ClientError> for Gone {
    fn from(error: ClientError) -> Self {
        assert!(
            matches!(error, ClientError::Lost(_) | ClientError::Unreachable(_)),
            "{error}"
        );
        Self
    }
}

/// Kills the server right after its callers have read so many answers.
pub(crate) struct Countdown {
    pid: Pid,
    left: AtomicI64,
}

impl Countdown {
    pub(crate) fn new(server: &Server, answers: i64) -> Arc<Self> {
        Arc::new(Self {
            pid: server.pid(),
            left: AtomicI64::new(answers),
        })
    }

    /// An answer was read.
    pub(crate) fn heard(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            kill_process(self.pid, Signal::KILL).unwrap();
        }
    }

    /// How many answers are still to come; what was counted, where it began at 0.
    pub(crate) fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }
}

/// One agent with its prim.
pub(crate) struct Player {
    anyone: Client,
    agent: Client,
    agent_key: PublicKey,
    prim: Client,
    pub(crate) seen: Seen,
    countdown: Option<Arc<Countdown>>,
    /// What is brief may be over before it is used.
    brief: bool,
    /// The server lives on while what it needs fails: it may say so.
    rough: bool,
}

/// A grant in the hands of its buyer.
pub(crate) struct Grant {
    pub(crate) id: String,
    reference: &'static str,
    token: SecretText,
}

impl Player {
    pub(crate) fn new(scene: &Scene, server: &Server, seen: &Seen) -> Self {
        Self {
            anyone: server.client(None),
            agent: scene.agent(server),
            agent_key: scene.cast.agent.public(),
            prim: scene.prim(server),
            seen: Arc::clone(seen),
            countdown: None,
            brief: false,
            rough: false,
        }
    }

    /// The same where what the server needs may fail.
    pub(crate) fn in_trouble(self) -> Self {
        Self { rough: true, ..self }
    }

    /// The same, whose answers are counted, and what it has may be over before it is used if it is `brief`.
    pub(crate) fn counted(self, countdown: &Arc<Countdown>, brief: bool) -> Self {
        Self {
            countdown: Some(Arc::clone(countdown)),
            brief,
            ..self
        }
    }

    fn heard(&self) {
        if let Some(countdown) = &self.countdown {
            countdown.heard();
        }
    }

    /// Buys, resolves and ends until the server is gone.
    pub(crate) async fn play(self, random: Arc<dyn Random>) {
        while self.life(random.as_ref()).await.is_ok() {}
    }

    /// One grant from its purchase to its end.
    pub(crate) async fn life(&self, random: &dyn Random) -> Result<(), Gone> {
        let bought = if below(random, 4) == 0 {
            self.be_given(None).await?
        } else {
            let payment = self.sign().await?;
            self.buy(&payment).await?
        };
        let Some(grant) = bought else { return Ok(()) };
        let Some(key) = self.resolve(&grant).await? else {
            return Ok(());
        };
        match below(random, 4) {
            0 => self.end_grant(&grant).await?,
            1 => {
                self.end_lease(&key).await?;
                // The next key of this grant is made while its prim waits.
                self.resolve(&grant).await?;
            }
            2 => drop(self.resolve(&grant).await?),
            _ => {}
        }
        Ok(())
    }

    /// Asks for the price and signs a payment from a new wallet.
    pub(crate) async fn sign(&self) -> Result<Payment, Gone> {
        let body = json!({ "reference": PAID, "audience": [PRIM], "public_key": self.agent_key });
        let asked = self
            .anyone
            .send_any(&Request::post(&["v1", "grants"]).json(&body))
            .await?;
        if self.rough && asked.status != 402 {
            self.not_odd("sign", &asked);
            return Err(Gone);
        }
        let required = asked.header(payment::PAYMENT_REQUIRED).unwrap_or_default();
        let required: Value =
            serde_json::from_slice(&data_encoding::BASE64.decode(required.as_bytes()).unwrap()).unwrap();
        let wallet = SecretBytes::new(bytes::<32>(&OsRandom).to_vec());
        let most = Money::new(10_000, Currency::Usdc);
        let now = SystemClock::default().now();
        let header = payment::sign_exact(&wallet, &required, most, None, now, &OsRandom).unwrap();
        let signed: Value = serde_json::from_slice(&data_encoding::BASE64.decode(header.as_bytes()).unwrap()).unwrap();
        Ok(Payment {
            payer: payment::payer_address(&wallet).unwrap(),
            nonce: word(&signed, "/payload/authorization/nonce"),
            body,
            header,
        })
    }

    /// Pays, as a stranger does.
    pub(crate) async fn buy(&self, payment: &Payment) -> Result<Option<Grant>, Gone> {
        note(&self.seen, |seen| seen.unclear.push(payment.clone()));
        let reply = self.anyone.send_any(&payment.request()).await?;
        self.heard();
        // What ended in trouble may have been paid all the same.
        if !self.rough || reply.status == 201 {
            note(&self.seen, |seen| {
                seen.unclear.retain(|other| other.nonce != payment.nonce);
            });
        }
        Ok(self.granted(&reply, PAID))
    }

    /// Presents a payment again, as its holder: status, and the grant if there is one.
    pub(crate) async fn present_again(&self, payment: &Payment) -> Result<(u16, String, Option<Grant>), Gone> {
        let reply = self.agent.send_any(&payment.request()).await?;
        let code = word(&reply.json(), "/code");
        let grant = matches!(reply.status, 200 | 201).then(|| self.take(&reply, PAID));
        Ok((reply.status, code, grant))
    }

    /// A free grant.
    pub(crate) async fn be_given(&self, idempotency: Option<&str>) -> Result<Option<Grant>, Gone> {
        self.be_given_for(idempotency, None).await
    }

    /// A free grant that ends sooner than its policy says.
    pub(crate) async fn be_given_for(
        &self,
        idempotency: Option<&str>,
        ttl: Option<&str>,
    ) -> Result<Option<Grant>, Gone> {
        let mut body = json!({ "reference": FREE, "audience": [PRIM], "public_key": self.agent_key });
        if let (Some(ttl), Some(fields)) = (ttl, body.as_object_mut()) {
            fields.insert("ttl".to_owned(), json!(ttl));
        }
        let mut request = Request::post(&["v1", "grants"]).json(&body);
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let reply = self.agent.send_any(&request).await?;
        self.heard();
        let granted = self.granted(&reply, FREE);
        if let (Some(grant), Some(_)) = (&granted, ttl) {
            self.ends(grant);
        }
        Ok(granted)
    }

    fn granted(&self, reply: &Reply, reference: &'static str) -> Option<Grant> {
        if reply.status == 201 {
            return Some(self.take(reply, reference));
        }
        self.not_odd("buy", reply);
        None
    }

    fn take(&self, reply: &Reply, reference: &'static str) -> Grant {
        let answer = reply.json();
        let id = word(&answer, "/id");
        note(&self.seen, |seen| seen.grants.push((id.clone(), false)));
        let token = secret::at(&answer, "/token").unwrap_or_else(|| panic!("no token: {answer}"));
        Grant { id, reference, token }
    }

    /// The prim swaps the grant's token for a key.
    pub(crate) async fn resolve(&self, grant: &Grant) -> Result<Option<Key>, Gone> {
        let narrowing = Narrowing {
            prims: vec![PRIM.parse().unwrap()],
            until: Some(SystemClock::default().now().plus(Ttl::from_mins(4))),
            ..Narrowing::default()
        };
        let narrowed = token::attenuate(&grant.token, &narrowing).unwrap();
        let body = json!({ "items": [{ "reference": grant.reference }] });
        let request = Request::post(&["v1", "resolve"]).bearer(narrowed).json(&body);
        let mut reply = self.prim.send_any(&request).await?;
        // Deciding on a token may take 50 ms of wall time; on a machine this busy it may not be enough.
        while word(&reply.json(), "/code") == "overloaded" {
            pause().await;
            reply = self.prim.send_any(&request).await?;
        }
        self.heard();
        if reply.status != 200 {
            self.not_odd("resolve", &reply);
            return Ok(None);
        }
        let answer = reply.json();
        let key = Key {
            lease: word(&answer, "/data/0/lease_id"),
            event: word(&answer, "/data/0/event"),
            secret: word(&answer, "/data/0/credential/fields/api_key"),
        };
        note(&self.seen, |seen| seen.keys.push(key.clone()));
        Ok(Some(key))
    }

    pub(crate) async fn end_lease(&self, key: &Key) -> Result<(), Gone> {
        let request = Request::post(&["v1", "leases", &key.lease, "revoke"]).json(&json!({}));
        let reply = self.prim.send_any(&request).await?;
        self.heard();
        self.confirmed(&reply, &key.secret);
        Ok(())
    }

    pub(crate) async fn end_grant(&self, grant: &Grant) -> Result<(), Gone> {
        self.ends(grant);
        let request = Request::post(&["v1", "grants", &grant.id, "revoke"]).json(&json!({}));
        let reply = self.agent.send_any(&request).await?;
        self.heard();
        self.not_odd("revoke", &reply);
        Ok(())
    }

    fn ends(&self, grant: &Grant) {
        note(&self.seen, |seen| {
            for (_, ended) in seen.grants.iter_mut().filter(|(id, _)| *id == grant.id) {
                *ended = true;
            }
        });
    }

    fn confirmed(&self, reply: &Reply, secret: &str) {
        self.not_odd("revoke", reply);
        if reply.status == 200 && reply.json()["confirmed"] == true {
            note(&self.seen, |seen| seen.dead.push(secret.to_owned()));
        }
    }

    /// Success, or a vendor that was told to fail.
    fn not_odd(&self, what: &str, reply: &Reply) {
        let code = word(&reply.json(), "/code");
        let told_to = matches!(code.as_str(), "vendor_unavailable" | "payment_credited");
        let over = self.brief && matches!(code.as_str(), "grant_expired" | "invalid_token");
        let in_trouble = self.rough && (reply.status >= 500 || reply.status == 202);
        if !matches!(reply.status, 200 | 201) && !told_to && !over && !in_trouble {
            note(&self.seen, |seen| {
                seen.odd.push(format!(
                    "{what}: {} {code} {}",
                    reply.status,
                    word(&reply.json(), "/detail")
                ));
            });
        }
    }
}

impl Payment {
    fn request(&self) -> Request {
        Request::post(&["v1", "grants"])
            .json(&self.body)
            .header(payment::PAYMENT_SIGNATURE, &self.header)
    }
}

/// A number below `end`.
pub(crate) fn below(random: &dyn Random, end: u64) -> u64 {
    u64::from_le_bytes(bytes::<8>(random)) % end
}
