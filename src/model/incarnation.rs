//! Incarnations: the histories one database has had. A copy, a database that was rolled back and a restored backup each
//! begin a new one, and do nothing at a vendor before people compared it with what is there (DESIGN 5, 16, 23).

use serde::{Deserialize, Serialize};

use super::control::Control;
use crate::base::canonical::Canonical;
use crate::base::id::IncarnationId;
use crate::base::time::Timestamp;

/// Why a history began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// By `init`.
    Init,
    /// The database lies elsewhere than where it was last opened: a copy, or moved by copying.
    Copied,
    /// The database is older than what is known outside it.
    RolledBack,
    /// By `backup restore`.
    Restored,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::Init, Self::Copied, Self::RolledBack, Self::Restored];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Copied => "copied",
            Self::RolledBack => "rolled_back",
            Self::Restored => "restored",
        }
    }

    /// What happened to the database, after "this database".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Init => "is new",
            Self::Copied => "is a copy, or was moved by copying",
            Self::RolledBack => "is older than what is known outside it",
            Self::Restored => "was restored from a backup",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}

/// One history of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// The id; part of no vendor-side name.
    pub id: IncarnationId,
    /// Why it began.
    pub cause: Cause,
    /// The one before; `None` for the first.
    pub parent: Option<IncarnationId>,
    /// The event with which the history before ended here: its number, and its digest on the chain.
    pub head: (i64, [u8; 32]),
    /// When it began.
    pub begun: Timestamp,
    /// When people said that it agrees with the vendors; `None`: it is being reconciled, and nothing is done.
    pub reconciled: Option<Timestamp>,
    /// Payments are taken from then on: what was signed before may have been taken by the history before.
    pub payments_from: Timestamp,
}

impl Control for Incarnation {
    fn canonical(&self) -> Canonical {
        let parent = self.parent.map_or_else(String::new, |parent| parent.to_string());
        Canonical::new("dekeys.incarnation.v1")
            .text(&self.id.to_string())
            .text(self.cause.as_str())
            .text(&parent)
            .int(self.head.0)
            .bytes(&self.head.1)
            .int(self.begun.as_millis())
            .int(self.reconciled.map_or(-1, Timestamp::as_millis))
            .int(self.payments_from.as_millis())
    }
}
