//! The revocation feed and the published keys, over real HTTP.

use dekeys::base::random::SeededRandom;
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::feed::{Feed, FeedError, Taken};
use dekeys::client::{Client, Keys, Request, token};
use dekeys::model::revocation::STATEMENT_HEADER;
use dekeys::setup::stage::{self, PRIM};
use serde_json::{Value, json};

use super::tokens::second;
use crate::support::session::plain_http;
use crate::support::{READ, Seen, TestApp, pinned, priced, send, until};

async fn keys(app: &TestApp) -> Keys {
    let seen = send(&app.anyone(), Request::get(&[".well-known", "dekeys-keys.json"])).await;
    Keys::parse(&seen.body).unwrap()
}

async fn page(client: &Client, feed: &Feed) -> Seen {
    let request = Request::get(&["v1", "revocations"]).query("after", Some(feed.after()));
    send(client, tagged(request, feed)).await
}

fn tagged(request: Request, feed: &Feed) -> Request {
    match feed.tag() {
        Some(tag) => request.header("if-none-match", &tag),
        None => request,
    }
}

fn statement(seen: &Seen) -> String {
    seen.headers[STATEMENT_HEADER].to_str().unwrap().to_owned()
}

/// Reads until nothing changes any more.
async fn caught_up(client: &Client, feed: &mut Feed) {
    loop {
        let seen = page(client, feed).await;
        if seen.status == 304 {
            return feed.still(&statement(&seen)).unwrap();
        }
        assert_eq!(seen.status, 200, "{}", seen.json);
        feed.take(&seen.body, &statement(&seen)).unwrap();
    }
}

async fn revoke_token(client: &Client, token: &dekeys::base::secret::SecretText) {
    let request = Request::post(&["v1", "token", "revoke"]).form(&[("token", token)]);
    assert_eq!(send(client, request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_tells_what_ended_and_says_nothing_twice() {
    let app = TestApp::start().await;
    let prim = app.prim();
    let keys = keys(&app).await;
    let mut feed = Feed::new(keys.instance, keys.log.clone());
    let now = || SystemClock::default().now();
    assert_eq!(feed.age(now()), None, "nothing read yet");
    caught_up(&prim, &mut feed).await;
    assert!(feed.is_empty() && feed.age(now()).unwrap() < Ttl::from_secs(5));

    let (one, two) = (
        app.buy(json!({ "reference": READ })).await,
        app.buy(json!({ "reference": READ })).await,
    );
    let pin = pinned(&one.token, PRIM);
    revoke_token(&prim, &pin).await;
    let request = Request::post(&["v1", "grants", &two.id, "revoke"]).json(&json!({}));
    send(&app.agent(), request).await.good();
    let seen = page(&prim, &feed).await;
    let data = seen.json["data"].as_array().unwrap();
    let kinds: Vec<_> = data.iter().map(|ended| ended["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["token", "grant"], "in the order of the log");
    assert_eq!(data[1]["id"], json!(two.id));
    feed.take(&seen.body, &statement(&seen)).unwrap();
    let inspect = |token| token::inspect(token, Some(&keys)).unwrap();
    assert!(feed.has_ended(&inspect(&pin)) && feed.has_ended(&inspect(&two.token)));
    assert!(!feed.has_ended(&inspect(&one.token)), "only its narrower one ended");

    // Nothing new: one page without anything, then 304 with a new statement each time.
    caught_up(&prim, &mut feed).await;
    let seen = page(&prim, &feed).await;
    assert_eq!((seen.status, seen.body.len()), (304, 0));
    assert!(seen.headers["cache-control"].to_str().unwrap().contains("no-cache"));
    // Pages may be small.
    let small = Request::get(&["v1", "revocations"]).query("limit", Some(1));
    let small = send(&prim, small).await.good();
    assert_eq!(
        (&small["has_more"], small["data"].as_array().unwrap().len()),
        (&json!(true), 1)
    );
    let next = Request::get(&["v1", "revocations"]).query("after", small["next"].as_i64());
    assert_eq!(send(&prim, next).await.good()["data"][0]["id"], json!(two.id));
    for (query, code) in [("limit", "0"), ("limit", "1001"), ("after", "-1"), ("after", "x")] {
        let refused = send(&prim, Request::get(&["v1", "revocations"]).query(query, Some(code))).await;
        assert_eq!(refused.status, 422, "{query}={code} {}", refused.json);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_believed_by_its_statement_alone() {
    let app = TestApp::start().await;
    let prim = app.prim();
    let keys = keys(&app).await;
    let fresh = || Feed::new(keys.instance, keys.log.clone());
    let empty = page(&prim, &fresh()).await;
    let bought = app.buy(json!({ "reference": READ })).await;
    revoke_token(&prim, &pinned(&bought.token, PRIM)).await;
    let full = page(&prim, &fresh()).await;
    let (old, new) = (statement(&empty), statement(&full));
    // Somebody on the way: an older page, a shorter one, another's statement, a later beginning.
    assert_eq!(fresh().take(&empty.body, &new), Err(FeedError::Digest));
    assert_eq!(fresh().take(&full.body, &old), Err(FeedError::Digest));
    let cut = String::from_utf8(full.body.clone())
        .unwrap()
        .replace("\"token\"", "\"lease\"");
    assert_eq!(fresh().take(cut.as_bytes(), &new), Err(FeedError::Digest));
    let log = dekeys::audit::LogKey::generate(&SeededRandom::new(7));
    let log = dekeys::audit::LogKey::new(&keys.instance.to_string(), &log).unwrap();
    let mut other = Feed::new(keys.instance, log.public().clone());
    assert!(matches!(other.take(&full.body, &new), Err(FeedError::Statement(_))));
    let later = Request::get(&["v1", "revocations"]).query("after", full.json["next"].as_i64());
    let later = send(&prim, later).await;
    assert_eq!(fresh().take(&later.body, &statement(&later)), Err(FeedError::Gap));
    // A 304 for something else, and an old one again: the age counts on.
    let mut feed = fresh();
    assert_eq!(feed.take(&full.body, &new), Ok(Taken::UpToDate));
    assert_eq!(feed.still(&old), Err(FeedError::Digest));
    let now = SystemClock::default().now();
    let age = feed.age(now.plus(Ttl::from_secs(60))).unwrap();
    assert_eq!(feed.take(&full.body, &new), Ok(Taken::UpToDate));
    assert_eq!(
        feed.age(now.plus(Ttl::from_secs(60))),
        Some(age),
        "a repeated page makes nothing younger"
    );
    assert_eq!(
        feed.age(now.minus(Ttl::from_mins(10))),
        None,
        "a statement from far ahead says nothing"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_instance_tells_the_same_at_once() {
    let Some(database) = crate::store::Database::create().await else {
        return;
    };
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url = database.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let server = second(&app, &dir).await;
    let far = stage::client(&server.url, Some(&app.stage.cast.prim)).unwrap();
    let keys = keys(&app).await;
    let mut feed = Feed::new(keys.instance, keys.log.clone());
    let bought = app.buy(json!({ "reference": READ })).await;
    for count in 1..=10 {
        revoke_token(&app.prim(), &pinned(&bought.token, PRIM)).await;
        // The very next question, at the other instance.
        caught_up(&far, &mut feed).await;
        assert_eq!(feed.len(), count);
    }
    server.stop().await;
    app.stop().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_flows() {
    let app = TestApp::start().await;
    let keys = keys(&app).await;
    let mut feed = Feed::new(keys.instance, keys.log.clone());
    let login = app.stage.login().unwrap();
    let url = format!("{}/v1/revocations", app.stage.server.url);
    let request = plain_http()
        .get(&url)
        .bearer_auth(&login)
        .header("accept", "text/event-stream");
    let mut answer = request.send().await.unwrap();
    assert_eq!(
        (
            answer.status().as_u16(),
            answer.headers()["content-type"].to_str().unwrap()
        ),
        (200, "text/event-stream")
    );
    let bought = app.buy(json!({ "reference": READ })).await;
    let pin = pinned(&bought.token, PRIM);
    revoke_token(&app.prim(), &pin).await;
    let wanted = token::inspect(&pin, Some(&keys)).unwrap();
    let mut text = String::new();
    while !feed.has_ended(&wanted) {
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
        while let Some((message, rest)) = text.split_once("\n\n") {
            if let Some(data) = message.lines().find_map(|line| line.strip_prefix("data: ")) {
                let told: Value = serde_json::from_str(data).unwrap();
                let (page, statement) = (told["page"].as_str().unwrap(), told["statement"].as_str().unwrap());
                feed.take(page.as_bytes(), statement).unwrap();
            }
            text = rest.to_owned();
        }
    }
    assert!(feed.age(SystemClock::default().now()).unwrap() < Ttl::from_secs(30));
    // Nobody's stream: a stranger has none.
    let stranger = plain_http()
        .get(&url)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stranger.status().as_u16(), 401);
    drop(answer);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_are_at_well_known_addresses() {
    let app = TestApp::start().await;
    let get = async |path: &str| {
        let url = format!("{}{path}", app.stage.server.url);
        let answer = plain_http().get(url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let (kind, cache) = (header("content-type"), header("cache-control"));
        assert_eq!(cache, "public, max-age=300", "{path}");
        (kind, answer.json::<Value>().await.unwrap())
    };
    let (_, known) = get("/.well-known/dekeys-keys.json").await;
    assert_eq!(known, get("/v1/keys").await.1);
    assert_eq!(
        known["token_roots"].as_array().unwrap().len(),
        2,
        "two are live: {known}"
    );
    let keys = keys(&app).await;
    let (kind, set) = get("/.well-known/jwks.json").await;
    let (directory, same) = get("/.well-known/http-message-signatures-directory").await;
    assert_eq!(kind, "application/json");
    assert_eq!(directory, "application/http-message-signatures-directory+json");
    assert_eq!(same["keys"][0], set["keys"][0], "{same}");
    let webhooks: dekeys::model::principal::PublicKey = known["webhooks"].as_str().unwrap().parse().unwrap();
    let x = data_encoding::BASE64URL_NOPAD.encode(webhooks.as_bytes());
    assert_eq!(same["keys"][1]["x"], json!(x), "the key that signs webhooks: {same}");
    assert_eq!(same["keys"].as_array().unwrap().len(), 2);
    // The statement names the key by its thumbprint, and the set has it.
    let seen = send(&app.prim(), Request::get(&["v1", "revocations"])).await;
    let header = statement(&seen).split('.').next().unwrap().to_owned();
    let header: Value =
        serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(header.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        (&header["alg"], &header["kid"]),
        (&json!("EdDSA"), &set["keys"][0]["kid"])
    );
    let x = data_encoding::BASE64URL_NOPAD.encode(keys.log.key().as_bytes());
    assert_eq!(set["keys"][0]["x"], json!(x));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_who_is_shut_out_is_in_the_feed_with_all_it_had() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    let lease = send(&app.prim(), Request::get(&["v1", "leases"])).await.good();
    let lease = lease["data"][0]["id"].as_str().unwrap().to_owned();
    let prims = send(&app.operator(), Request::get(&["v1", "principals"])).await.good();
    let prims = prims["data"].as_array().unwrap().clone();
    let prim = prims.iter().find(|one| one["name"] == json!(PRIM)).unwrap();
    let id = prim["id"].as_str().unwrap();
    let request = Request::post(&["v1", "principals", id, "disable"]).json(&json!({ "reason": "gone" }));
    send(&app.operator(), request).await.good();
    until("the lease in the feed", async || {
        let page = send(&app.operator(), Request::get(&["v1", "revocations"])).await.good();
        let data = page["data"].as_array().unwrap().clone();
        data.iter()
            .any(|one| one["kind"] == "lease" && one["id"] == json!(lease))
            .then_some(())
    })
    .await;
    app.stop().await;
}
