//! The client library against a whole instance, as prims, agents and verifiers use it.

use std::sync::Arc;

use dekeys::base::id::{GrantId, PrincipalId};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::token::Use;
use dekeys::client::{Agent, Client, Followed, Keys, Prim, PrimError, Request, Verifier, VerifyError, secret};
use dekeys::mock::Fault;
use dekeys::model::claims::UseKind;
use dekeys::setup::stage::{self, PRIM};
use dekeys::token::{MintAsk, TokenError, mint};
use serde_json::json;

use crate::support::session::plain_http;
use crate::support::{Bought, READ, TestApp, WRITE, pinned, policy, send, until};

#[path = "../../examples/prim.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod example;

async fn prim(app: &TestApp) -> Prim {
    Prim::connect(&app.stage.server.url, app.stage.key_file(PRIM))
        .await
        .unwrap()
}

async fn bought(app: &TestApp) -> Bought {
    app.buy(json!({ "reference": READ })).await
}

fn wanted(prim: &str) -> Use {
    Use {
        reference: READ.parse().unwrap(),
        kind: UseKind::Resolve,
        prim: Some(prim.parse().unwrap()),
        method: None,
        path: None,
    }
}

/// How often the instance was asked to resolve.
async fn resolves(app: &TestApp) -> usize {
    app.events("lease.").await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prim_resolves_once_and_shows_a_new_token_without_getting_the_key_again() {
    let app = TestApp::start().await;
    let grant = bought(&app).await;
    let prim = prim(&app).await;
    assert_eq!(prim.name().as_str(), PRIM);
    let token = pinned(&grant.token, PRIM);
    let one = prim.resolve(READ, &token).await.unwrap();
    let (name, value) = one.header().unwrap();
    assert!(name == "authorization" && value.is_sensitive());
    let live = app.stage.vendor.live_keys();
    assert_eq!(value.to_str().unwrap(), format!("Bearer {}", live[0].secret));
    let asked = resolves(&app).await;
    assert!(Arc::ptr_eq(&one, &prim.resolve(READ, &token).await.unwrap()));
    assert_eq!(resolves(&app).await, asked, "nobody was asked");
    // Another token of the grant is shown to the instance; the key is not sent again.
    let two = prim.resolve(READ, &pinned(&grant.token, PRIM)).await.unwrap();
    assert!(Arc::ptr_eq(&one, &two));
    let events = app.events("lease.resolved").await;
    assert_eq!(events[0].pointer("/event/data/unchanged"), Some(&json!(true)));
    // One grant's key is not another's.
    let other = prim
        .resolve(READ, &pinned(&bought(&app).await.token, PRIM))
        .await
        .unwrap();
    assert_ne!(other.lease_id, one.lease_id);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_want_the_same_key_at_once_wait_for_one_request() {
    let app = TestApp::start().await;
    let token = Arc::new(pinned(&bought(&app).await.token, PRIM));
    let prim = Arc::new(prim(&app).await);
    let tasks = (0..50).map(|_| {
        let (prim, token) = (Arc::clone(&prim), Arc::clone(&token));
        tokio::spawn(async move { prim.resolve(READ, &token).await.unwrap().lease_id })
    });
    let leases = futures_util::future::join_all(tasks).await;
    let first = *leases[0].as_ref().unwrap();
    assert!(leases.iter().all(|lease| *lease.as_ref().unwrap() == first));
    assert_eq!(resolves(&app).await, 1, "one request for fifty");
    app.stop().await;
}

/// A token of this instance with another prim as its audience.
fn for_another(app: &TestApp) -> SecretText {
    let opened = app.stage.server.app.opened().unwrap();
    let now = SystemClock::default().now();
    let ask = MintAsk {
        instance: opened.instance.id,
        mode: opened.instance.mode,
        grant: GrantId::new(now, &OsRandom),
        principal: PrincipalId::new(now, &OsRandom),
        holder: None,
        rights: &[("demo".parse().unwrap(), "echo:read".parse().unwrap())],
        audience: &["prim-other".parse().unwrap()],
        now,
        expires: now.plus(Ttl::from_mins(5)),
    };
    mint(&opened.roots, &ask).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_cannot_be_good_are_refused_before_anybody_is_asked() {
    let app = TestApp::start().await;
    let prim = prim(&app).await;
    let refused = prim.resolve(READ, &for_another(&app)).await.err().unwrap();
    assert!(matches!(refused, PrimError::Audience(_)), "{refused}");
    let none = SecretText::new("dkt_test_AAAA".to_owned());
    assert!(matches!(prim.resolve(READ, &none).await, Err(PrimError::Token(_))));
    assert!(matches!(
        prim.resolve("openai", &none).await,
        Err(PrimError::Reference(_))
    ));
    assert_eq!(app.events("lease.").await.len(), 0);
    // What only the instance knows, it says: this one is not pinned.
    let refused = prim.resolve(READ, &bought(&app).await.token).await.err().unwrap();
    assert_eq!(refused.refused().unwrap().code, "insufficient_scope");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_the_vendor_refuses_is_reported_and_the_work_done_once_more() {
    let app = TestApp::start().await;
    let token = pinned(&bought(&app).await.token, PRIM);
    let prim = prim(&app).await;
    let http = plain_http();
    let status = |answer: &u16| *answer;
    let probe = |key: Arc<dekeys::client::Resolved>| {
        let request = http.get(key.base_url.join("key").unwrap()).headers(key.headers());
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(prim.call(READ, &token, status, probe).await.unwrap(), 200);
    let dead = app.stage.vendor.live_keys()[0].id.clone();
    let root = &app.stage.vendor.root_fields()[0].1;
    let url = app.stage.vendor.url().join(&format!("keys/{dead}")).unwrap();
    http.delete(url).bearer_auth(root).send().await.unwrap();
    assert_eq!(
        prim.call(READ, &token, status, probe).await.unwrap(),
        200,
        "with the key in its place"
    );
    assert_eq!(app.events("lease.credential_replaced").await.len(), 1);
    // A 401 with a live key is the vendor's answer, after one try.
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let stubborn = |_key| {
        tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { 401u16 }
    };
    assert_eq!(prim.call(READ, &token, status, stubborn).await.unwrap(), 401);
    assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prim_outlives_its_session_and_the_server() {
    let app = TestApp::start().await;
    let grant = bought(&app).await;
    let prim = prim(&app).await;
    prim.resolve(READ, &pinned(&grant.token, PRIM)).await.unwrap();
    assert!(!app.events("session.opened").await.is_empty());
    // Sealing ends all sessions.
    let admin = stage::client(&app.stage.server.admin, Some(&app.stage.cast.operator)).unwrap();
    send(&admin, Request::post(&["v1", "sys", "seal"]).json(&json!({})))
        .await
        .good();
    let refused = prim.resolve(READ, &pinned(&grant.token, PRIM)).await.err().unwrap();
    assert_eq!(refused.refused().unwrap().code, "vault_sealed");
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    prim.resolve(READ, &pinned(&grant.token, PRIM)).await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_refuses_what_ended_within_two_seconds_and_everything_when_it_hears_nothing() {
    let app = TestApp::start().await;
    let (one, two) = (bought(&app).await, bought(&app).await);
    let followed = Followed::start(Arc::new(app.prim())).await.unwrap();
    let now = || SystemClock::default().now();
    let token = pinned(&one.token, PRIM);
    followed.check(&token, &wanted(PRIM), now()).unwrap();
    let refused = |token, prim| followed.check(token, &wanted(prim), now()).unwrap_err();
    assert!(matches!(
        refused(&token, "prim-other"),
        VerifyError::Token(TokenError::Narrowed { .. })
    ));
    assert!(matches!(
        followed.check(&token, &wanted(PRIM), now().plus(Ttl::from_mins(9))),
        Err(VerifyError::Stale { .. })
    ));
    // Ended here, known there.
    let end = Request::post(&["v1", "token", "revoke"]).form(&[("token", &token)]);
    send(&app.agent(), end).await.good();
    let end = Request::post(&["v1", "grants", &two.id, "revoke"]).json(&json!({}));
    send(&app.agent(), end).await.good();
    until("the ends to be heard", async || {
        let ended = |token| followed.check(token, &wanted(PRIM), now()) == Err(VerifyError::Revoked);
        (ended(&token) && ended(&pinned(&two.token, PRIM))).then_some(())
    })
    .await;
    let sibling = pinned(&one.token, PRIM);
    followed.check(&sibling, &wanted(PRIM), now()).unwrap();
    // The instance falls silent.
    app.stage.server.stop().await;
    let silent = until("the knowledge to get old", async || {
        match followed.check(&sibling, &wanted(PRIM), now()) {
            Err(VerifyError::Stale { age }) => age,
            _ => None,
        }
    })
    .await;
    assert!(silent > Ttl::from_secs(5), "{silent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_verifier_refuses_expired_foreign_and_unheard_of() {
    let app = TestApp::start().await;
    let foreign = TestApp::start().await;
    let now = SystemClock::default().now();
    let read = async |app: &TestApp| {
        let keys = send(&app.anyone(), Request::get(&[".well-known", "dekeys-keys.json"])).await;
        let page = send(&app.prim(), Request::get(&["v1", "revocations"])).await;
        (Keys::parse(&keys.body).unwrap(), page)
    };
    let (keys, page) = read(&app).await;
    let token = pinned(&bought(&app).await.token, PRIM);
    let verifier = Verifier::new(keys).max_age(Ttl::from_mins(60));
    let check = |token: &SecretText, at| verifier.check(token, &wanted(PRIM), at).err();
    assert_eq!(
        check(&token, now),
        Some(VerifyError::Stale { age: None }),
        "nothing heard yet"
    );
    let statement = page.headers["dekeys-statement"].to_str().unwrap();
    verifier.take(&page.body, statement).unwrap();
    assert_eq!(check(&token, now), None);
    assert!(matches!(
        check(&token, now.plus(Ttl::from_mins(5))),
        Some(VerifyError::Token(
            TokenError::Expired { .. } | TokenError::Narrowed { .. }
        ))
    ));
    let others = pinned(&bought(&foreign).await.token, PRIM);
    assert!(matches!(check(&others, now), Some(VerifyError::Token(_))));
    let (_, page) = read(&foreign).await;
    let statement = page.headers["dekeys-statement"].to_str().unwrap();
    assert!(verifier.take(&page.body, statement).is_err());
    app.stop().await;
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifying_prim_asks_once_for_all_tokens_of_a_grant() {
    let app = TestApp::start().await;
    let grant = bought(&app).await;
    let prim = prim(&app).await.verifying().await.unwrap();
    let one = prim.resolve(READ, &pinned(&grant.token, PRIM)).await.unwrap();
    let asked = resolves(&app).await;
    for _ in 0..10 {
        assert!(Arc::ptr_eq(
            &one,
            &prim.resolve(READ, &pinned(&grant.token, PRIM)).await.unwrap()
        ));
    }
    assert_eq!(resolves(&app).await, asked);
    let refused = prim.resolve(WRITE, &pinned(&grant.token, PRIM)).await.err().unwrap();
    assert!(
        matches!(refused, PrimError::Token(VerifyError::Token(TokenError::NotGranted))),
        "{refused}"
    );
    // Its kept key is gone with the grant.
    let end = Request::post(&["v1", "grants", &grant.id, "revoke"]).json(&json!({}));
    send(&app.agent(), end).await.good();
    until("the end to be heard", async || {
        let refused = prim.resolve(READ, &pinned(&grant.token, PRIM)).await.err()?;
        matches!(refused, PrimError::Token(VerifyError::Revoked)).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_keeps_its_token_fresh_narrows_renews_and_ends_its_grant() {
    let free = policy("demo-readers", "echo:read", &[PRIM], "");
    let free = free.replace("wallets = [\"eip155:84532:*\"]", "principals = [\"agent-free\"]");
    let app = TestApp::with(&free, |_| {}).await;
    let key = app.enroll("agent-free", "agent").await;
    let client = || -> Client { app.client(Some(&key)) };
    let body = json!({ "reference": READ, "ttl": "2m", "public_key": key.public() });
    let grant = send(&client(), Request::post(&["v1", "grants"]).json(&body))
        .await
        .good();
    let agent = Agent::of(client(), secret::at(&grant, "/token").unwrap()).unwrap();
    assert_eq!(agent.grant().to_string(), grant["id"].as_str().unwrap());
    let prim = prim(&app).await;
    prim.resolve(READ, &agent.token_for(PRIM).await.unwrap()).await.unwrap();
    let before = dekeys::base::time::Timestamp::parse_rfc3339(grant["expires"].as_str().unwrap()).unwrap();
    assert!(agent.renew(Some(Ttl::from_mins(10))).await.unwrap() > before);
    let fresh = agent.fresh_token().await.unwrap();
    let seen = dekeys::client::token::inspect(&fresh, None).unwrap();
    assert!(seen.until > before, "a fresh token lives as long as the grant");
    let minted = app.events("token.minted").await.len();
    for _ in 0..5 {
        agent.token_for(PRIM).await.unwrap();
    }
    assert_eq!(
        app.events("token.minted").await.len(),
        minted,
        "one that is good is narrowed, not fetched"
    );
    agent.revoke("done").await.unwrap();
    assert!(prim.resolve(READ, &agent_token(&fresh)).await.is_err());
    app.stop().await;
}

fn agent_token(token: &SecretText) -> SecretText {
    pinned(token, PRIM)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_prim_serves_an_agent() {
    let app = TestApp::start().await;
    let grant = bought(&app).await;
    let service = example::Service {
        prim: prim(&app).await.verifying().await.unwrap(),
        vendor: plain_http(),
    };
    let listener = tokio::net::TcpListener::bind(crate::support::any_port()).await.unwrap();
    let url = format!("http://{}/echo", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, example::router(service)).await });
    let ask = async |token: Option<&SecretText>| {
        let request = plain_http().get(&url);
        let request = match token {
            Some(token) => request.bearer_auth(secret::shown(token)),
            None => request,
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = ask(Some(&pinned(&grant.token, PRIM))).await;
    assert_eq!((status, body.as_str()), (200, r#"{"vendor":200}"#));
    assert_eq!(ask(None).await.0, 401);
    assert_eq!(ask(Some(&pinned(&grant.token, "prim-other"))).await.0, 401);
    // No key in what the agent sees, whatever the vendor does.
    app.stage.vendor.fault(Fault {
        op: "route".to_owned(),
        status: Some(500),
        count: Some(1),
        ..Fault::default()
    });
    let (_, body) = ask(Some(&pinned(&grant.token, PRIM))).await;
    assert!(!body.contains(&app.stage.vendor.live_keys()[0].secret));
    server.abort();
    app.stop().await;
}
