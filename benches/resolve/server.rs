//! The process under load: a whole instance made by `setup::stage`, and beside it the floor: what the same HTTP
//! library takes for reading a bearer token and a small JSON body and answering JSON.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use dekeys::base::id::{CredentialId, EventId, GrantId, LeaseId, PrincipalId, RequestId, RootId};
use dekeys::base::random::OsRandom;
use dekeys::base::time::Ttl;
use dekeys::client::{Request, approval, secret};
use dekeys::model::approval::Verdict;
use dekeys::model::policy::Rate;
use dekeys::service::{App, unseal};
use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, Cast, Stage};
use dekeys::store::writer::{ResolveAsk, ResolveOutcome};
use dekeys::vault::UnsealKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{Outcome, process};

/// The policy under which everything is measured: its limits are counted and never reached.
const POLICY: &str = r#"
name = "bench"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["*"]
[grant]
max_ttl = "1h"
max_resolves = 1000000000
[reveal]
prims = ["prim-echo"]
max_lease = "1h"
[limits]
live_leases = 1000000
rate = "1000000/s"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#;

/// What the writer is asked for, without HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WriterLoad {
    /// How many ask at once.
    pub(crate) clients: u32,
    /// How often each.
    pub(crate) each: u32,
    /// For which grants, in turn.
    pub(crate) grants: Vec<GrantId>,
    /// By which prim.
    pub(crate) prim: PrincipalId,
    /// Whether each ask brings a nonce, as one signed with a key does.
    pub(crate) nonce: bool,
}

/// Runs the instance until standard input ends. Each line on it is a [`WriterLoad`], answered by a line.
pub(crate) fn run(database: &str, dir: &Path) -> Outcome<()> {
    tokio::runtime::Runtime::new()?.block_on(serve(database, dir))
}

async fn serve(database: &str, dir: &Path) -> Outcome<()> {
    let stage = prepare(database, dir).await?;
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let floor = listener.local_addr()?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new().route("/floor", post(answer));
    tokio::spawn(dekeys::http::listen(
        listener,
        router,
        dekeys::http::Limits::default(),
        std::future::pending(),
    ));
    say(&json!({ "url": stage.server.url, "floor": floor.to_string() }))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let load = serde_json::from_str(&line)?;
        say(&write(&stage.server.app, load).await?)?;
    }
    stage.server.stop().await;
    Ok(())
}

fn say(value: &Value) -> Outcome<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

#[derive(Deserialize)]
struct Asked<'b> {
    #[serde(borrow)]
    items: Vec<AskedItem<'b>>,
}

#[derive(Deserialize)]
struct AskedItem<'b> {
    reference: &'b str,
}

#[derive(Serialize)]
struct Answered<'b> {
    object: &'static str,
    reference: &'b str,
    bearer: usize,
}

/// The floor.
async fn answer(headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let asked = serde_json::from_slice::<Asked<'_>>(&body).ok();
    let (Some(bearer), Some(item)) = (bearer, asked.as_ref().and_then(|asked| asked.items.first())) else {
        return (
            StatusCode::BAD_REQUEST,
            [(header::CONTENT_TYPE, "application/json")],
            Vec::new(),
        );
    };
    let answered = Answered {
        object: "floor",
        reference: item.reference,
        bearer: bearer.len(),
    };
    let json = serde_json::to_vec(&answered).unwrap_or_default();
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], json)
}

/// An instance that is ready, under [`POLICY`].
async fn prepare(database: &str, dir: &Path) -> Outcome<Stage> {
    let cast = Cast::new()?;
    let mut config = stage::config(dir, SocketAddr::from(([127, 0, 0, 1], 0)));
    if database != "sqlite" {
        database.clone_into(&mut config.database_url);
    }
    let key = UnsealKey::generate_key_file(&OsRandom);
    stage::make(&config, &cast, UnsealKey::parse_key_file(&key)?).await?;
    secret::write_new(&dir.join("unseal-key"), &key)?;
    let server = Server::start(&config).await?;
    unseal::unseal(&server.app, UnsealKey::parse_key_file(&key)?).await?;
    let stage = Stage {
        server,
        vendor: stage::start_vendor(None).await?,
        cast,
        data_dir: dir.to_path_buf(),
    };
    stage.keep_keys()?;
    stage.connect_vendor().await?;
    stage.enroll_prim().await?;
    enroll_agent(&stage).await?;
    approve(&stage).await?;
    Ok(stage)
}

async fn enroll_agent(stage: &Stage) -> Outcome<()> {
    let operator = stage::client(&stage.server.url, Some(&stage.cast.operator))?;
    let body = json!({ "name": "bencher", "kind": "agent", "public_keys": [stage.cast.agent.public()] });
    operator.send(&Request::post(&["v1", "principals"]).json(&body)).await?;
    Ok(())
}

async fn approve(stage: &Stage) -> Outcome<()> {
    let operator = stage::client(&stage.server.url, Some(&stage.cast.operator))?;
    let body = json!({ "text": POLICY, "reason": "to measure" });
    let request = Request::put(&["v1", "policies", "bench"]).json(&body);
    let proposal = operator.send(&request).await?.json();
    let text = |name: &str| {
        proposal
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (id, digest) = (text("approval"), text("digest").parse()?);
    for (_, key) in &stage.cast.approvers {
        let approver = stage::client(&stage.server.url, Some(key))?;
        let review = approval::review(key, id.parse()?, digest, Verdict::Approve, "to measure");
        approver
            .send(&Request::post(&["v1", "approvals", &id, "reviews"]).json(&review))
            .await?;
    }
    Ok(())
}

/// The writer alone: what HTTP, proof and decision put on top shows against this.
async fn write(app: &App, load: WriterLoad) -> Outcome<Value> {
    let load = Arc::new(load);
    let me = std::process::id();
    let (before, began) = (process::cpu_micros(me)?, Instant::now());
    let tasks: Vec<_> = (0..load.clients)
        .map(|client| tokio::spawn(ask(app.clone(), Arc::clone(&load), client)))
        .collect();
    for task in tasks {
        task.await??;
    }
    let asked = f64::from(load.clients * load.each);
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), process::cpu_micros(me)? - before);
    Ok(json!({ "rate": asked / elapsed, "cpu": cpu / asked }))
}

async fn ask(app: App, load: Arc<WriterLoad>, client: u32) -> Outcome<()> {
    let rate = Rate {
        count: 1_000_000,
        per: Ttl::from_secs(1),
    };
    let mut grants = load.grants.iter().cycle().skip(usize::try_from(client)?);
    let grant = *grants.next().ok_or("no grant")?;
    let revocation_ids = vec![format!("{client:0128x}"), format!("{:0128x}", client + 1_000_000)];
    for _ in 0..load.each {
        let (now, random) = (app.now(), app.random.as_ref());
        let event = EventId::new(now, random);
        let until = now.plus(Ttl::from_mins(2));
        let nonce = || {
            (
                "holder of the key#dk://demo/echo:read".to_owned(),
                event.to_string(),
                until,
            )
        };
        let ask = ResolveAsk {
            grant,
            item: 0,
            prim: load.prim,
            vendor: "demo".parse()?,
            policy: "bench".parse()?,
            root: RootId::new(now, random),
            scopes: vec!["echo:read".parse()?],
            now,
            grant_expires: now.plus(Ttl::from_mins(60)),
            max_resolves: 1_000_000_000,
            lease_until: now.plus(Ttl::from_mins(5)),
            payers: vec![grant.to_string()],
            rate: Some(rate),
            live_leases: Some(1_000_000),
            known: None,
            nonce: load.nonce.then(nonce),
            revocation_ids: revocation_ids.clone(),
            new_lease: LeaseId::new(now, random),
            new_credential: CredentialId::new(now, random),
            new_name: String::new(),
            event,
            actor: load.prim.to_string(),
            livemode: false,
            request_id: Some(RequestId::new(now, random)),
            forward: None,
        };
        match app.writer.resolve(ask).await? {
            ResolveOutcome::Released { .. } => {}
            other => return Err(format!("not released: {other:?}").into()),
        }
    }
    Ok(())
}
