//! How this instance is: for probes and people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::error::Error;
use crate::audit::LogTerm;
use crate::base::id::base64url;
use crate::base::time::{Timestamp, Ttl};
use crate::model::instance::Mode;
use crate::model::principal::{PrincipalKind, PublicKey};
use crate::store::Engine;

/// Leases that end within this are told.
const SOON: Ttl = Ttl::from_mins(5);

/// The state of an instance in figures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Always `status`.
    pub object: String,
    /// The version of dekeys.
    pub version: String,
    /// The instance.
    pub instance: String,
    /// Test or live.
    pub mode: Mode,
    /// Whether the vault is sealed.
    pub sealed: bool,
    /// Nothing is released, made or ended before an operator has compared the database with the vendors.
    pub reconciling: bool,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Grants in force.
    pub active_grants: i64,
    /// Leases alive.
    pub live_leases: i64,
    /// Keys whose revocation is not confirmed.
    pub revocation_failed: i64,
    /// Keys that are being ended at their vendors.
    pub revoking: i64,
    /// Keys that a vendor lists, that nobody here accounts for, and that wait for somebody's decision.
    pub orphans: i64,
    /// Approvals that wait.
    pub pending_approvals: i64,
    /// Payments whose outcome is not known.
    pub unknown_payments: i64,
    /// Events on record.
    pub events: i64,
    /// Leaves under the latest checkpoint.
    pub leaves: i64,
    /// One person may approve their own requests.
    pub solo: bool,
    /// The time here.
    pub now: Timestamp,
    /// When this process started.
    pub started: Timestamp,
    /// Since when the vault is open.
    pub unsealed_since: Option<Timestamp>,
    /// Bytes of the database; on SQLite without the write-ahead log.
    pub database_bytes: i64,
    /// The latest migration of the database.
    pub migrations: i64,
    /// The latest migration this binary knows.
    pub migrations_known: i64,
    /// Leases that end within five minutes.
    pub leases_ending: i64,
    /// When the approval request that has waited longest was made.
    pub oldest_approval: Option<Timestamp>,
    /// When the latest checkpoint was signed.
    pub checkpoint_signed: Option<Timestamp>,
}

/// The state in figures.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators and humans.
pub async fn status(app: &App, context: &Context) -> Result<Status, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let mut tx = app.store.read().await?;
    let counts = tx.counts().await?;
    let (events, _) = tx.chain_head().await?;
    let leaves = tx.tree_state().await?.size;
    let outlook = tx.outlook(app.now().plus(SOON)).await?;
    let database_bytes = tx.size().await?;
    drop(tx);
    let (migrations, migrations_known) = app.store.migrations().await?;
    Ok(Status {
        object: "status".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: app.instance.id.to_string(),
        mode: app.instance.mode,
        sealed: app.is_sealed(),
        reconciling: app.is_reconciling(),
        database: match app.store.engine() {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        }
        .to_owned(),
        active_grants: counts.active_grants,
        live_leases: counts.live_leases,
        revocation_failed: counts.stuck_credentials,
        revoking: counts.revoking_credentials,
        orphans: counts.orphans,
        pending_approvals: counts.pending_approvals,
        unknown_payments: counts.unknown_payments,
        events,
        leaves,
        solo: app.instance.solo,
        now: app.now(),
        started: app.started(),
        unsealed_since: app.unsealed_since(),
        database_bytes,
        migrations,
        migrations_known,
        leases_ending: outlook.leases_ending,
        oldest_approval: outlook.oldest_approval,
        checkpoint_signed: outlook.checkpoint.map(|(_, signed)| signed),
    })
}

/// The public keys of this instance: what verifiers need.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PublicKeys {
    /// Always `public_keys`.
    pub object: String,
    /// The instance.
    pub instance: String,
    /// The keys that sign tokens, with their root key ids; two are live.
    pub token_roots: Vec<TokenRoot>,
    /// The key that signs checkpoints and receipts, as C2SP writes verifier keys.
    pub log: String,
    /// All keys the log ever had, each with its time: a receipt is checked by the one that signed it, and who knows an
    /// earlier one is led to the present one by `endorsed`.
    #[serde(default)]
    pub logs: Vec<LogTerm>,
    /// The key that signs webhooks: `v1a` of Standard Webhooks, and RFC 9421.
    pub webhooks: Option<PublicKey>,
}

/// One key that signs tokens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenRoot {
    /// `rootKeyId` of tokens.
    pub id: u32,
    /// The key.
    pub public_key: PublicKey,
}

/// A set of keys as JOSE libraries read it (RFC 7517).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeySet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// An Ed25519 key (RFC 8037).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The key in base64url.
    pub x: String,
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// The keys that sign what JOSE and HTTP libraries check: the log's, which signs the revocation feed's statements. Token
/// roots are not among them, so that no token is ever taken for a JWT.
///
/// # Errors
/// [`Error::Sealed`].
pub fn key_set(app: &App) -> Result<KeySet, Error> {
    let opened = app.opened()?;
    Ok(KeySet {
        keys: opened
            .log_publics()
            .into_iter()
            .map(|public| jwk(&public.key()))
            .collect(),
    })
}

/// The keys that sign HTTP messages (RFC 9421): webhooks are signed with the one of its own, `keyid` as it is there; the
/// log's signs statements.
///
/// # Errors
/// [`Error::Sealed`].
pub fn key_directory(app: &App) -> Result<KeySet, Error> {
    let mut set = key_set(app)?;
    set.keys.push(jwk(&super::deliver::key(app)?.public()));
    Ok(set)
}

/// A public key as JOSE libraries read it.
#[must_use]
pub fn jwk(key: &PublicKey) -> Jwk {
    Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        x: base64url(key.as_bytes()),
        kid: crate::audit::thumbprint(key),
        alg: "EdDSA".to_owned(),
        usage: "sig".to_owned(),
    }
}

/// The public keys; anybody may have them.
///
/// # Errors
/// [`Error::Sealed`].
pub fn public_keys(app: &App) -> Result<PublicKeys, Error> {
    let opened = app.opened()?;
    let roots = opened
        .roots
        .public()
        .0
        .into_iter()
        .map(|(id, public_key)| TokenRoot { id, public_key })
        .collect();
    Ok(PublicKeys {
        object: "public_keys".to_owned(),
        instance: opened.instance.id.to_string(),
        token_roots: roots,
        log: opened.log_public.to_string(),
        logs: opened.log_terms.clone(),
        webhooks: Some(super::deliver::key(app)?.public()),
    })
}
