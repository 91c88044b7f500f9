//! Webhooks and their deliveries.

use dekeys::base::id::{DeliveryId, EventId, WebhookId};
use dekeys::base::random::SeededRandom;
use dekeys::base::time::Timestamp;
use dekeys::model::control::{Mac, Stored};
use dekeys::model::event::EventTypes;
use dekeys::model::webhook::{Delivery, DeliveryState, Webhook, WebhookFormat};
use dekeys::store::webhooks::WebhookWork;
use dekeys::store::{Page, Store, StoreError, Tx};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn webhook() -> Stored<Webhook> {
    let unverified = Webhook {
        id: WebhookId::new(at(1), &SeededRandom::new(1)),
        url: "https://ops.example/x".to_owned(),
        types: "lease.*,ping".parse::<EventTypes>().unwrap(),
        format: WebhookFormat::Slack,
        description: "for the night".to_owned(),
        enabled: true,
        secret_version: 1,
        previous_until: None,
        created: at(1),
    };
    Stored {
        unverified,
        mac: Mac([7; 32]),
    }
}

fn delivery(webhook: WebhookId, n: i64, next: i64) -> Delivery {
    let random = SeededRandom::new(n.unsigned_abs());
    Delivery {
        id: DeliveryId::new(at(next), &random),
        webhook,
        event: EventId::new(at(next), &random),
        n,
        kind: "lease.created".to_owned(),
        replay: false,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: Some(at(next)),
        status: None,
        error: None,
        created: at(next),
    }
}

async fn work(tx: &mut Tx, holder: &str, now: i64) -> Vec<WebhookWork> {
    tx.webhook_work(holder, at(now), at(now)).await.unwrap()
}

pub(super) async fn a_webhook_has_one_holder(store: Store) {
    let mut stored = webhook();
    let id = stored.unverified.id;
    let mut tx = store.begin().await.unwrap();
    tx.insert_webhook(&stored, 5).await.unwrap();
    assert_eq!(tx.webhook(id).await.unwrap(), Some(stored.clone()));
    assert_eq!(tx.webhooks(&Page::first(9)).await.unwrap(), [stored.clone()]);
    let idle = WebhookWork {
        webhook: id,
        cursor: 5,
        due: false,
    };
    assert_eq!(work(&mut tx, "a", 10).await, [idle]);
    assert!(tx.hold_webhook(id, "a", at(10), at(70)).await.unwrap());
    assert!(!tx.hold_webhook(id, "b", at(20), at(80)).await.unwrap(), "one holder");
    let kept = tx.hold_webhook(id, "a", at(30), at(90)).await.unwrap();
    assert!(kept, "who holds it may go on");
    assert_eq!(work(&mut tx, "b", 89).await, []);
    let taken = tx.hold_webhook(id, "b", at(90), at(150)).await.unwrap();
    assert!(taken, "its time is over");

    tx.move_webhook(id, 9).await.unwrap();
    tx.move_webhook(id, 8).await.unwrap();
    assert_eq!(tx.webhook_cursor(id).await.unwrap(), Some(9), "never back");

    stored.unverified.enabled = false;
    stored.unverified.secret_version = 2;
    stored.unverified.previous_until = Some(at(500));
    stored.mac = Mac([8; 32]);
    tx.update_webhook(&stored).await.unwrap();
    assert_eq!(tx.webhook(id).await.unwrap(), Some(stored));
    assert_eq!(work(&mut tx, "b", 1000).await, [], "a disabled one has no work");
    assert!(tx.insert_delivery(&delivery(id, 10, 20)).await.unwrap());
    tx.delete_webhook(id).await.unwrap();
    assert_eq!(tx.deliveries(id, &Page::first(9)).await.unwrap(), []);
    let again = tx.delete_webhook(id).await;
    assert!(matches!(again, Err(StoreError::Absent("webhook"))));
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn deliveries_are_queued_once_and_in_the_order_of_the_log(store: Store) {
    let stored = webhook();
    let id = stored.unverified.id;
    let mut tx = store.begin().await.unwrap();
    tx.insert_webhook(&stored, 5).await.unwrap();
    let (late, early) = (delivery(id, 9, 20), delivery(id, 8, 30));
    assert!(tx.insert_delivery(&late).await.unwrap() && tx.insert_delivery(&early).await.unwrap());
    let twice = Delivery {
        id: delivery(id, 7, 1).id,
        ..late.clone()
    };
    assert!(!tx.insert_delivery(&twice).await.unwrap());
    let replay = Delivery {
        id: delivery(id, 6, 40).id,
        replay: true,
        next_at: None,
        state: DeliveryState::Delivered,
        status: Some(204),
        created: at(40),
        ..late.clone()
    };
    assert!(tx.insert_delivery(&replay).await.unwrap(), "asked for again");
    assert!(work(&mut tx, "b", 20).await[0].due && !work(&mut tx, "b", 19).await[0].due);
    let due = tx.deliveries_due(id, at(30), 9).await.unwrap();
    assert_eq!(due, [early.clone(), late.clone()], "in the order of the log");
    let tried = Delivery {
        attempts: 1,
        status: Some(500),
        error: Some("it answered 500".to_owned()),
        next_at: Some(at(99)),
        ..early.clone()
    };
    tx.update_delivery(&tried).await.unwrap();
    assert_eq!(tx.delivery(early.id).await.unwrap(), Some(tried));
    assert!(tx.delivered_since(id, at(40)).await.unwrap() && !tx.delivered_since(id, at(41)).await.unwrap());
    assert_eq!(tx.fail_deliveries(id, "disabled").await.unwrap(), 2);
    assert_eq!(tx.deliveries_due(id, at(1000), 9).await.unwrap(), []);
    assert_eq!(tx.deliveries(id, &Page::first(9)).await.unwrap().len(), 3);
    let more = Delivery {
        attempts: 5,
        ..late.clone()
    };
    tx.update_delivery(&more).await.unwrap();
    let over = tx.delivery(late.id).await.unwrap().unwrap();
    assert_eq!(over.attempts, 0, "what is over stays so");
    assert_eq!(tx.sweep_deliveries(at(40)).await.unwrap(), 2);
    tx.commit(&[], &[]).await.unwrap();
}
