//! Orphans: keys that a vendor lists under this instance's names, or that appeared while a nameless key was made, and
//! that no credential here accounts for. Those of an intent on record here are ended; the others are only reported.

use serde::{Deserialize, Serialize};

use super::scope::Name;
use crate::base::id::{CredentialId, OrphanId, RootId};
use crate::base::time::Timestamp;

/// Why a key is an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A second key of one intent: the vendor did it twice.
    Double,
    /// Counted as dead, and still in the vendor's list.
    StillListed,
    /// Its name is of this instance, and nothing here meant to make it.
    UnknownName,
    /// Another incarnation of this instance meant to make it: this database is a copy, or was restored.
    OtherIncarnation,
    /// It appeared while a key without a name was made, whose answer was lost. It may be that key.
    Appeared,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::Double,
        Self::StillListed,
        Self::UnknownName,
        Self::OtherIncarnation,
        Self::Appeared,
    ];

    /// The word stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::StillListed => "still_listed",
            Self::UnknownName => "unknown_name",
            Self::OtherIncarnation => "other_incarnation",
            Self::Appeared => "appeared",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// Whether dekeys ends it by itself: its intent is on record here.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Double | Self::StillListed)
    }
}

/// Where an orphan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OrphanState {
    /// To be ended at the vendor.
    Revoking,
    /// Told to people, who decide. dekeys does not touch it.
    Reported,
    /// The vendor does not have it any more, as far as it tells. Should it list it again, it is an orphan anew.
    Gone,
    /// Somebody said that it is to stay.
    Dismissed,
}

impl OrphanState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Revoking, Self::Reported, Self::Gone, Self::Dismissed];

    /// The word stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoking => "revoking",
            Self::Reported => "reported",
            Self::Gone => "gone",
            Self::Dismissed => "dismissed",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether somebody, or dekeys, has still to do something about it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Revoking | Self::Reported)
    }

    /// Whether `next` may follow. What is gone stays so.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use OrphanState::{Dismissed, Gone, Reported, Revoking};
        matches!(
            (self, next),
            (Revoking, Revoking | Gone | Reported)
                | (Reported, Reported | Revoking | Gone | Dismissed)
                | (Dismissed, Dismissed | Revoking | Gone)
                | (Gone, Gone)
        )
    }
}

/// One orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The id.
    pub id: OrphanId,
    /// The vendor that lists it.
    pub vendor: Name,
    /// The root credential whose list it is in.
    pub root: RootId,
    /// The vendor's id of it.
    pub vendor_key_id: String,
    /// Its name there; empty where keys have none.
    pub name: String,
    /// The credential whose name it bears, or in whose making it appeared.
    pub credential: Option<CredentialId>,
    /// Why it is one.
    pub reason: Reason,
    /// Where it stands.
    pub state: OrphanState,
    /// Tries to end it; 0 again when a list did not show it any more.
    pub attempt: i64,
    /// When it is tried next; `None` unless it is to be ended.
    pub next_at: Option<Timestamp>,
    /// The last error's safe text.
    pub last_error: Option<String>,
    /// When it was found.
    pub found: Timestamp,
    /// When the vendor listed it last.
    pub seen: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_what_is_gone_stays_gone() {
        for state in OrphanState::ALL {
            assert_eq!(OrphanState::parse(state.as_str()), Some(state));
            assert_eq!(OrphanState::Gone.may_become(state), state == OrphanState::Gone);
            assert!(state.may_become(OrphanState::Gone));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert!(!OrphanState::Dismissed.may_become(OrphanState::Reported));
    }
}
