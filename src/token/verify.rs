//! Verifying: is this token ours, and does it allow what is asked now?

use std::time::Duration;

use biscuit_auth::builder::{Policy, PolicyKind, Rule, Scope as Trust};
use biscuit_auth::datalog::RunLimits;
use biscuit_auth::error::{self, FailedCheck, Logic};
use biscuit_auth::{AuthorizerBuilder, Biscuit};

use super::clause::{date, fact, pattern, text, variable};
use super::condition::Subject;
use super::profile::{self, Walked};
use super::roots::RootPublics;
use super::{TokenError, facts};
use crate::base::id::InstanceId;
use crate::base::time::Timestamp;
use crate::model::claims::{Claims, UseKind};
use crate::model::instance::Mode;
use crate::model::scope::{Name, Scope};

const MAX_FACTS: u64 = 256;
const MAX_ITERATIONS: u64 = 20;
const MAX_TIME: Duration = Duration::from_millis(50);

/// Checks the tokens of one instance.
#[derive(Debug, Clone)]
pub struct Verifier {
    instance: InstanceId,
    mode: Mode,
    publics: RootPublics,
    max_time: Duration,
}

/// A token whose shape, signatures and instance were checked. What it allows is for [`Verifier::authorize`], and
/// whether it was revoked is for the store.
#[derive(Clone)]
pub struct Verified {
    biscuit: Biscuit,
    pub(super) walked: Walked,
    claims: Claims,
}

/// What somebody wants to do with a token. Only what stands here can be checked; blocks cannot add to it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The time now.
    pub now: Timestamp,
    /// What for.
    pub use_kind: UseKind,
    /// The prim that asks, if one does.
    pub prim: Option<&'a Name>,
    /// The vendor; needed to resolve and to forward.
    pub vendor: Option<&'a Name>,
    /// The scope; needed to resolve.
    pub scope: Option<&'a Scope>,
    /// The method of the request to forward.
    pub method: Option<&'a str>,
    /// The path of the request to forward, exactly as it will be sent.
    pub path: Option<&'a str>,
}

/// A yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    /// Until when the same ask gets the same answer: the next time bound of any block.
    pub until: Timestamp,
    /// The prim that an added block pins the token to.
    pub pinned: Option<Name>,
    /// When the block that pins it ends; `None` if it does not pin, or pins without end.
    pub pinned_until: Option<Timestamp>,
    /// Whether a block may look at the method or path of a request: then the answer is for that request alone.
    pub by_request: bool,
}

impl Verified {
    /// What the authority block says, and all revocation ids.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

impl std::fmt::Debug for Verified {
    /// The biscuit itself holds the key with which blocks are added, and is left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for the tokens of `instance`, signed with any of `publics`.
    #[must_use]
    pub fn new(instance: InstanceId, mode: Mode, publics: RootPublics) -> Self {
        Self {
            instance,
            mode,
            publics,
            max_time: MAX_TIME,
        }
    }

    /// Gives one authorization `max_time` instead of 50 ms. A fair token takes far less; the limit is for a
    /// machine that does not get on.
    #[must_use]
    pub fn patient(self, max_time: Duration) -> Self {
        Self { max_time, ..self }
    }

    /// Reads a token and verifies its signatures.
    ///
    /// # Errors
    /// In this order: [`TokenError::TooLarge`], [`TokenError::Malformed`], [`TokenError::ForeignInstance`] by the
    /// prefix, [`TokenError::Profile`], [`TokenError::UnknownRoot`], [`TokenError::Signature`],
    /// [`TokenError::Profile`] for an authority block dekeys does not make, [`TokenError::ForeignInstance`].
    pub fn parse(&self, unverified_token: &str) -> Result<Verified, TokenError> {
        let (mode, bytes) = super::text::decode(unverified_token)?;
        match mode {
            None => return Err(TokenError::Malformed),
            Some(mode) if mode != self.mode => return Err(TokenError::ForeignInstance),
            Some(_) => {}
        }
        let (biscuit, walked) = verified(&bytes, &self.publics)?;
        let claims = facts::claims(&walked)?;
        if claims.instance != self.instance {
            return Err(TokenError::ForeignInstance);
        }
        Ok(Verified {
            biscuit,
            walked,
            claims,
        })
    }

    /// Runs the checks of all blocks against what is asked.
    ///
    /// The facts of the request come from here alone, and the one policy trusts the authority block alone.
    ///
    /// # Errors
    /// [`TokenError::Expired`] and [`TokenError::NotYet`] by the authority block, [`TokenError::NotGranted`],
    /// [`TokenError::Narrowed`] by an added block, [`TokenError::TimedOut`].
    pub fn authorize(&self, token: &Verified, ask: &Ask<'_>) -> Result<Authorized, TokenError> {
        let policy = policy(&token.claims, ask).ok_or(TokenError::NotGranted)?;
        let limits = RunLimits {
            max_facts: MAX_FACTS,
            max_iterations: MAX_ITERATIONS,
            max_time: self.max_time,
        };
        // The limits must be set before `build`: later ones do not reach the first run.
        let mut builder = AuthorizerBuilder::new().set_limits(limits);
        for (subject, term) in ambient(ask) {
            builder = builder.fact(fact(subject.predicate(), vec![term])).map_err(internal)?;
        }
        let builder = builder.policy(policy).map_err(internal)?;
        let outcome = builder
            .build(&token.biscuit)
            .and_then(|mut authorizer| authorizer.authorize());
        match outcome {
            Ok(_) => Ok(authorized(&token.walked, ask.now)),
            Err(error::Token::RunLimit(_)) => Err(TokenError::TimedOut),
            Err(error::Token::FailedLogic(logic)) => Err(denied(&token.walked, ask.now, &logic)),
            Err(other) => Err(internal(other)),
        }
    }
}

/// Profile, root key, signatures.
pub(super) fn verified(bytes: &[u8], publics: &RootPublics) -> Result<(Biscuit, Walked), TokenError> {
    let walked = profile::walk(bytes)?;
    let root = publics.find(walked.root_key_id)?;
    let biscuit = Biscuit::from(bytes, root).map_err(|_| TokenError::Signature)?;
    for block in 0..walked.blocks.len() {
        // Reads the block whole: operations newer than the version it claims are found here, not while authorizing.
        let why = profile::Why::Encoding;
        biscuit
            .block_version(block)
            .map_err(|_| TokenError::Profile(profile::Refusal { block, why }))?;
    }
    Ok((biscuit, walked))
}

/// What this very request is, as facts.
fn ambient(ask: &Ask<'_>) -> impl Iterator<Item = (Subject, biscuit_auth::builder::Term)> {
    let texts = [
        (Subject::Use, Some(ask.use_kind.as_str())),
        (Subject::Prim, ask.prim.map(Name::as_str)),
        (Subject::Vendor, ask.vendor.map(Name::as_str)),
        (Subject::Scope, ask.scope.map(Scope::as_str)),
        (Subject::Method, ask.method),
        (Subject::Path, ask.path),
    ];
    let given = texts
        .into_iter()
        .filter_map(|(subject, word)| Some((subject, text(word?))));
    given.chain([(Subject::Time, date(ask.now))])
}

/// `allow if instance(…), right(vendor, scope) trusting authority`; managing needs the grant instead of a right.
/// `None` where too little was said for any right to fit.
fn policy(claims: &Claims, ask: &Ask<'_>) -> Option<Policy> {
    let instance = pattern("instance", vec![text(claims.instance.to_string())]);
    let right = match (ask.use_kind, ask.vendor, ask.scope) {
        (UseKind::Manage, None, None) => pattern("grant", vec![text(claims.grant.to_string())]),
        (_, Some(vendor), Some(scope)) => pattern("right", vec![text(vendor), text(scope)]),
        (UseKind::Forward | UseKind::Manage, Some(vendor), None) => {
            pattern("right", vec![text(vendor), variable("scope")])
        }
        (UseKind::Resolve | UseKind::Forward, _, _) | (UseKind::Manage, None, Some(_)) => return None,
    };
    let query = Rule::new(
        pattern("query", vec![]),
        vec![instance, right],
        vec![],
        vec![Trust::Authority],
    );
    Some(Policy {
        queries: vec![query],
        kind: PolicyKind::Allow,
    })
}

fn authorized(walked: &Walked, now: Timestamp) -> Authorized {
    let moments = walked
        .blocks
        .iter()
        .flatten()
        .flat_map(super::condition::Check::moments);
    let until = moments.filter(|at| *at > now).min().unwrap_or(now);
    let mut pinned = None;
    let mut pinned_until: Option<Timestamp> = None;
    for block in walked.blocks.iter().skip(1) {
        let Some(prim) = block.iter().find_map(|check| check.pin()?.parse::<Name>().ok()) else {
            continue;
        };
        pinned = Some(prim);
        let bound = block.iter().filter_map(super::condition::Check::bound).min();
        pinned_until = [pinned_until, bound].into_iter().flatten().min();
    }
    Authorized {
        until,
        pinned,
        pinned_until,
        by_request: walked
            .blocks
            .iter()
            .skip(1)
            .flatten()
            .any(super::condition::Check::is_of_request),
    }
}

/// The authority block's no comes before that of added blocks: it says more.
fn denied(walked: &Walked, now: Timestamp, logic: &Logic) -> TokenError {
    let (checks, matched) = match logic {
        Logic::Unauthorized { checks, .. } => (checks, true),
        Logic::NoMatchingPolicy { checks } => (checks, false),
        _ => return TokenError::Internal("the authorizer refused the token".to_owned()),
    };
    if let Some(error) = out_of_time(walked, now) {
        return error;
    }
    let failed = checks.iter().filter_map(|check| match check {
        FailedCheck::Block(failed) => Some((failed.block_id as usize, failed.check_id as usize)),
        FailedCheck::Authorizer(_) => None,
    });
    match failed.min() {
        Some((block, check)) if matched && block > 0 => TokenError::Narrowed {
            block,
            check: words(walked, block, check),
        },
        _ => TokenError::NotGranted,
    }
}

fn out_of_time(walked: &Walked, now: Timestamp) -> Option<TokenError> {
    match facts::lifetime(walked) {
        (_, Some(at)) if at <= now => Some(TokenError::Expired { at }),
        (Some(from), _) if now < from => Some(TokenError::NotYet { from }),
        _ => None,
    }
}

fn words(walked: &Walked, block: usize, check: usize) -> String {
    let check = walked.blocks.get(block).and_then(|checks| checks.get(check));
    check.map(ToString::to_string).unwrap_or_default()
}

/// The profile lets nothing pass on which the authorizer could fail.
fn internal<E>(_: E) -> TokenError {
    TokenError::Internal("the authorizer failed on a token that keeps to the profile".to_owned())
}
