//! What a prim keeps until a lease ends: keys by grant and reference, and which tokens were found to allow them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::resolved::Resolved;
use crate::base::canonical::Digest;
use crate::base::id::{GrantId, LeaseId};
use crate::base::time::Timestamp;
use crate::model::scope::Reference;

/// Entries after which what is over is thrown out.
const MANY: usize = 1024;

/// A grant and what is wanted of it: what has one lease for a prim.
pub(super) type Slot = (GrantId, Reference);

/// A lock that one resolve of a slot holds while it asks.
pub(super) type Flight = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(super) struct Cache {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: HashMap<Slot, Arc<Resolved>>,
    /// Tokens the server said yes to: for which key, and until when that is believed.
    allowed: HashMap<(Digest, Reference), Allowed>,
    flights: HashMap<Slot, Flight>,
}

struct Allowed {
    lease: LeaseId,
    version: i64,
    until: Timestamp,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a slot, while it lives.
    pub(super) fn key(&self, slot: &Slot, now: Timestamp) -> Option<Arc<Resolved>> {
        let key = self.lock().keys.get(slot).cloned();
        key.filter(|key| key.lives(now))
    }

    /// The key of a slot, if the server said yes to this token not long ago.
    pub(super) fn allowed(&self, token: Digest, slot: &Slot, now: Timestamp) -> Option<Arc<Resolved>> {
        let kept = self.lock();
        let allowed = kept
            .allowed
            .get(&(token, slot.1.clone()))
            .filter(|allowed| allowed.until > now)?;
        let key = kept.keys.get(slot).filter(|key| key.lives(now))?;
        (key.lease_id == allowed.lease && key.version == allowed.version).then(|| Arc::clone(key))
    }

    /// The server gave `key` to this token; that is believed until `until`.
    pub(super) fn keep(&self, token: Digest, slot: &Slot, key: &Arc<Resolved>, until: Timestamp, now: Timestamp) {
        let mut kept = self.lock();
        if kept.allowed.len() >= MANY || kept.keys.len() >= MANY {
            kept.allowed.retain(|_, allowed| allowed.until > now);
            kept.keys.retain(|_, key| key.lives(now));
            kept.flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        }
        let allowed = Allowed {
            lease: key.lease_id,
            version: key.version,
            until,
        };
        kept.allowed.insert((token, slot.1.clone()), allowed);
        kept.keys.insert(slot.clone(), Arc::clone(key));
    }

    /// Forgets the key of a lease: it is dead.
    pub(super) fn forget(&self, lease: LeaseId) {
        self.lock().keys.retain(|_, key| key.lease_id != lease);
    }

    /// The lock of a slot.
    pub(super) fn flight(&self, slot: &Slot) -> Flight {
        Arc::clone(self.lock().flights.entry(slot.clone()).or_default())
    }
}
