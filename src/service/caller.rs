//! Who asks. Proofs are read here and nowhere else: an RFC 9421 signature, a session, or nothing.
//!
//! A token in `Authorization` is not a proof of its own; the verbs that take one check it.

use crate::base::id::{GrantId, RequestId};
use crate::base::time::{Timestamp, Ttl};
pub use crate::httpsig::Parts;
use crate::httpsig::{self, Proof, SigError};
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::store::Tx;

use super::error::Error;
use super::{App, sign_in};
use std::sync::{Arc, OnceLock};

/// How long after its creation a signature's nonce is remembered; longer than any signature is taken.
const NONCE_LIFE: Ttl = Ttl::from_secs(120);

/// Who asks, once proved.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody in particular.
    Anonymous,
    /// Whoever holds this key, not known otherwise.
    Key(PublicKey),
    /// Whose wallet this is, CAIP-10: for the grants it paid, and nothing else.
    Wallet(String),
    /// Somebody dekeys knows.
    Principal(Arc<Principal>),
}

/// One request's circumstances.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks.
    pub caller: Caller,
    /// The key that signed, if one did.
    pub key: Option<PublicKey>,
    /// The signature's nonce, to be claimed together with the effect.
    pub nonce: Option<Nonce>,
    /// The request's id.
    pub request: RequestId,
    /// Tells the surface when money may move.
    pub charging: Charging,
    /// The login session that proved the caller, by its digest.
    pub login: Option<[u8; 32]>,
}

/// Whether a purchase has come so far that the payer may be charged: from then on its answer is 202 with the grant's
/// address until it is known how it ended, also when the surface does not wait any longer.
#[derive(Debug, Clone, Default)]
pub struct Charging(Option<Arc<OnceLock<GrantId>>>);

impl Charging {
    /// One that somebody looks at.
    #[must_use]
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// From now on money may move for this grant.
    pub fn begins(&self, grant: GrantId) {
        // One request buys one grant.
        let _same = self.0.as_ref().map(|told| told.set(grant));
    }

    /// The grant, once money may move.
    #[must_use]
    pub fn grant(&self) -> Option<GrantId> {
        self.0.as_ref()?.get().copied()
    }
}

/// A nonce that must be new.
#[derive(Debug, Clone)]
pub struct Nonce {
    /// Whose.
    pub holder: String,
    /// The nonce.
    pub nonce: String,
    /// Until when it is remembered.
    pub until: Timestamp,
}

impl Caller {
    /// What events name as the actor.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Key(key) => key.to_string(),
            Self::Wallet(wallet) => wallet.clone(),
            Self::Principal(principal) => principal.id.to_string(),
        }
    }

    /// Whether somebody proved something.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// The principal, if known.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Principal(principal) => Some(principal),
            _ => None,
        }
    }
}

impl Context {
    /// A request nobody signed.
    #[must_use]
    pub fn anonymous(request: RequestId) -> Self {
        Self {
            caller: Caller::Anonymous,
            key: None,
            nonce: None,
            request,
            charging: Charging::default(),
            login: None,
        }
    }

    /// Wallets that the caller has proved to be its own, CAIP-10.
    #[must_use]
    pub fn wallets(&self) -> Vec<String> {
        match &self.caller {
            Caller::Wallet(wallet) => vec![wallet.clone()],
            Caller::Principal(principal) => principal.wallets.clone(),
            Caller::Anonymous | Caller::Key(_) => Vec::new(),
        }
    }

    /// The principal, when it is one of `kinds`.
    ///
    /// # Errors
    /// [`Error::SignatureRequired`] for strangers, [`Error::NotAllowed`] for other kinds.
    pub fn require(&self, kinds: &[PrincipalKind]) -> Result<&Arc<Principal>, Error> {
        let principal = match &self.caller {
            Caller::Principal(principal) => principal,
            Caller::Anonymous => return Err(Error::SignatureRequired),
            Caller::Key(_) | Caller::Wallet(_) => return Err(Error::Unauthenticated),
        };
        if kinds.contains(&principal.kind) {
            return Ok(principal);
        }
        let wanted: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        Err(Error::NotAllowed(format!(
            "this is for {}; `{}` is a {}",
            wanted.join(" or "),
            principal.name,
            principal.kind.as_str()
        )))
    }

    /// The operator.
    ///
    /// # Errors
    /// As [`Context::require`].
    pub fn operator(&self) -> Result<&Arc<Principal>, Error> {
        self.require(&[PrincipalKind::Operator])
    }

    /// Claims the signature's nonce in the transaction of its effect.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when it was used before.
    pub async fn claim_nonce(&self, tx: &mut Tx) -> Result<(), Error> {
        let Some(nonce) = &self.nonce else { return Ok(()) };
        if tx.claim_nonce(&nonce.holder, &nonce.nonce, nonce.until).await? {
            Ok(())
        } else {
            Err(Error::Unauthenticated)
        }
    }
}

/// Reads the proofs of a request.
///
/// `bearer` is the `Authorization` credential, if any; a session token in it names its principal.
///
/// # Errors
/// [`Error::SignatureInvalid`] for a signature that does not fit, [`Error::ClockSkew`] for one of another time,
/// [`Error::Unauthenticated`] for a session or principal that is over.
pub async fn identify(
    app: &App,
    parts: &Parts<'_>,
    bearer: Option<&str>,
    request: RequestId,
) -> Result<Context, Error> {
    let now = app.now();
    let mut context = Context::anonymous(request);
    if let Some(claimed) = httpsig::read(parts).map_err(|error| refused(&error, now))? {
        let proof = app
            .sessions()
            .verify(&claimed, parts, now)
            .unwrap_or_else(|| httpsig::verify(&claimed, parts, now));
        accept(app, &mut context, proof.map_err(|error| refused(&error, now))?).await?;
    } else if let Some((session, login)) = bearer.and_then(|token| app.sessions().bearer(token, now)) {
        context.caller = known(app, &session).await?;
        context.login = Some(login);
    } else if let Some(wallet) = sign_in::wallet(app, parts).await? {
        context.caller = Caller::Wallet(wallet);
    }
    Ok(context)
}

/// Whether a caller who was proved once may still be answered: neither disabled nor logged out since.
///
/// # Errors
/// The store's.
pub async fn still(app: &App, context: &Context) -> Result<bool, Error> {
    if context
        .login
        .is_some_and(|login| !app.sessions().lives(&login, app.now()))
    {
        return Ok(false);
    }
    let key = match &context.caller {
        Caller::Anonymous => return Ok(true),
        // A sign-in is for one request.
        Caller::Wallet(_) => return Ok(false),
        Caller::Key(key) => *key,
        Caller::Principal(principal) => match context.key.or_else(|| principal.keys.first().copied()) {
            Some(key) => key,
            None => return Ok(true),
        },
    };
    let now = match known(app, &key).await {
        Err(Error::Unauthenticated) => return Ok(false),
        other => other?,
    };
    // A key that became somebody's, or somebody else's, proves another caller.
    Ok(now.actor() == context.caller.actor())
}

/// Reads the proofs of a request whose body is not there yet; `parts.body` need only be empty when it has none.
/// Answers the SHA-256 that the signature binds the body to. A login token is no proof here.
///
/// # Errors
/// As [`identify`].
pub async fn identify_streamed(
    app: &App,
    parts: &Parts<'_>,
    request: RequestId,
) -> Result<(Context, Option<[u8; 32]>), Error> {
    let now = app.now();
    let mut context = Context::anonymous(request);
    let claimed = httpsig::read(parts).map_err(|error| refused(&error, now))?;
    let Some(claimed) = claimed.map(httpsig::Claimed::streamed) else {
        return Ok((context, None));
    };
    let proof = app
        .sessions()
        .verify(&claimed, parts, now)
        .unwrap_or_else(|| httpsig::verify(&claimed, parts, now));
    accept(app, &mut context, proof.map_err(|error| refused(&error, now))?).await?;
    let digest = httpsig::promised(parts.headers).map_err(|error| refused(&error, now))?;
    Ok((context, digest))
}

async fn accept(app: &App, context: &mut Context, proof: Proof) -> Result<(), Error> {
    match proof {
        Proof::Key { key, nonce, created } => {
            context.key = Some(key);
            context.nonce = Some(Nonce {
                holder: key.to_string(),
                nonce,
                until: created.plus(NONCE_LIFE),
            });
            context.caller = known(app, &key).await?;
        }
        Proof::Session { id, counter, .. } => {
            let key = app.sessions().count(&id, counter).ok_or(Error::Unauthenticated)?;
            context.key = Some(key);
            context.caller = known(app, &key).await?;
        }
    }
    Ok(())
}

/// The principal of a key; a disabled one proves nothing.
async fn known(app: &App, key: &PublicKey) -> Result<Caller, Error> {
    // While sealed no row can be authenticated, so nobody is known.
    if app.vault.is_sealed() {
        return Ok(Caller::Key(*key));
    }
    match app.principal_by_key(key).await? {
        None => Ok(Caller::Key(*key)),
        Some(principal) if principal.disabled => Err(Error::Unauthenticated),
        Some(principal) => Ok(Caller::Principal(principal)),
    }
}

fn refused(error: &SigError, now: Timestamp) -> Error {
    match error {
        SigError::Old | SigError::Ahead => Error::ClockSkew(now),
        _ => Error::SignatureInvalid,
    }
}
