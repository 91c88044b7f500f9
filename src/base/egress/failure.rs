//! Why a call did not give an answer, without a word of what was sent.

use std::error::Error;

/// A call that gave no answer. Holds no URL, header or body: those may carry a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Not allowed; nothing was sent.
    #[error("the call is not allowed: {why}")]
    Refused {
        /// The rule.
        why: &'static str,
    },
    /// The peer was not reached; nothing was sent.
    #[error("the peer cannot be reached")]
    Connect,
    /// No answer in time.
    #[error("the peer gave no answer in time")]
    Timeout {
        /// Whether the request may have reached the peer.
        sent: bool,
    },
    /// The answer is longer than allowed. The peer has done its work.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection broke: {why}")]
    Broken {
        /// At which step.
        why: &'static str,
        /// Whether the request may have reached the peer.
        sent: bool,
    },
}

impl EgressError {
    /// One word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Connect => "connect",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::Broken { .. } => "broken",
        }
    }

    /// Whether the request may have reached the peer, so that its effect is unknown.
    #[must_use]
    pub const fn sent(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Connect => false,
            Self::TooLarge { .. } => true,
            Self::Timeout { sent } | Self::Broken { sent, .. } => *sent,
        }
    }

    /// An error before the head of the answer was read.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        if let Some(own) = own_error(error) {
            return own;
        }
        match (error.is_builder(), error.is_connect(), error.is_timeout()) {
            (true, _, _) => Self::Refused {
                why: "the request cannot be built",
            },
            (_, true, true) => Self::Timeout { sent: false },
            (_, true, false) => Self::Connect,
            (_, false, true) => Self::Timeout { sent: true },
            (_, false, false) => Self::Broken {
                why: "no answer",
                sent: true,
            },
        }
    }

    /// An error while the body of the answer was read.
    pub(super) fn after(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::Timeout { sent: true }
        } else {
            Self::Broken {
                why: "the answer ends early",
                sent: true,
            }
        }
    }
}

/// The resolver's own refusal, wherever the client wrapped it.
fn own_error(error: &reqwest::Error) -> Option<EgressError> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(own) = cause.downcast_ref::<EgressError>() {
            return Some(*own);
        }
        next = cause.source();
    }
    None
}
