//! What a token still allows, all blocks considered: for introspection, which names no single request.

use super::condition::{Check, Condition, Subject};
use super::verify::{Verified, Verifier};
use crate::base::time::Timestamp;
use crate::model::claims::UseKind;
use crate::model::scope::{Name, Reference, Scope};

/// What a token may be used for at one moment.
///
/// Conditions that only a whole request decides (method, path, and expressions of several things) count as holding
/// here. So this may tell of more than a request will get, never of less; [`Verifier::authorize`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The rights that no block takes away.
    pub rights: Vec<Reference>,
    /// The uses that no block takes away.
    pub uses: Vec<UseKind>,
    /// When it ends, all blocks considered.
    pub until: Timestamp,
}

const USES: [UseKind; 3] = [UseKind::Resolve, UseKind::Forward, UseKind::Manage];

/// One use as far as it is known.
#[derive(Clone, Copy)]
struct Asked<'a> {
    now: Timestamp,
    prim: Option<&'a Name>,
    right: Option<(&'a Name, &'a Scope)>,
    usage: UseKind,
}

impl Verifier {
    /// What `token` allows `prim` now; without a prim, what it allows whoever it is for. Nothing when its time is over.
    #[must_use]
    pub fn reach(&self, token: &Verified, now: Timestamp, prim: Option<&Name>) -> Reach {
        let claims = token.claims();
        let bounds = token.walked.blocks.iter().flatten().filter_map(Check::bound);
        let allows = |right, usage| {
            let asked = Asked {
                now,
                prim,
                right,
                usage,
            };
            token.walked.blocks.iter().flatten().all(|check| asked.may_pass(check))
        };
        let keys = [UseKind::Resolve, UseKind::Forward];
        let rights = claims.rights.iter();
        let rights = rights.filter(|(vendor, scope)| keys.iter().any(|usage| allows(Some((vendor, scope)), *usage)));
        let used = |usage: &UseKind| {
            let by_right = claims
                .rights
                .iter()
                .any(|(vendor, scope)| allows(Some((vendor, scope)), *usage));
            by_right || (*usage == UseKind::Manage && allows(None, *usage))
        };
        Reach {
            rights: rights
                .map(|(vendor, scope)| Reference {
                    vendor: vendor.clone(),
                    scope: scope.clone(),
                })
                .collect(),
            uses: USES.into_iter().filter(used).collect(),
            until: bounds.min().unwrap_or(claims.expires).min(claims.expires),
        }
    }
}

impl Asked<'_> {
    fn may_pass(&self, check: &Check) -> bool {
        let alternative = |conditions: &Vec<Condition>| conditions.iter().all(|condition| self.may_hold(condition));
        check.0.iter().any(alternative)
    }

    fn may_hold(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Before(at) => self.now < *at,
            Condition::From(at) => self.now >= *at,
            Condition::Is(subject, words) => match self.word(*subject) {
                Some(word) => words.iter().any(|allowed| allowed == word),
                None => self.open(*subject) && !words.is_empty(),
            },
            Condition::Begins(subject, prefix) => match self.word(*subject) {
                Some(word) => word.starts_with(prefix.as_str()),
                None => self.open(*subject),
            },
            Condition::Present(subject) => self.word(*subject).is_some() || self.open(*subject),
            Condition::Holds(_) => true,
        }
    }

    fn word(&self, subject: Subject) -> Option<&str> {
        match subject {
            Subject::Vendor => self.right.map(|(vendor, _)| vendor.as_str()),
            Subject::Scope => self.right.map(|(_, scope)| scope.as_str()),
            Subject::Use => Some(self.usage.as_str()),
            Subject::Prim => self.prim.map(Name::as_str),
            Subject::Method | Subject::Path | Subject::Time => None,
        }
    }

    /// Whether a request may still bring it.
    fn open(&self, subject: Subject) -> bool {
        match subject {
            Subject::Method | Subject::Path => self.usage == UseKind::Forward,
            Subject::Prim => self.prim.is_none(),
            Subject::Time => true,
            Subject::Vendor | Subject::Scope | Subject::Use => false,
        }
    }
}
