//! Fills a database with leases as a long life would have left them.

use std::path::Path;
use std::sync::Arc;

use dekeys::base::id::{CredentialId, EventId, LeaseId, PrincipalId};
use dekeys::base::random::OsRandom;
use dekeys::base::time::{Clock as _, SystemClock, Timestamp, Ttl};
use dekeys::client::secret;
use dekeys::config::Config;
use dekeys::model::credential::{Credential, vendor_name};
use dekeys::model::event::Event;
use dekeys::model::lease::Lease;
use dekeys::service::checkpoint;
use dekeys::store::Page;
use dekeys::store::Store;
use dekeys::store::leases::LeaseFilter;
use dekeys::vault::UnsealKey;
use serde_json::json;

use crate::Outcome;

/// Leases written in one transaction.
const AT_ONCE: u64 = 1000;

/// Writes `leases` more, `due` of them over since a minute; with the events they would have, numbered and signed.
pub(crate) async fn fill(config: &Config, leases: u64, due: u64, events: bool) -> Outcome<()> {
    let store = Store::open(&config.database_url).await?;
    let mut tx = store.read().await?;
    let page = Page { after: None, limit: 1 };
    let lease = tx
        .leases(&LeaseFilter::default(), &page)
        .await?
        .pop()
        .ok_or("no lease to begin with")?;
    let (credential, sealed) = tx.sealed_credential(lease.credential).await?.ok_or("no key")?;
    let instance = tx.instance().await?.ok_or("no instance")?.unverified.id;
    tx.end().await?;
    let now = SystemClock::default().now();
    let mut written = 0;
    while written < leases {
        let mut tx = store.begin().await?;
        let mut told = Vec::new();
        for place in written..(written + AT_ONCE).min(leases) {
            let expires = if place < due {
                now.minus(Ttl::from_mins(1))
            } else {
                now.plus(Ttl::from_mins(20 * 60))
            };
            let (one, key) = copy(&lease, &credential, (now, expires));
            let key = Credential {
                name: vendor_name(instance, key.id, 1),
                ..key
            };
            tx.insert_credential(&key).await?;
            tx.save_created(&key, &sealed).await?;
            tx.insert_lease(&one).await?;
            if events {
                told.push(event("credential.provisioned", &key.id.to_string(), now));
                told.push(event("lease.created", &one.id.to_string(), now));
            }
        }
        tx.commit(&told, &[]).await?;
        written += AT_ONCE;
    }
    store.close().await;
    if events { number(config).await } else { Ok(()) }
}

fn copy(lease: &Lease, credential: &Credential, (now, expires): (Timestamp, Timestamp)) -> (Lease, Credential) {
    let id = LeaseId::new(now, &OsRandom);
    let key = Credential {
        id: CredentialId::new(now, &OsRandom),
        lease: Some(id),
        vendor_key_id: Some(format!("key_{id}")),
        expires,
        next_at: Some(expires),
        ..credential.clone()
    };
    let prim = PrincipalId::new(now, &OsRandom);
    let one = Lease {
        id,
        prim,
        credential: key.id,
        expires,
        ..lease.clone()
    };
    (
        one,
        Credential {
            prim: Some(prim),
            ..key
        },
    )
}

fn event(kind: &str, object: &str, now: Timestamp) -> Event {
    Event {
        id: EventId::new(now, &OsRandom),
        kind: kind.to_owned(),
        timestamp: now,
        livemode: false,
        actor: "dekeys".to_owned(),
        object: object.to_owned(),
        data: json!({ "lease": object, "vendor": "demo" }),
        request_id: None,
    }
}

/// Numbers and signs the events without any other worker.
async fn number(config: &Config) -> Outcome<()> {
    let app = dekeys::setup::open(config, "http://127.0.0.1:1".to_owned(), None).await?;
    dekeys::service::unseal::unseal(&app, key(&config.data_dir)?).await?;
    checkpoint::catch_up(&app).await?;
    dekeys::service::unseal::close(&app);
    app.store.close().await;
    drop(Arc::new(app));
    Ok(())
}

/// The unseal key of an instance.
pub(crate) fn key(dir: &Path) -> Outcome<UnsealKey> {
    Ok(UnsealKey::parse_key_file(&secret::read_file(&dir.join("unseal-key"))?)?)
}
