//! The instance: what `dekeys init` fixes once.

use serde::{Deserialize, Serialize};

use super::control::Control;
use crate::base::canonical::Canonical;
use crate::base::id::{IncarnationId, InstanceId};
use crate::base::time::Timestamp;

/// Whether this instance may touch the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Egress to literal loopback addresses only; tokens begin `dkt_test_`; money is not real.
    Test,
    /// Egress to global https addresses only; tokens begin `dkt_live_`.
    Live,
}

impl Mode {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    /// The prefix of tokens, by which secret scanners find them.
    #[must_use]
    pub const fn token_prefix(self) -> &'static str {
        match self {
            Self::Test => "dkt_test_",
            Self::Live => "dkt_live_",
        }
    }
}

/// What `init` fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The instance's id; part of every sealed value's address.
    pub id: InstanceId,
    /// This copy of the database; a restore gets another.
    pub incarnation: IncarnationId,
    /// Test or live.
    pub mode: Mode,
    /// How many approvers must agree to first versions and to changes of approvers, prim keys and manifests.
    pub quorum: i64,
    /// One person may approve their own request; said at `init`, shown in every event.
    pub solo: bool,
    /// When.
    pub created: Timestamp,
}

impl Control for Instance {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.instance.v1")
            .text(&self.id.to_string())
            .text(&self.incarnation.to_string())
            .text(self.mode.as_str())
            .int(self.quorum)
            .int(i64::from(self.solo))
            .int(self.created.as_millis())
    }
}
