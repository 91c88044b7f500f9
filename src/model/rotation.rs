//! Rotations: a key that is in use gives way to another one. Each arrow between states is one commit (DESIGN 16), so
//! that whatever ends a process, exactly one key is current and none is forgotten.

use serde::{Deserialize, Serialize};

use super::scope::Name;
use crate::base::id::RotationId;
use crate::base::time::{Timestamp, Ttl};

/// How a vendor lets a key in use be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RotateMode {
    /// A new key first, then the old one ends.
    CreateThenRevoke,
    /// The same, where the vendor lets only a few be alive: the old one must have ended before the next rotation.
    TwoSlot,
    /// The vendor makes the new value and lets the old one live on for a span that is told.
    VendorOverlap,
    /// The vendor makes the new value, and the old one is dead at that moment.
    InPlace,
}

impl RotateMode {
    /// All modes.
    pub const ALL: [Self; 4] = [
        Self::CreateThenRevoke,
        Self::TwoSlot,
        Self::VendorOverlap,
        Self::InPlace,
    ];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateThenRevoke => "create_then_revoke",
            Self::TwoSlot => "two_slot",
            Self::VendorOverlap => "vendor_overlap",
            Self::InPlace => "in_place",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    /// Whether the old key and the new one are two at the vendor, so that the old one is ended by itself.
    #[must_use]
    pub const fn makes_another(self) -> bool {
        matches!(self, Self::CreateThenRevoke | Self::TwoSlot)
    }
}

/// What is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RotationKind {
    /// A key that all grants of a policy share.
    Credential,
    /// A root credential.
    Root,
}

impl RotationKind {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Root => "root",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Credential, Self::Root]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// Committed that the vendor will be asked for the new key.
    PendingIntent,
    /// The new key is on record, not tried yet.
    PendingCreated,
    /// The vendor took the new key.
    PendingTested,
    /// The new key is the current one.
    Promoted,
    /// What was begun with the old key may go on with it.
    Overlap,
    /// The old key is to be ended at the vendor.
    OldRevoking,
    /// The old key is dead.
    Done,
    /// Given up before the new key was current; the old one stays, the new one is ended.
    Failed,
}

impl RotationState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::PendingIntent,
        Self::PendingCreated,
        Self::PendingTested,
        Self::Promoted,
        Self::Overlap,
        Self::OldRevoking,
        Self::Done,
        Self::Failed,
    ];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingIntent => "pending_intent",
            Self::PendingCreated => "pending_created",
            Self::PendingTested => "pending_tested",
            Self::Promoted => "promoted",
            Self::Overlap => "overlap",
            Self::OldRevoking => "old_revoking",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    /// Whether the old key is still the current one.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::PendingIntent | Self::PendingCreated | Self::PendingTested)
    }

    /// Whether `next` may follow. Nothing leads back to the old key once another one is current. A vendor that makes
    /// another value of the same key leads from the intent to the new current value in one step.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use RotationState::{
            Done, Failed, OldRevoking, Overlap, PendingCreated, PendingIntent, PendingTested, Promoted,
        };
        self == next && !self.is_final()
            || matches!(
                (self, next),
                (PendingIntent, PendingCreated | Promoted | Failed)
                    | (PendingCreated, PendingTested | Failed)
                    | (PendingTested, Promoted | Failed)
                    | (Promoted, Overlap)
                    | (Overlap, OldRevoking)
                    | (OldRevoking, Done)
            )
    }
}

/// How keys are rotated where neither policy nor manifest says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationRules {
    /// How often.
    pub every: Ttl,
    /// How long the key before may be used beside the new one.
    pub grace: Ttl,
}

impl RotationRules {
    /// No key is rotated more often.
    pub const SHORTEST: Ttl = Ttl::from_mins(1);
    /// None less often.
    pub const LONGEST: Ttl = Ttl::from_mins(90 * 24 * 60);
    /// The longest grace.
    pub const MOST_GRACE: Ttl = Ttl::from_mins(24 * 60);
}

impl Default for RotationRules {
    fn default() -> Self {
        Self {
            every: Ttl::from_mins(30 * 24 * 60),
            grace: Ttl::from_mins(15),
        }
    }
}

/// One rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The id; also the operation's.
    pub id: RotationId,
    /// What is rotated.
    pub kind: RotationKind,
    /// Which: the lease of a shared key, the vendor of a root credential.
    pub subject: String,
    /// The vendor.
    pub vendor: Name,
    /// The policy whose grants share the key; `None` for a root credential.
    pub policy: Option<Name>,
    /// How.
    pub mode: RotateMode,
    /// Where it stands.
    pub state: RotationState,
    /// The key before: a credential's or root credential's id.
    pub old: String,
    /// The key after.
    pub new: String,
    /// How long the old key may be used beside the new one.
    pub grace: Ttl,
    /// Who asked: `schedule`, or a principal's name.
    pub by: String,
    /// How often the key had been used when it became current.
    pub uses: i64,
    /// When a worker looks at it next; `None` only in final states.
    pub next_at: Option<Timestamp>,
    /// The last trouble, in safe words.
    pub last_error: Option<String>,
    /// When it was begun.
    pub created: Timestamp,
    /// When the new key became the current one.
    pub promoted: Option<Timestamp>,
    /// When it came to its end.
    pub ended: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for state in RotationState::ALL {
            assert_eq!(RotationState::parse(state.as_str()), Some(state));
        }
        for mode in RotateMode::ALL {
            assert_eq!(RotateMode::parse(mode.as_str()), Some(mode));
        }
        for kind in [RotationKind::Credential, RotationKind::Root] {
            assert_eq!(RotationKind::parse(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn nothing_leads_back_once_the_new_key_is_current() {
        use RotationState::{Failed, Promoted};
        for state in RotationState::ALL {
            let after = !state.is_pending() && state != Failed;
            for next in RotationState::ALL {
                if after && (next.is_pending() || next == Failed) {
                    assert!(!state.may_become(next), "{state:?} to {next:?}");
                }
                if state.is_final() {
                    assert!(!state.may_become(next), "{state:?} to {next:?}");
                }
            }
            let leads = matches!(
                state,
                RotationState::PendingIntent | RotationState::PendingTested | Promoted
            );
            assert_eq!(state.may_become(Promoted), leads, "{state:?}");
        }
    }
}
