//! Tokens that do not fit: a narrowed one is told which block, all others hear one and the same word.

use dekeys::base::id::GrantId;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock, SystemClock, Timestamp, Ttl};
use dekeys::client::{Request, secret, token};
use dekeys::model::instance::Mode;
use dekeys::setup::stage::PRIM;
use dekeys::token::{MintAsk, Narrowing, mint};
use serde_json::json;

use crate::support::{Bought, READ, Seen, TestApp, WRITE, pinned, priced, send};

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn narrowed(token: &SecretText, narrowing: &Narrowing) -> SecretText {
    token::attenuate(token, narrowing).unwrap()
}

async fn try_it(app: &TestApp, token: &SecretText) -> Seen {
    let seen = app.resolve(&app.stage.cast.prim, token, READ).await;
    assert_eq!(seen.key(), None, "a key for a token that does not fit");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_block_took_away_is_refused_and_the_block_named() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let narrowings = [
        Narrowing {
            vendors: vec!["openrouter".parse().unwrap()],
            ..Narrowing::default()
        },
        Narrowing {
            prims: vec!["prim-other".parse().unwrap()],
            ..Narrowing::default()
        },
        Narrowing {
            scopes: vec!["echo:write".parse().unwrap()],
            ..Narrowing::default()
        },
        Narrowing {
            until: Some(now().minus(Ttl::from_secs(2))),
            ..Narrowing::default()
        },
        Narrowing {
            uses: vec![dekeys::model::claims::UseKind::Forward],
            ..Narrowing::default()
        },
    ];
    for narrowing in &narrowings {
        let less = narrowed(&bought.token, narrowing);
        // As the first block, and hidden behind a harmless one.
        for (block, token) in [
            (1, pinned(&less, PRIM)),
            (2, narrowed(&pinned(&bought.token, PRIM), narrowing)),
        ] {
            let seen = try_it(&app, &token).await;
            seen.is(403, "insufficient_scope");
            assert_eq!(seen.json["block"], block, "{narrowing:?}: {}", seen.json);
            assert!(
                seen.text("/detail").contains(&format!("block {block}")),
                "{}",
                seen.json
            );
            let challenge = seen.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.contains("insufficient_scope"), "{challenge}");
        }
    }
    // The same token, less narrowed, works: it was the block.
    app.key_of(&bought).await;
    let pinned = pinned(&bought.token, PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &pinned, WRITE).await;
    seen.is(403, "insufficient_scope");
    assert_eq!(seen.json.get("block"), None, "the grant itself leaves it out");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_a_short_pin_to_this_prim_is_refused() {
    let app = TestApp::start().await;
    let other = app.enroll("prim-two", "prim").await;
    let text = priced("demo-readers", "echo:read", &[PRIM, "prim-two"], "0.01");
    app.stage.put_in_force(&text).await.unwrap();
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let to = |prims: &[&str], minutes: Option<i64>| {
        let narrowing = Narrowing {
            prims: prims.iter().map(|prim| prim.parse().unwrap()).collect(),
            until: minutes.map(|minutes| now().plus(Ttl::from_mins(minutes))),
            ..Narrowing::default()
        };
        narrowed(&bought.token, &narrowing)
    };
    for token in [
        to(&[], None),
        to(&[], Some(4)),
        to(&[PRIM], None),
        to(&[PRIM], Some(9)),
        to(&[PRIM, "prim-two"], Some(4)),
    ] {
        let seen = try_it(&app, &token).await;
        seen.is(403, "insufficient_scope");
    }
    // Stolen on the way to one prim, it is no use to another.
    let seen = app.resolve(&other, &to(&[PRIM], Some(4)), READ).await;
    assert_eq!((seen.status, seen.key()), (403, None), "{}", seen.json);
    assert!(
        app.resolve(&other, &to(&["prim-two"], Some(4)), READ)
            .await
            .key()
            .is_some()
    );
    // A prim that no policy names, with a token that names it.
    let third = app.enroll("prim-three", "prim").await;
    let seen = app.resolve(&third, &to(&["prim-three"], Some(4)), READ).await;
    seen.is(403, "not_allowed");
    app.stop().await;
}

/// A token of this instance's true key, whatever it says.
fn minted(app: &TestApp, bought: &Bought, grant: &str, expires: Timestamp) -> SecretText {
    let opened = app.stage.server.app.opened().unwrap();
    let rights = [("demo".parse().unwrap(), "echo:read".parse().unwrap())];
    let ask = MintAsk {
        instance: opened.instance.id,
        mode: Mode::Test,
        grant: grant.parse().unwrap(),
        principal: bought.json["principal"].as_str().unwrap().parse().unwrap(),
        holder: Some(app.stage.cast.agent.public()),
        rights: &rights,
        audience: &[],
        now: expires.minus(Ttl::from_mins(5)),
        expires,
    };
    mint(&opened.roots, &ask).unwrap()
}

/// Everything an answer says, but for its id and date.
fn said(seen: &Seen) -> (u16, Vec<(String, String)>, String) {
    let id = seen.headers["request-id"].to_str().unwrap().to_owned();
    assert!(id.starts_with("req_"), "{id}");
    let mut headers: Vec<(String, String)> = seen
        .headers
        .iter()
        .filter(|(name, _)| !["date", "request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let body = String::from_utf8(seen.body.clone()).unwrap();
    (seen.status, headers, body.replace(&id, "ID"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_expired_revoked_and_foreign_tokens_are_answered_alike() {
    let (app, foreign) = (TestApp::start().await, TestApp::start().await);
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let others = foreign.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let (hour, none) = (Ttl::from_mins(60), GrantId::new(now(), &dekeys::base::random::OsRandom));
    // What the test mints itself is good: only what is wrong with the others counts.
    let good = pinned(&minted(&app, &bought, &bought.id, now().plus(Ttl::from_mins(5))), PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &good, READ).await;
    assert!(seen.key().is_some(), "{}", seen.json);

    let revoked = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let warm = pinned(&revoked.token, PRIM);
    assert!(app.resolve(&app.stage.cast.prim, &warm, READ).await.key().is_some());
    let revoke = Request::post(&["v1", "grants", &revoked.id, "revoke"]).json(&json!({}));
    send(&app.agent(), revoke).await.good();

    let text = secret::shown(&bought.token);
    // One letter in the middle is another.
    let middle = text.len() / 2;
    let other = |(at, letter)| match (at == middle, letter) {
        (true, 'A') => 'B',
        (true, _) => 'A',
        (false, letter) => letter,
    };
    let forged: String = text.chars().enumerate().map(other).collect();
    let cases = [
        ("revoked, seen before", warm),
        ("revoked, first sight", pinned(&revoked.token, PRIM)),
        ("foreign", pinned(&others.token, PRIM)),
        ("forged", SecretText::new(forged)),
        ("garbage", SecretText::new("dkt_test_AAAA".to_owned())),
        ("no token", SecretText::new("x".to_owned())),
        ("live", SecretText::new(text.replacen("dkt_test_", "dkt_live_", 1))),
        (
            "expired",
            pinned(&minted(&app, &bought, &bought.id, now().minus(hour)), PRIM),
        ),
        (
            "of no grant",
            pinned(
                &minted(&app, &bought, &none.to_string(), now().plus(Ttl::from_mins(5))),
                PRIM,
            ),
        ),
    ];
    let mut first = None;
    for (name, token) in cases {
        let seen = try_it(&app, &token).await;
        seen.is(401, "invalid_token");
        let said = said(&seen);
        assert_eq!(first.get_or_insert_with(|| said.clone()), &said, "{name}");
    }
    app.stop().await;
    foreign.stop().await;
}
