//! Credentials: one vendor key each, from the intent to make it to the proof that it is dead. A credential is
//! its own operation: the row is committed before the vendor is called, and its id stands in the vendor-side
//! name (DESIGN 16).

use serde::{Deserialize, Serialize};

use super::scope::{Name, Scope};
use crate::base::id::{CredentialId, GrantId, InstanceId, LeaseId, PrincipalId, RootId, base32_lower};
use crate::base::time::Timestamp;

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// Committed that the vendor will be asked; it may have been.
    Intent,
    /// The outcome of the creation is unknown; the vendor is searched by name before anything is repeated.
    Probe,
    /// Alive at the vendor, its value sealed here.
    Active,
    /// To be ended at the vendor.
    Revoking,
    /// Dead at the vendor, and proved so where the vendor can be asked.
    Revoked,
    /// The vendor does not confirm; still tried. Shown to people as `revocation_failed`.
    Stuck,
    /// Proved never to have existed at the vendor.
    Failed,
}

impl CredentialState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Intent,
        Self::Probe,
        Self::Active,
        Self::Revoking,
        Self::Revoked,
        Self::Stuck,
        Self::Failed,
    ];

    /// The word stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Probe => "probe",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
        }
    }

    /// The word shown to people.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::Stuck => "revocation_failed",
            other => other.as_str(),
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Revoked | Self::Failed)
    }

    /// Whether `next` may follow. A late answer may only add knowledge: it never makes a key active again, but a key
    /// that counted as never made, and exists after all, is ended.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use CredentialState::{Active, Failed, Intent, Probe, Revoked, Revoking, Stuck};
        matches!(
            (self, next),
            (Intent, Active | Probe | Failed | Revoking)
                | (Probe, Revoking | Failed | Stuck | Probe)
                | (Active | Failed, Revoking)
                | (Revoking, Revoked | Stuck | Revoking)
                | (Stuck, Revoked | Stuck)
        )
    }
}

/// One vendor key, made or being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The id; also the operation's.
    pub id: CredentialId,
    /// The vendor.
    pub vendor: Name,
    /// The root credential it is made from.
    pub root: RootId,
    /// The grant it serves.
    pub grant: GrantId,
    /// Which item of the grant, from 0.
    pub item: i64,
    /// Its name at the vendor, as the vendor takes it; empty where keys have none.
    pub name: String,
    /// The scopes it was made for.
    pub scopes: Vec<Scope>,
    /// The prim it belongs to; `None` while it is held for the first prim that asks.
    pub prim: Option<PrincipalId>,
    /// The lease it belongs to.
    pub lease: Option<LeaseId>,
    /// Where it stands.
    pub state: CredentialState,
    /// Tries of the present step, from 1.
    pub attempt: i64,
    /// The vendor's id of it, as soon as it is known.
    pub vendor_key_id: Option<String>,
    /// When the vendor ends it by itself, if it does.
    pub vendor_expires: Option<Timestamp>,
    /// When dekeys ends it.
    pub expires: Timestamp,
    /// When a worker looks at it next; `None` only in final states.
    pub next_at: Option<Timestamp>,
    /// When the present trouble began.
    pub first_failed: Option<Timestamp>,
    /// The last error's class and safe text.
    pub last_error: Option<String>,
    /// Version of the sealed value, from 1; part of its address.
    pub version: i64,
    /// When the intent was committed.
    pub created: Timestamp,
}

/// The vendor-side name of a credential: `dk-`, 8 characters of the instance, the credential, the attempt. Only
/// a–z, 0–9 and `-`, at most 48 characters, so that most vendors take it unchanged.
#[must_use]
pub fn vendor_name(instance: InstanceId, credential: CredentialId, attempt: i64) -> String {
    format!(
        "{}{}-{attempt}",
        vendor_name_prefix(instance),
        base32_lower(credential.as_bytes())
    )
}

/// What all vendor-side names of an instance begin with.
#[must_use]
pub fn vendor_name_prefix(instance: InstanceId) -> String {
    // The tail of a UUIDv7 is its random part.
    let tail = instance.as_bytes().get(11..).map(base32_lower).unwrap_or_default();
    format!("dk-{tail}-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    #[test]
    fn names_are_short_plain_and_tell_attempts_apart() {
        let random = SeededRandom::new(3);
        let now = Timestamp::from_millis(1_763_668_267_000);
        let (instance, credential) = (InstanceId::new(now, &random), CredentialId::new(now, &random));
        let name = vendor_name(instance, credential, 1);
        assert!(
            name.len() <= 48
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{name}"
        );
        assert!(name.starts_with(&vendor_name_prefix(instance)));
        assert_ne!(name, vendor_name(instance, credential, 2));
    }

    #[test]
    fn no_state_leads_back_to_active_but_intent() {
        for state in CredentialState::ALL {
            assert_eq!(CredentialState::parse(state.as_str()), Some(state));
            assert_eq!(
                state.may_become(CredentialState::Active),
                state == CredentialState::Intent
            );
            let known_late = |next| state == CredentialState::Failed && next == CredentialState::Revoking;
            if state.is_final() {
                assert!(
                    CredentialState::ALL
                        .into_iter()
                        .all(|next| !state.may_become(next) || known_late(next))
                );
            }
        }
    }
}
