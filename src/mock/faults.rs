//! What shall go wrong next.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// One fault. The first that fits a call applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent things that may go wrong, not states"
)]
pub struct Fault {
    /// `create`, `list`, `rotate`, `revoke`, `probe`, `route`; empty is every call.
    pub op: String,
    /// Answers this status, without doing the work unless `works`.
    pub status: Option<u16>,
    /// With `status`: does the work first.
    pub works: bool,
    /// Does the work, then closes the connection without an answer.
    pub drop_reply: bool,
    /// Does the work, then answers with a body that is not JSON.
    pub garble: bool,
    /// Does the work of a creation twice, and answers for the first.
    pub twice: bool,
    /// A list that lags: it shows no key.
    pub blind: bool,
    /// Waits so long before the work.
    pub delay_ms: Option<u64>,
    /// For so many calls; absent is until cleared.
    pub count: Option<u32>,
}

#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn waiting(&self) -> Vec<Fault> {
        self.0.lock().clone()
    }

    /// The fault for this call, counted down.
    pub(super) fn take(&self, operation: &str) -> Option<Fault> {
        let mut faults = self.0.lock();
        let found = faults
            .iter_mut()
            .find(|fault| fault.op.is_empty() || fault.op == operation)?;
        if let Some(count) = &mut found.count {
            *count = count.saturating_sub(1);
        }
        let taken = found.clone();
        faults.retain(|fault| fault.count != Some(0));
        Some(taken)
    }
}
