//! What is on record, what runs, what is under way, and what the vendor has.

use dekeys::model::credential::CredentialState;
use dekeys::model::orphan::OrphanState;

use super::{Provisioning, number, step};

/// A credential's row. The name of its key follows from which operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: CredentialState,
    /// The vendor's id of it.
    pub(crate) key: Option<u8>,
    /// Searches so far; three stand for more.
    pub(crate) searches: u8,
    /// Whether its creation may still be under way, going by the clock.
    pub(crate) under_way: bool,
    /// Its value was on record.
    pub(crate) recorded: bool,
    /// Its value was given to somebody.
    pub(crate) released: bool,
}

/// The task that asks the vendor for a key; it dies with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    None,
    Begun { by: u8 },
    Asked { by: u8 },
    Answered { by: u8, key: u8 },
    Heard { by: u8, key: u8 },
    Saved { by: u8 },
    Over,
}

impl Task {
    pub(crate) fn server(self) -> Option<u8> {
        match self {
            Self::None | Self::Over => None,
            Self::Begun { by }
            | Self::Asked { by }
            | Self::Saved { by }
            | Self::Answered { by, .. }
            | Self::Heard { by, .. } => Some(by),
        }
    }
}

/// What a server's worker does between two commits: what it saw may be old when it commits again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Worker {
    Idle,
    Searched {
        operation: u8,
        searches: u8,
        /// Whether nothing could be under way any more when it began.
        settled: bool,
        found: Vec<u8>,
    },
    Ending {
        operation: u8,
        key: u8,
        dead: bool,
    },
    Listed {
        keys: Vec<u8>,
    },
    EndingOrphan {
        key: u8,
        dead: bool,
    },
}

/// A key at the vendor. Nobody here made the one without an operation, and its name looks like ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) operation: Option<u8>,
    pub(crate) alive: bool,
    pub(crate) listed: bool,
}

/// A key that was reported, or is to be ended, beside the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Orphan {
    pub(crate) key: u8,
    pub(crate) state: OrphanState,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rows: Vec<Option<Row>>,
    pub(crate) tasks: Vec<Task>,
    /// Requests for a key that have not arrived at the vendor, for each operation.
    pub(crate) asked: Vec<u8>,
    pub(crate) keys: Vec<Key>,
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) doubles: u8,
    /// A state changed as the product would not let it.
    pub(crate) broken: bool,
}

impl State {
    pub(crate) fn new(model: &Provisioning) -> Self {
        let operations = usize::from(model.operations);
        Self {
            rows: vec![None; operations],
            tasks: vec![Task::None; operations],
            asked: vec![0; operations],
            keys: vec![Key {
                operation: None,
                alive: true,
                listed: true,
            }],
            orphans: Vec::new(),
            workers: vec![Worker::Idle; usize::from(model.servers)],
            crashes: model.crashes,
            losses: model.losses,
            doubles: model.doubles,
            broken: false,
        }
    }

    /// Keys that live, with their operation.
    pub(crate) fn living(&self) -> impl Iterator<Item = (u8, Option<u8>)> {
        let living = self.keys.iter().enumerate().filter(|(_, key)| key.alive);
        living.map(|(index, key)| (number(index), key.operation))
    }

    /// Keys that the vendor lists; under the name of one operation, or all.
    pub(crate) fn listed(&self, operation: Option<u8>) -> Vec<u8> {
        let shown = |(key, of): &(u8, Option<u8>)| {
            self.keys[usize::from(*key)].listed && operation.is_none_or(|wanted| Some(wanted) == *of)
        };
        self.living().filter(shown).map(|(key, _)| key).collect()
    }

    pub(crate) fn any(&self, state: CredentialState) -> bool {
        self.rows.iter().flatten().any(|row| row.state == state)
    }

    pub(crate) fn is_in_use(&self, key: u8) -> bool {
        let mut rows = self.rows.iter().flatten();
        rows.any(|row| row.state == CredentialState::Active && row.key == Some(key))
    }

    /// Nothing runs or is under way, no timer is left, and the reaper would change nothing.
    pub(crate) fn is_at_rest(&self, model: &Provisioning) -> bool {
        let settled = |row: &Row| row.state.is_final() || row.state == CredentialState::Active;
        let still = self.asked.iter().all(|asked| *asked == 0)
            && self.tasks.iter().all(|task| task.server().is_none())
            && self.workers.iter().all(|worker| *worker == Worker::Idle)
            && self.keys.iter().all(|key| key.listed)
            && self.rows.iter().flatten().all(settled)
            && self.orphans.iter().all(|orphan| orphan.state != OrphanState::Revoking);
        still && (!model.reaper || step::reaped(model, self) == *self)
    }

    /// Changes a row's state, and remembers a change that the product would not let happen.
    pub(crate) fn become_(&mut self, operation: u8, next: CredentialState) {
        let Some(row) = &mut self.rows[usize::from(operation)] else {
            return;
        };
        self.broken |= row.state != next && !row.state.may_become(next);
        row.state = next;
    }

    /// Puts an orphan on record; answers whether that is news.
    pub(crate) fn keep_orphan(&mut self, key: u8, state: OrphanState, reopen: bool) {
        match self.orphans.iter_mut().find(|orphan| orphan.key == key) {
            Some(known) if known.state == OrphanState::Gone && reopen => known.state = state,
            Some(_) => {}
            None => self.orphans.push(Orphan { key, state }),
        }
        self.orphans.sort_unstable_by_key(|orphan| orphan.key);
    }
}
