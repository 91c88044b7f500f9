//! dekeys' own keys in motion: the key-encryption key that seals values, the keys that sign tokens, and the unseal key.
//!
//! Nothing here holds up a reader. A new key-encryption key seals from now on, the older ones open what they sealed
//! until a worker has sealed it anew. A new signing key is published long before it signs. A new unseal key opens
//! beside the old one until somebody has shown that they can read it back.
//!
//! Not protected: whoever knows an old unseal key *and* has a copy of the database from before opens that copy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::caller::Context;
use super::error::Error;
use super::init::signing_place;
use super::unseal::{UnsealKey, WRAPS};
use super::{App, Opened, checkpoint, log_key};
use crate::audit::LogKey;
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::{Committed, Event};
use crate::model::instance::Instance;
use crate::model::principal::PrincipalKind;
use crate::model::sealed::{Place, Sealed};
use crate::store::instance::SigningKeyRow;
use crate::store::{ReadTx, Tx};
use crate::token::{RootKeys, Verifier};
use crate::vault::{Keyring, VaultError};

/// How long what a retired key signed is still checked: longer than any token lives.
const TOKENS_LIVE: Ttl = Ttl::from_mins(65);

/// How long the key-encryption key and the token key are used before they are changed without being asked.
const LIFE: Ttl = Ttl::from_mins(90 * 24 * 60);

/// Wraps after which the key-encryption key is changed without being asked: far below where nonces could meet.
const MANY_WRAPS: u64 = 1 << 24;

/// Which key is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// The key-encryption key, which seals values.
    Kek,
    /// The key that signs tokens.
    Token,
    /// The key that signs the log: checkpoints and receipts.
    Log,
}

/// A request for a new key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateAsk {
    /// Which.
    pub kind: KeyKind,
}

/// dekeys' own keys, without anything secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyStatus {
    /// Always `key_status`.
    pub object: String,
    /// The version of the key-encryption key that seals.
    pub kek_version: u32,
    /// When it was made.
    pub kek_created: Timestamp,
    /// How often it may have wrapped.
    pub kek_wraps: u64,
    /// Values that an older one sealed and that are not sealed anew yet.
    pub to_reseal: i64,
    /// A second unseal key waits for its confirmation; both open the vault.
    pub rekeying: bool,
    /// The keys that sign.
    pub signing: Vec<SigningKeyView>,
}

/// One key that signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SigningKeyView {
    /// `token` or `log`.
    pub kind: String,
    /// Counts from 1 within its kind; `rootKeyId` of tokens.
    pub number: i64,
    /// The public half.
    pub public_key: String,
    /// `signing`, `next` (published, not used yet) or `retired`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it stopped signing.
    pub retired: Option<Timestamp>,
}

/// The state of dekeys' own keys.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn status(app: &App, context: &Context) -> Result<KeyStatus, Error> {
    context.require(&[PrincipalKind::Operator])?;
    let prefix = app.vault.current_prefix()?;
    let mut tx = app.store.read().await?;
    let keyring = keyring(&mut tx).await?;
    let to_reseal = tx.count_to_reseal(&prefix).await?;
    let signing = views(&mut tx).await?;
    let (kek_version, kek_created) = keyring.current_kek().ok_or(Error::Forged("keyring"))?;
    Ok(KeyStatus {
        object: "key_status".to_owned(),
        kek_version,
        kek_created,
        kek_wraps: app.vault.wraps(),
        to_reseal,
        rekeying: keyring.is_rekeying(),
        signing,
    })
}

/// Changes a key now.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn rotate(app: &App, context: &Context, ask: &RotateAsk) -> Result<KeyStatus, Error> {
    let operator = context.require(&[PrincipalKind::Operator])?;
    if ask.kind == KeyKind::Log {
        // So that the key that goes has signed whatever the one before it left.
        checkpoint::catch_up(app).await?;
    }
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let event = |object: &str, version: i64| {
        let data = json!({ "kind": ask.kind, "version": version, "by": operator.name });
        app.event(context, "key.rotated", &object, data)
    };
    match ask.kind {
        KeyKind::Kek => rotate_kek(app, tx, event).await?,
        KeyKind::Token => rotate_token(app, tx, event).await?,
        KeyKind::Log => log_key::rotate(app, tx, event).await?,
    }
    status(app, context).await
}

/// Changes what is old or was used often; a worker calls it.
///
/// # Errors
/// The store's and the vault's.
pub async fn rotate_due(app: &App) -> Result<(), Error> {
    let aged = |since: Timestamp| app.now().since(since) > LIFE;
    let event = |kind: &str, version: i64| {
        let data = json!({ "kind": kind, "version": version, "by": "schedule" });
        app.own_event("key.rotated", &kind, data)
    };
    let mut tx = app.store.read().await?;
    let keyring_due = keyring(&mut tx)
        .await?
        .current_kek()
        .is_some_and(|(_, made)| aged(made));
    let token_due = |rows: &[SigningKeyRow]| match rows {
        [.., before, _next] => aged(before.retired.unwrap_or(before.created)),
        _ => false,
    };
    let tokens = tx.signing_keys("token").await?;
    let logs = tx.signing_keys("log").await?;
    drop(tx);
    if keyring_due || app.vault.wraps() >= MANY_WRAPS {
        let mut tx = app.store.begin().await?;
        // Another instance may have been quicker.
        let still = app.vault.wraps() >= MANY_WRAPS
            || keyring(&mut tx)
                .await?
                .current_kek()
                .is_some_and(|(_, made)| aged(made));
        if still && !app.vault.is_behind(&keyring(&mut tx).await?)? {
            rotate_kek(app, tx, event).await?;
        }
    }
    if log_key::is_due(&logs, app.now()) {
        let mut tx = app.store.begin().await?;
        if log_key::is_due(&tx.signing_keys("log").await?, app.now()) {
            log_key::rotate(app, tx, event).await?;
        }
    }
    if token_due(&tokens) {
        let mut tx = app.store.begin().await?;
        if token_due(&tx.signing_keys("token").await?) {
            rotate_token(app, tx, event).await?;
        }
    }
    Ok(())
}

async fn rotate_kek(app: &App, mut tx: Tx, event: impl Fn(&str, i64) -> Event) -> Result<(), Error> {
    let before = keyring(&mut tx).await?;
    let rotated = app.vault.rotate(&before, app.now())?;
    save(&mut tx, &rotated).await?;
    tx.restart_wraps(WRAPS).await?;
    let version = rotated.current_kek().map_or(0, |(version, _)| i64::from(version));
    let _none = tx.commit(&[event("kek", version)], &[]).await?;
    app.adopt(&rotated, 0..WRAPS.unsigned_abs())
}

/// The next key signs, the one that signed so far is retired, and one more is made and published: verifiers that
/// fetched the keys before know the one that signs now.
async fn rotate_token(app: &App, mut tx: Tx, event: impl Fn(&str, i64) -> Event) -> Result<(), Error> {
    let now = app.now();
    let rows = tx.signing_keys("token").await?;
    let signs = rows.iter().find(|row| row.retired.is_none());
    let signs = signs.ok_or(Error::NotFound("token key"))?.number;
    let number = rows.last().map_or(0, |row| row.number).saturating_add(1);
    let id = u32::try_from(number).map_err(Error::internal)?;
    let (_, secret) = RootKeys::generate(id, app.random.as_ref());
    let sealed = app
        .vault
        .seal_value(&signing_place(app.instance.id, "token", number), &secret)?;
    let public = RootKeys::new(id, vec![(id, secret)]).map_err(Error::internal)?.public();
    let public = public.0.first().map(|(_, key)| key.to_string()).unwrap_or_default();
    tx.retire_signing_key("token", signs, now).await?;
    tx.insert_signing_key("token", number, &public, &sealed, now).await?;
    let _none = tx.commit(&[event("token", number)], &[]).await?;
    reopen(app).await
}

/// Announces another unseal key. From now on both open the vault.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::Conflict`] when somebody else changed keys meanwhile.
pub async fn begin_rekey(app: &App, context: &Context, key: UnsealKey) -> Result<KeyStatus, Error> {
    let mode = app.instance.mode;
    change_keyring(app, context, "key.rekey_begun", move |vault, keyring| {
        vault.rekey_begin(keyring, mode, &key)
    })
    .await
}

/// Takes the announced unseal key once more, and drops the one before.
///
/// # Errors
/// [`Error::Conflict`] when none was announced; [`Error::UnsealKeyWrong`] for another one; as [`begin_rekey`].
pub async fn confirm_rekey(app: &App, context: &Context, key: UnsealKey) -> Result<KeyStatus, Error> {
    change_keyring(app, context, "key.rekeyed", move |vault, keyring| {
        vault.rekey_confirm(keyring, &key)
    })
    .await
}

/// Gives up the announced unseal key: it opens nothing any more.
///
/// # Errors
/// [`Error::Conflict`] when none was announced; as [`begin_rekey`].
pub async fn cancel_rekey(app: &App, context: &Context) -> Result<KeyStatus, Error> {
    change_keyring(app, context, "key.rekey_cancelled", |_, keyring| {
        if keyring.is_rekeying() {
            Ok(keyring.without_pending())
        } else {
            Err(VaultError::NothingPending)
        }
    })
    .await
}

/// Replaces the stored keyring by what `change` makes of it, off the executor: Argon2 takes its time.
async fn change_keyring(
    app: &App,
    context: &Context,
    kind: &str,
    change: impl FnOnce(&crate::vault::Vault, &Keyring) -> Result<Keyring, VaultError> + Send + 'static,
) -> Result<KeyStatus, Error> {
    let operator = context.require(&[PrincipalKind::Operator])?;
    let mut tx = app.store.read().await?;
    let before = keyring(&mut tx).await?;
    drop(tx);
    let (vault, seen) = (app.vault.clone(), before.clone());
    let changed = tokio::task::spawn_blocking(move || change(&vault, &seen))
        .await
        .map_err(Error::internal)??;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    if keyring(&mut tx).await? != before {
        return Err(Error::Conflict("the keyring was changed meanwhile".to_owned()));
    }
    save(&mut tx, &changed).await?;
    let event = app.event(context, kind, &app.instance.id, json!({ "by": operator.name }));
    let _none = tx.commit(&[event], &[]).await?;
    status(app, context).await
}

/// Takes over keys that another instance changed, and lets go of retired ones whose time is over; a worker calls it.
///
/// # Errors
/// The store's and the vault's. A keyring that was rolled back or altered is raised.
pub async fn follow(app: &App) -> Result<(), Error> {
    let opened = app.opened()?;
    let mut tx = app.store.read().await?;
    let stored = keyring(&mut tx).await?;
    let signing = views(&mut tx).await?;
    tx.end().await?;
    let behind = match app.vault.is_behind(&stored) {
        Err(VaultError::Corrupt) => {
            app.raise("security.forged_row", "keyring").await;
            return Err(Error::Forged("keyring"));
        }
        behind => behind?,
    };
    if behind {
        let mut tx = app.store.begin().await?;
        let stored = keyring(&mut tx).await?;
        let (from, until) = tx.reserve_wraps(WRAPS).await?;
        let _none = tx.commit(&[], &[]).await?;
        app.adopt(&stored, from.unsigned_abs()..until.unsigned_abs())?;
    }
    let known = opened.roots.public().0.len();
    let usable = signing
        .iter()
        .filter(|key| key.kind == "token" && usable(app, key.retired));
    if signing != opened.signing || usable.count() != known {
        reopen(app).await?;
    }
    Ok(())
}

/// Takes the signing keys from the database anew.
pub(super) async fn reopen(app: &App) -> Result<(), Error> {
    let instance = app.opened()?.instance.clone();
    let mut tx = app.store.read().await?;
    let opened = opened(app, &mut tx, instance).await?;
    tx.end().await?;
    app.open_with(Some(opened));
    Ok(())
}

/// What an unsealed vault signs and checks with.
///
/// # Errors
/// The store's and the vault's; [`Error::NotFound`] when a key is missing.
pub(super) async fn opened(app: &App, tx: &mut ReadTx, instance: Instance) -> Result<Opened, Error> {
    let own = |kind, row: &SigningKeyRow| {
        app.vault
            .open_own(&row.sealed, &signing_place(instance.id, kind, row.number))
    };
    let tokens = tx.signing_keys("token").await?;
    let signing = tokens.iter().find(|row| row.retired.is_none());
    let current = signing.ok_or(Error::NotFound("token key"))?.number;
    let current = u32::try_from(current).map_err(Error::internal)?;
    let mut roots = Vec::with_capacity(tokens.len());
    for row in tokens.iter().filter(|row| usable(app, row.retired)) {
        let number = u32::try_from(row.number).map_err(Error::internal)?;
        roots.push((number, own("token", row)?));
    }
    let roots = RootKeys::new(current, roots).map_err(Error::internal)?;
    let verifier = Verifier::new(instance.id, instance.mode, roots.public());
    let mut logs = Vec::new();
    for row in tx.signing_keys("log").await? {
        let key = LogKey::new(&instance.id.to_string(), &own("log", &row)?).map_err(Error::internal)?;
        logs.push((row, key));
    }
    let log_terms = log_key::terms(&logs);
    let (_, log) = logs.pop().ok_or(Error::NotFound("log key"))?;
    let log_public = log.public().clone();
    let log_before = log_key::before(app, tx, logs, &log_public).await?;
    Ok(Opened {
        instance,
        roots,
        verifier,
        log,
        log_public,
        log_before,
        log_terms,
        signing: views(tx).await?,
    })
}

/// Whether what a key signed is still checked.
fn usable(app: &App, retired: Option<Timestamp>) -> bool {
    retired.is_none_or(|at| app.now() < at.plus(TOKENS_LIVE))
}

async fn views(tx: &mut ReadTx) -> Result<Vec<SigningKeyView>, Error> {
    let mut views = Vec::new();
    for kind in ["token", "log"] {
        let rows = tx.signing_keys(kind).await?;
        let signs = rows.iter().find(|row| row.retired.is_none()).map(|row| row.number);
        for row in rows {
            let state = match row.retired {
                Some(_) => "retired",
                None if signs == Some(row.number) => "signing",
                None => "next",
            };
            views.push(SigningKeyView {
                kind: kind.to_owned(),
                number: row.number,
                public_key: row.public,
                state: state.to_owned(),
                created: row.created,
                retired: row.retired,
            });
        }
    }
    Ok(views)
}

async fn keyring(tx: &mut ReadTx) -> Result<Keyring, Error> {
    let text = tx.keyring().await?.ok_or(Error::NotFound("keyring"))?;
    serde_json::from_str(&text).map_err(|_| Error::Forged("keyring"))
}

async fn save(tx: &mut Tx, keyring: &Keyring) -> Result<(), Error> {
    let text = serde_json::to_string(keyring).map_err(Error::internal)?;
    Ok(tx.save_keyring(&text).await?)
}

impl App {
    /// Opens a value against the record of its release. When another instance sealed it with a key that is not known
    /// here yet, that key is taken over first.
    ///
    /// # Errors
    /// As [`crate::vault::Vault::open`].
    pub(super) async fn open_value(
        &self,
        sealed: &Sealed,
        place: &Place,
        committed: Committed,
    ) -> Result<SecretBytes, VaultError> {
        if !self.vault.knows(sealed)?
            && let Err(error) = follow(self).await
        {
            tracing::warn!(%error, "could not take over a newer key");
        }
        self.vault.open(sealed, place, committed)
    }
}
