//! Ending many leases at once: counted, confirmed, and then ended here and at the vendor.

use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, on_both, pinned, priced, send, until};

on_both! {
    leases_are_counted_first_and_ended_when_the_count_is_confirmed, |_rules| {};
    leases_are_chosen_by_principal_vendor_prefix_and_grant, |_rules| {};
    a_vendor_that_does_not_confirm_holds_up_nobody, |_rules| {};
}

async fn ask(app: &TestApp, body: Value) -> Seen {
    send(&app.operator(), Request::post(&["v1", "leases", "revoke"]).json(&body)).await
}

async fn count(app: &TestApp, body: Value) -> i64 {
    let counted = ask(app, body).await.good();
    assert_eq!(counted["state"], json!("counted"), "{counted}");
    counted["count"].as_i64().unwrap()
}

async fn leases_are_counted_first_and_ended_when_the_count_is_confirmed(app: &TestApp) {
    for _ in 0..3 {
        let bought = app.buy(json!({ "reference": READ })).await;
        app.key_of(&bought).await;
    }
    assert_eq!(count(app, json!({ "vendor": "demo" })).await, 3);
    assert_eq!(app.stage.vendor.live_keys().len(), 3, "nothing was ended");
    let late = app.buy(json!({ "reference": READ })).await;
    app.key_of(&late).await;
    let seen = ask(app, json!({ "vendor": "demo", "expected_count": 3 })).await;
    seen.is(412, "count_changed");
    assert_eq!(seen.json["count"], json!(4), "{}", seen.json);
    assert_eq!(app.stage.vendor.live_keys().len(), 4, "nothing was ended");
    let body = json!({ "vendor": "demo", "expected_count": 4, "reason": "a leak" });
    let ended = ask(app, body.clone()).await.good();
    assert_eq!(ended["state"], json!("revoked"), "{ended}");
    assert_eq!(
        (&ended["count"], &ended["credentials"], &ended["confirmed"]),
        (&json!(4), &json!(4), &json!(true))
    );
    assert!(app.stage.vendor.live_keys().is_empty());
    let events = app.events("lease.revoked").await;
    assert_eq!(events.len(), 4, "each lease has its event");
    assert!(
        events
            .iter()
            .all(|row| row["event"]["data"]["reason"] == json!("a leak"))
    );
    ask(app, body).await.is(412, "count_changed");
    // A grant outlives its leases: its prim may have another key.
    app.key_of(&late).await;
    let leases = send(&app.operator(), Request::get(&["v1", "sys", "status"]))
        .await
        .good();
    assert_eq!(leases["live_leases"], json!(1), "{leases}");
}

async fn leases_are_chosen_by_principal_vendor_prefix_and_grant(app: &TestApp) {
    let first = app.buy(json!({ "reference": READ })).await;
    app.key_of(&first).await;
    let second = app.buy(json!({ "reference": READ })).await;
    app.key_of(&second).await;
    let owner = first.json["principal"].as_str().unwrap();
    for (body, number) in [
        (json!({ "principal": PRIM }), 2),
        (json!({ "principal": owner }), 1),
        (json!({ "principal": "operator" }), 0),
        (json!({ "vendor": "demo" }), 2),
        (json!({ "vendor": "demon" }), 0),
        (json!({ "prefix": "de" }), 2),
        (json!({ "prefix": "demo/echo:" }), 2),
        (json!({ "prefix": "demo/echo:w" }), 0),
        (json!({ "prefix": "dem/echo:" }), 0),
        (json!({ "grant": first.id }), 1),
        (
            json!({ "grant": first.id, "prefix": "demo/echo:read", "principal": PRIM }),
            1,
        ),
        (json!({ "grant": first.id, "vendor": "other" }), 0),
    ] {
        assert_eq!(count(app, body.clone()).await, number, "{body}");
    }
    for body in [
        json!({}),
        json!({ "prefix": "" }),
        json!({ "prefix": "d%" }),
        json!({ "principal": "No Name" }),
    ] {
        ask(app, body).await.is(422, "invalid_request");
    }
    ask(app, json!({ "principal": "nobody-here" }))
        .await
        .is(404, "not_found");
    let ended = ask(app, json!({ "grant": second.id, "expected_count": 1 }))
        .await
        .good();
    assert_eq!(ended["count"], json!(1));
    let token = pinned(&first.token, PRIM);
    assert_eq!(app.resolve(&app.stage.cast.prim, &token, READ).await.status, 200);
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
}

async fn a_vendor_that_does_not_confirm_holds_up_nobody(app: &TestApp) {
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    app.stage.vendor.fault(Fault {
        op: "revoke".to_owned(),
        status: Some(500),
        count: Some(2),
        ..Fault::default()
    });
    let ended = ask(app, json!({ "prefix": "demo", "expected_count": 1 })).await.good();
    assert_eq!(ended["state"], json!("revoking"), "{ended}");
    until("the key's end", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
}
