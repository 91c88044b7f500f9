//! Making an instance: locally, on the database, once (DESIGN 5). There is no way to do this over HTTP.

use std::sync::Arc;

use super::error::Error;
use crate::audit::LogKey;
use crate::base::id::{EventId, IncarnationId, InstanceId, PrincipalId};
use crate::base::random::Random;
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::event::Event;
use crate::model::instance::{Instance, Mode};
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::model::scope::Name;
use crate::model::sealed::Place;
use crate::store::Store;
use crate::token::RootKeys;
use crate::vault::{UnsealKey, Vault};

/// What `init` fixes.
pub struct Init {
    /// Test or live.
    pub mode: Mode,
    /// The operator's name and public key, made on the operator's side.
    pub operator: (Name, PublicKey),
    /// Approvers' names and public keys.
    pub approvers: Vec<(Name, PublicKey)>,
    /// How many approvers must agree.
    pub quorum: i64,
    /// One person may approve their own request.
    pub solo: bool,
}

/// Makes the instance: keys, the operator, the approvers. The vault stays sealed for everybody else.
///
/// # Errors
/// [`Error::AlreadyInitialized`]; [`Error::Invalid`] for a quorum nobody can reach.
pub async fn init(
    store: &Store,
    init: Init,
    key: UnsealKey,
    now: Timestamp,
    random: Arc<dyn Random>,
) -> Result<Instance, Error> {
    check(&init)?;
    let instance = Instance {
        id: InstanceId::new(now, random.as_ref()),
        incarnation: IncarnationId::new(now, random.as_ref()),
        mode: init.mode,
        quorum: init.quorum,
        solo: init.solo,
        created: now,
    };
    let (id, mode, source) = (instance.id, init.mode, Arc::clone(&random));
    // Argon2 takes a good part of a second: not on a thread that answers requests.
    let made = tokio::task::spawn_blocking(move || Vault::create(id, mode, &key, now, source));
    let (vault, keyring) = made.await.map_err(Error::internal)??;
    let mut tx = store.begin().await?;
    if tx.instance().await?.is_some() {
        return Err(Error::AlreadyInitialized);
    }
    let (from, until) = (0, i64::from(u16::MAX));
    vault.start_wraps(from);
    vault.allow_wraps(until.unsigned_abs());
    tx.insert_instance(&stored(&vault, instance.clone())?).await?;
    let keyring = serde_json::to_string(&keyring).map_err(Error::internal)?;
    tx.save_keyring(&keyring).await?;
    let _reserved = tx.reserve_wraps(until).await?;
    insert_signing_keys(&mut tx, &vault, &instance, now, random.as_ref()).await?;
    for principal in principals(&init, now, random.as_ref()) {
        tx.insert_principal(&stored(&vault, principal)?).await?;
    }
    let data = serde_json::json!({ "mode": instance.mode, "quorum": instance.quorum, "solo": instance.solo });
    let event = Event {
        id: EventId::new(now, random.as_ref()),
        kind: "vault.initialized".to_owned(),
        timestamp: now,
        livemode: init.mode == Mode::Live,
        actor: init.operator.1.to_string(),
        object: instance.id.to_string(),
        data,
        request_id: None,
    };
    let _none = tx.commit(&[event], &[]).await?;
    Ok(instance)
}

fn check(init: &Init) -> Result<(), Error> {
    let approvers = i64::try_from(init.approvers.len()).unwrap_or(i64::MAX);
    let reachable = if init.solo { approvers.max(1) } else { approvers };
    if init.quorum < 1 || init.quorum > reachable {
        return Err(Error::invalid(
            "/quorum",
            format!(
                "a quorum of {} needs as many approvers; there are {approvers}",
                init.quorum
            ),
        ));
    }
    Ok(())
}

fn stored<T: crate::model::control::Control>(vault: &Vault, unverified: T) -> Result<Stored<T>, Error> {
    let mac = vault.mac(&unverified)?;
    Ok(Stored { unverified, mac })
}

/// The operator may also be an approver by name; then one principal is both.
fn principals(init: &Init, now: Timestamp, random: &dyn Random) -> Vec<Principal> {
    let person = |name: &Name, key: PublicKey, kind, approver| Principal {
        id: PrincipalId::new(now, random),
        name: name.clone(),
        kind,
        keys: vec![key],
        wallets: Vec::new(),
        approver,
        disabled: false,
        created: now,
    };
    let (operator, key) = &init.operator;
    let also = init.solo || init.approvers.iter().any(|(name, _)| name == operator);
    let mut all = vec![person(operator, *key, PrincipalKind::Operator, also)];
    let others = init.approvers.iter().filter(|(name, _)| name != operator);
    all.extend(others.map(|(name, key)| person(name, *key, PrincipalKind::Human, true)));
    all
}

/// Two live token roots from the start, so that the first rotation needs no republishing; one log key.
async fn insert_signing_keys(
    tx: &mut crate::store::Tx,
    vault: &Vault,
    instance: &Instance,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(), Error> {
    insert_token_keys(tx, vault, instance, now, random).await?;
    let secret = LogKey::generate(random);
    let key = LogKey::new(&instance.id.to_string(), &secret).map_err(Error::internal)?;
    let public = key.public();
    let sealed = vault.seal_value(&signing_place(instance.id, "log", 1), &secret)?;
    tx.insert_signing_key("log", 1, &public.to_string(), &sealed, now)
        .await?;
    Ok(())
}

/// Two keys that sign tokens, after those that are there: one that signs, and the next.
pub(super) async fn insert_token_keys(
    tx: &mut crate::store::Tx,
    vault: &Vault,
    instance: &Instance,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(), Error> {
    let last = tx.signing_keys("token").await?.last().map_or(0, |row| row.number);
    for number in [last.saturating_add(1), last.saturating_add(2)] {
        let number = u32::try_from(number).map_err(Error::internal)?;
        let (id, secret) = RootKeys::generate(number, random);
        let sealed = vault.seal_value(&signing_place(instance.id, "token", i64::from(id)), &secret)?;
        let publics = RootKeys::new(id, vec![(id, secret)]).map_err(Error::internal)?.public();
        let public = publics.0.first().map(|(_, key)| key.to_string()).unwrap_or_default();
        tx.insert_signing_key("token", i64::from(id), &public, &sealed, now)
            .await?;
    }
    Ok(())
}

/// The address of one of dekeys' own signing keys.
#[must_use]
pub fn signing_place(instance: InstanceId, kind: &'static str, number: i64) -> Place {
    Place {
        instance,
        record: "keyring",
        id: format!("{kind}/{number}"),
        owner: instance.to_string(),
        version: 1,
        field: kind,
    }
}
