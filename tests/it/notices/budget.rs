//! Budgets that are nearly used up: heard of once, by list, webhook and metric, and by the owner too.

use dekeys::client::Request;
use dekeys::payment::Faults;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use super::webhook::{Receiver, create};
use crate::support::metrics::scrape;
use crate::support::purse::Wallet;
use crate::support::{READ, TestApp, on_both, pinned, priced, send};

const KIND: &str = "budget.threshold_reached";

mod uses {
    use super::*;

    on_both! {
        a_grant_that_is_nearly_used_up_is_told_of_once, super::priced("demo-readers", "echo:read", &[super::PRIM], "0.01");
    }

    async fn a_grant_that_is_nearly_used_up_is_told_of_once(app: &TestApp) {
        let receiver = Receiver::default();
        let url = receiver.clone().start().await;
        create(app, &url, &["budget.*"]).await;
        let bought = app.buy(json!({ "reference": READ, "max_resolves": 10 })).await;
        for used in 1..=10 {
            app.key_of(&bought).await;
            assert_eq!(told(app).await.len(), usize::from(used >= 8), "after {used} uses");
        }
        let seen = app
            .resolve(&app.stage.cast.prim, &pinned(&bought.token, PRIM), READ)
            .await;
        seen.is(403, "used_up");
        let told = told(app).await;
        assert_eq!(told.len(), 1, "{told:?}");
        let event = &told[0];
        assert_eq!(event["object"], bought.id.as_str());
        for (fact, value) in [
            ("budget", "max_resolves"),
            ("used", "8"),
            ("limit", "10"),
            ("policy", "demo-readers"),
        ] {
            assert_eq!(event["data"][fact], value, "{event}");
        }
        let got = receiver.first(1).await;
        assert_eq!(got[0].json()["type"], KIND);
        assert_eq!(got[0].json()["data"]["grant"], bought.id.as_str());
        // Whoever holds the grant hears of it too.
        let request = Request::get(&["v1", "events"]).query("types", Some("budget.*"));
        let own = send(&app.agent(), request).await.good();
        assert_eq!(own["data"][0]["data"]["used"], "8", "{own}");
        let series = r#"dekeys_budget_thresholds_total{budget="max_resolves"}"#;
        assert_eq!(scrape(app).await.get(series), Some(1.0));
        // One use is nothing to warn of: with it the grant is over.
        let single = app.buy(json!({ "reference": READ, "max_resolves": 1 })).await;
        app.key_of(&single).await;
        assert_eq!(super::told(app).await.len(), 1);
    }
}

mod money {
    use super::*;

    on_both! {
        a_payer_near_the_limit_of_a_day_is_told_of_once,
        super::priced("demo-readers", "echo:read", &[super::PRIM], "0.10").replace("[limits]", "[limits]\npaid_per_day = \"0.50 USDC\"");
    }

    async fn a_payer_near_the_limit_of_a_day_is_told_of_once(app: &TestApp) {
        let (wallet, other) = (Wallet::new(), Wallet::new());
        for paid in 1..=5 {
            app.buy_from(&wallet, json!({ "reference": READ })).await;
            assert_eq!(told(app).await.len(), usize::from(paid >= 4), "after {paid} payments");
        }
        // Refused, and no news.
        let body = json!({ "reference": READ, "public_key": app.stage.cast.agent.public() });
        let header = wallet.sign(&app.quote(&body).await);
        app.pay(&app.anyone(), &body, &header).await.is(429, "budget_reached");
        app.buy_from(&other, json!({ "reference": READ })).await;
        let told = told(app).await;
        assert_eq!(told.len(), 1, "{told:?}");
        let data = &told[0]["data"];
        for (fact, value) in [
            ("budget", "paid_per_day"),
            ("used", "0.40 USDC"),
            ("limit", "0.50 USDC"),
            ("policy", "demo-readers"),
        ] {
            assert_eq!(data[fact], value, "{data}");
        }
        let payer = data["payer"].as_str().unwrap();
        assert!(
            payer.eq_ignore_ascii_case(&format!("eip155:84532:{}", wallet.address())),
            "{payer}"
        );
    }
}

mod held {
    use super::*;

    on_both! {
        keys_held_unpaid_near_their_bound_are_told_of_once, |rules| (rules.trusted_after, rules.held_keys) = (0, 5);
    }

    async fn keys_held_unpaid_near_their_bound_are_told_of_once(app: &TestApp) {
        // Payments that are refused once the keys are made leave them made in vain.
        for vain in 1..=6 {
            app.rail_faults(Faults {
                fail_settle: 1,
                ..Faults::default()
            });
            let body = json!({ "reference": READ, "public_key": app.stage.cast.agent.public() });
            let header = Wallet::new().sign(&app.quote(&body).await);
            app.pay(&app.anyone(), &body, &header).await.is(402, "payment_invalid");
            assert_eq!(told(app).await.len(), usize::from(vain >= 4), "after {vain} in vain");
        }
        let told = told(app).await;
        let (data, object) = (&told[0]["data"], &told[0]["object"]);
        assert_eq!((object, &data["vendor"]), (&json!("demo"), &json!("demo")));
        for (fact, value) in [("budget", "held_keys"), ("used", "4"), ("limit", "5")] {
            assert_eq!(data[fact], value, "{data}");
        }
    }
}

/// The events of this kind.
async fn told(app: &TestApp) -> Vec<Value> {
    let all = app.events(KIND).await;
    all.into_iter().map(|entry| entry["event"].clone()).collect()
}
