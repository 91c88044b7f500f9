//! The demo: the whole promise in eleven steps, on this machine only. Each step does what a user would do, over HTTP.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::SetupError;
use super::stage::{self, Cast, PRIM, Stage, ask, client, failed};
use crate::audit;
use crate::base::money::{Currency, Money};
use crate::base::random::{OsRandom, bytes};
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::time::{Clock, SystemClock, Ttl};
use crate::client::{Client, Request, inject, secret, token};
use crate::payment;
use crate::token::Narrowing;
use crate::vault::UnsealKey;

/// What the agent asks for.
const REFERENCE: &str = "dk://demo/echo:read";

/// One step that was done.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// 1 to 11.
    pub n: u8,
    /// Its name.
    pub name: &'static str,
    /// Whether it went as it should.
    pub ok: bool,
    /// How long it took.
    pub ms: f64,
    /// What happened, one line each, for people.
    #[serde(skip)]
    pub words: Vec<String>,
    /// What happened, for programs.
    pub detail: Value,
}

/// A demo that was played.
pub struct Played {
    /// The eleven steps.
    pub steps: Vec<Step>,
    /// The receipt, as it was given out.
    pub receipt: Option<String>,
    /// The same, in words.
    pub receipt_words: String,
    /// Where the receipt was saved.
    pub receipt_file: PathBuf,
    /// The instance, still running.
    pub stage: Stage,
}

impl Played {
    /// Whether the key worked before the revocation, was refused after it, and the receipt verifies.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.steps.len() == 11 && self.steps.iter().all(|step| step.ok)
    }
}

/// Counts and times the steps, and tells them as they happen.
struct Teller<'a> {
    steps: Vec<Step>,
    began: Instant,
    tell: &'a mut dyn FnMut(&Step),
}

impl Teller<'_> {
    fn step(&mut self, name: &'static str, ok: bool, words: Vec<String>, detail: Value) {
        let n = u8::try_from(self.steps.len()).unwrap_or(u8::MAX).saturating_add(1);
        let ms = (self.began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let step = Step {
            n,
            name,
            ok,
            ms,
            words,
            detail,
        };
        (self.tell)(&step);
        self.steps.push(step);
        self.began = Instant::now();
    }
}

/// Plays the demo in `data_dir`. The wanted port is taken if it is free, another one if not.
///
/// # Errors
/// [`SetupError`] when a step cannot even be tried; a step that goes otherwise than it should is told as not ok.
pub async fn play(data_dir: PathBuf, port: u16, tell: &mut dyn FnMut(&Step)) -> Result<Played, SetupError> {
    let mut teller = Teller {
        steps: Vec::with_capacity(11),
        began: Instant::now(),
        tell,
    };
    let stage = prepare(&data_dir, port, &mut teller).await?;
    let bought = buy(&stage, &mut teller).await?;
    let narrowed = narrow(&bought, &mut teller)?;
    let lease = resolve(&stage, &narrowed, &mut teller).await?;
    use_key(&stage, &lease, &mut teller).await?;
    revoke(&stage, &lease, &mut teller).await?;
    let (receipt, receipt_words) = prove(&stage, &bought, &mut teller).await?;
    let receipt_file = stage.data_dir.join("receipt.json");
    if let Some(receipt) = &receipt {
        std::fs::write(&receipt_file, receipt).map_err(|source| SetupError::file("write", &receipt_file, source))?;
    }
    Ok(Played {
        steps: teller.steps,
        receipt,
        receipt_words,
        receipt_file,
        stage,
    })
}

/// Steps 1 to 5.
async fn prepare(data_dir: &std::path::Path, port: u16, teller: &mut Teller<'_>) -> Result<Stage, SetupError> {
    let config = stage::config(data_dir, stage::loopback(port));
    let cast = Cast::new()?;
    super::prepare_data_dir(data_dir)?;
    let store = crate::store::Store::open(&config.database_url).await?;
    store.migrate().await?;
    let (applied, _) = store.migrations().await?;
    store.close().await;
    let database = data_dir.join("dekeys.db");
    let words = format!("SQLite {}, {applied} migrations", database.display());
    teller.step(
        "store",
        true,
        vec![words],
        json!({ "database": database, "migrations": applied }),
    );

    let file = data_dir.join("passphrase");
    secret::write_new(&file, &UnsealKey::generate_key_file(&OsRandom)).map_err(failed("vault"))?;
    let passphrase = || {
        secret::read_file(&file)
            .map(UnsealKey::Passphrase)
            .map_err(failed("vault"))
    };
    stage::make(&config, &cast, passphrase()?).await?;
    let words = "created under a passphrase (Argon2id 64 MiB, AES-256-GCM)".to_owned();
    teller.step(
        "vault",
        true,
        vec![words],
        json!({ "kdf": "argon2id", "memory_mib": 64, "aead": "aes-256-gcm" }),
    );

    let server = stage::start(&config).await?;
    crate::service::unseal::unseal(&server.app, passphrase()?).await?;
    let url = server.url.clone();
    teller.step(
        "server",
        true,
        vec![format!("{url}, unsealed")],
        json!({ "url": url, "admin_url": server.admin }),
    );

    let vendor = stage::start_vendor(None).await?;
    let stage = Stage {
        server,
        vendor,
        cast,
        data_dir: data_dir.to_path_buf(),
    };
    stage.keep_keys()?;
    let view = stage.connect_vendor().await?;
    let scopes = view.pointer("/scopes").and_then(Value::as_array).map_or(0, Vec::len);
    let words = format!(
        "demo at {}: root credential sealed, {scopes} scopes",
        stage.vendor.url()
    );
    teller.step(
        "vendor",
        true,
        vec![words],
        json!({ "name": "demo", "url": stage.vendor.url().as_str(), "scopes": scopes }),
    );

    stage.enroll_prim().await?;
    let proposal = stage.approve_policy().await?;
    let words = "demo-readers v1: approved by ada and grace, 2 of 2".to_owned();
    let detail = json!({ "policy": "demo-readers", "version": 1, "digest": proposal.get("digest"), "approvers": ["ada", "grace"] });
    teller.step("policy", true, vec![words], detail);
    Ok(stage)
}

struct Bought {
    grant: String,
    token: SecretText,
    receipt: String,
}

/// Step 6: an agent with a wallet and no account: asked to pay, pays, has a grant.
async fn buy(stage: &Stage, teller: &mut Teller<'_>) -> Result<Bought, SetupError> {
    let anyone = client(&stage.server.url, None)?;
    let wallet = SecretBytes::new(bytes::<32>(&OsRandom).to_vec());
    let body = json!({ "reference": REFERENCE, "ttl": "15m", "max_resolves": 100, "audience": [PRIM],
        "reason": "to try dekeys", "public_key": stage.cast.agent.public() });
    let request = || Request::post(&["v1", "grants"]).json(&body);
    let asked = anyone.send_any(&request()).await.map_err(failed("buy"))?;
    let required = asked.header(payment::PAYMENT_REQUIRED).unwrap_or_default();
    let required: Value = data_encoding::BASE64
        .decode(required.as_bytes())
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| failed("buy")(format!("expected 402 with its terms, got {}", asked.status)))?;
    let most = Money::new(1_000_000, Currency::Usdc);
    let header = payment::sign_exact(&wallet, &required, most, None, SystemClock::default().now(), &OsRandom)
        .map_err(failed("buy"))?;
    let paid = anyone
        .send_any(&request().header(payment::PAYMENT_SIGNATURE, &header))
        .await
        .map_err(failed("buy"))?;
    let grant = paid.json();
    let text = |pointer: &str| {
        grant
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let amount = required
        .pointer("/accepts/0/amount")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let network = required
        .pointer("/accepts/0/network")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let ok = asked.status == 402 && paid.status == 201;
    let words = vec![
        format!(
            "POST /v1/grants  {}  {amount} atomic USDC on {network} (test)",
            asked.status
        ),
        format!(
            "POST /v1/grants  {}  {}  15 min, 100 resolves",
            paid.status,
            text("/id")
        ),
    ];
    let payer = payment::payer_address(&wallet).map_err(failed("buy"))?;
    let detail = json!({ "asked": asked.status, "paid": paid.status, "grant": text("/id"), "payer": payer, "amount": amount, "network": network });
    teller.step("buy", ok, words, detail);
    let token = secret::at(&grant, "/token").ok_or_else(|| failed("buy")(format!("no token: {}", text("/detail"))))?;
    Ok(Bought {
        grant: text("/id"),
        token,
        receipt: text("/receipt"),
    })
}

/// Step 7: the agent narrows its token for one prim, offline.
fn narrow(bought: &Bought, teller: &mut Teller<'_>) -> Result<SecretText, SetupError> {
    let until = SystemClock::default().now().plus(Ttl::from_mins(5));
    let narrowing = Narrowing {
        prims: vec![PRIM.parse().map_err(failed("narrow"))?],
        until: Some(until),
        ..Narrowing::default()
    };
    let narrowed = token::attenuate(&bought.token, &narrowing).map_err(failed("narrow"))?;
    let words = format!("agent adds a block: audience {PRIM}, 5 min (offline)");
    teller.step(
        "narrow",
        true,
        vec![words],
        json!({ "prim": PRIM, "until": until, "bytes": narrowed.len() }),
    );
    Ok(narrowed)
}

struct Lease {
    id: String,
    url: String,
    header: String,
    value: http::HeaderValue,
}

/// Step 8: the prim swaps the token for a key.
async fn resolve(stage: &Stage, token: &SecretText, teller: &mut Teller<'_>) -> Result<Lease, SetupError> {
    let prim = client(&stage.server.url, Some(&stage.cast.prim))?;
    let body = json!({ "items": [{ "reference": REFERENCE }] });
    let token = token::attenuate(token, &Narrowing::default()).map_err(failed("resolve"))?;
    let answer = ask(
        "resolve",
        &prim,
        Request::post(&["v1", "resolve"]).bearer(token).json(&body),
    )
    .await?;
    let text = |pointer: &str| {
        answer
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let key = secret::at(&answer, "/data/0/credential/fields/api_key")
        .ok_or_else(|| failed("resolve")("no key in the answer"))?;
    let value = inject::header(&text("/data/0/credential/inject/format"), &key)
        .ok_or_else(|| failed("resolve")("no header value"))?;
    let lease = Lease {
        id: text("/data/0/lease_id"),
        url: text("/data/0/credential/inject/base_url"),
        header: text("/data/0/credential/inject/header"),
        value,
    };
    let seconds = answer
        .pointer("/data/0/lease_duration")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let words = format!("POST /v1/resolve 200  {}  {PRIM} gets a key for {seconds} s", lease.id);
    teller.step(
        "resolve",
        true,
        vec![words],
        json!({ "lease": lease.id, "lease_duration": seconds }),
    );
    Ok(lease)
}

/// Sends the leased key to the vendor, as a prim would.
async fn call_vendor(lease: &Lease) -> Result<(u16, String), SetupError> {
    let egress = crate::base::egress::Egress::new(crate::base::egress::Reach::Loopback)?;
    let url = lease
        .url
        .parse::<url::Url>()
        .and_then(|base| base.join("/echo"))
        .map_err(failed("use"))?;
    let mut outgoing = crate::base::egress::Outgoing::new(http::Method::GET, url);
    let name: http::HeaderName = lease.header.parse().map_err(failed("use"))?;
    outgoing.headers.insert(name, lease.value.clone());
    let answer = egress.send(outgoing).await?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// Step 9: the key works.
async fn use_key(_stage: &Stage, lease: &Lease, teller: &mut Teller<'_>) -> Result<(), SetupError> {
    let (status, body) = call_vendor(lease).await?;
    let words = format!("GET demo-vendor/echo {status}  {body}");
    teller.step(
        "use",
        status == 200,
        vec![words],
        json!({ "status": status, "body": body }),
    );
    Ok(())
}

/// Step 10: the prim gives the lease back; the vendor refuses the key from then on.
async fn revoke(stage: &Stage, lease: &Lease, teller: &mut Teller<'_>) -> Result<(), SetupError> {
    let prim: Client = client(&stage.server.url, Some(&stage.cast.prim))?;
    let body = json!({ "reason": "the demo is over" });
    let ended = ask(
        "revoke",
        &prim,
        Request::post(&["v1", "leases", &lease.id, "revoke"]).json(&body),
    )
    .await?;
    let (status, _) = call_vendor(lease).await?;
    let words = format!("lease revoked; the same key now gets {status} at the vendor");
    let detail = json!({ "state": ended.get("state"), "vendor_status": status });
    teller.step("revoke", status == 401, vec![words], detail);
    Ok(())
}

/// Step 11: the log is whole, and the receipt proves the purchase to anybody with the public key.
async fn prove(
    stage: &Stage,
    bought: &Bought,
    teller: &mut Teller<'_>,
) -> Result<(Option<String>, String), SetupError> {
    while crate::service::checkpoint::advance(&stage.server.app).await? > 0 {}
    let operator = client(&stage.server.url, Some(&stage.cast.operator))?;
    let verified = ask("audit", &operator, Request::post(&["v1", "audit", "verify"])).await?;
    let keys = ask("audit", &operator, Request::get(&["v1", "keys"])).await?;
    let receipt = operator
        .send(&Request::get(&["v1", "receipts", &bought.receipt]))
        .await
        .map_err(failed("audit"))?;
    let receipt = String::from_utf8_lossy(&receipt.body).into_owned();
    let public: audit::LogPublic = keys
        .get("log")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .parse()
        .map_err(failed("audit"))?;
    let keys_file = stage.data_dir.join("keys.json");
    std::fs::write(&keys_file, keys.to_string()).map_err(|source| SetupError::file("write", &keys_file, source))?;
    let verdict = audit::verify(&receipt, &public);
    let whole = verified.get("ok").and_then(Value::as_bool).unwrap_or_default();
    let events = verified.get("events").and_then(Value::as_i64).unwrap_or_default();
    let included = verdict
        .as_ref()
        .is_ok_and(|verdict| matches!(verdict.standing, audit::Standing::Included { .. }));
    let proof = if included {
        "inclusion proof checks"
    } else {
        "the receipt does NOT verify"
    };
    let words = format!("{events} events, checkpoint signed, {proof}");
    let detail = json!({ "events": events, "chain": whole, "receipt": bought.receipt, "grant": bought.grant, "included": included });
    teller.step("audit", whole && included, vec![words], detail);
    let receipt_words = verdict.map(|verdict| verdict.to_string()).unwrap_or_default();
    Ok((Some(receipt), receipt_words))
}
