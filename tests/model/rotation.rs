//! A key that is in use gives way to another one, as `service/rotation.rs` does it where the vendor makes a second key.

use dekeys::model::credential::CredentialState::{self, Active, Failed, Intent, Probe, Revoked, Revoking};
use dekeys::model::rotation::RotationState;
use stateright::{Model, Property};

use crate::search::{breaks, search};

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A worker goes on from what it saw, whatever happened meanwhile.
    TrustsWhatItSaw,
    /// The key before is ended when the new one has passed its test, and only then is the new one current.
    EndsTheOldOneFirst,
    /// A key becomes current that the vendor was never asked about.
    DoesNotTest,
    /// A rotation may be given up when its key is current already.
    GivesUpLate,
    /// The rotation is over with its overlap; nobody ends the key before.
    ForgetsTheOldOne,
}

/// What is searched.
struct Rotations {
    in_a_row: u8,
    servers: u8,
    crashes: u8,
    losses: u8,
    bug: Option<Bug>,
}

impl Rotations {
    const USUAL: Self = Self {
        in_a_row: 1,
        servers: 2,
        crashes: 1,
        losses: 1,
        bug: None,
    };

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

/// A key's row, and the key at the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    state: CredentialState,
    alive: bool,
    /// The vendor does what it says: a key that it made may be one that it does not take.
    taken: bool,
    /// The request for it has not arrived.
    asked: bool,
}

/// Rotation number n has key n give way to key n + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Rotation {
    state: RotationState,
    /// Who asked the vendor, and waits for its answer.
    maker: Option<u8>,
}

/// What a server holds between what it saw and its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// A step of a rotation that stood there, and whether the vendor took the new key when it was asked.
    Saw {
        rotation: u8,
        state: RotationState,
        taken: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    keys: Vec<Key>,
    rotations: Vec<Rotation>,
    workers: Vec<Worker>,
    /// The one current key, as the lease names it.
    current: u8,
    /// Whether the lease is in force.
    live: bool,
    crashes: u8,
    losses: u8,
    /// A state changed as the product would not let it, or an older key became current again.
    broken: bool,
    went_back: bool,
}

/// Rotations, keys and servers by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Begin {
        by: u8,
    },
    Arrive {
        key: u8,
        taken: bool,
    },
    Answer {
        rotation: u8,
    },
    LoseAnswer {
        rotation: u8,
    },
    Search {
        key: u8,
    },
    /// A vendor may refuse a new key for a while.
    See {
        server: u8,
        rotation: u8,
        refused: bool,
    },
    Commit {
        server: u8,
    },
    Die {
        key: u8,
    },
    HearEnd {
        key: u8,
    },
    EndLease,
    Crash {
        server: u8,
    },
}

const CURRENT: &str = "the current key is one that the vendor takes";
const FORWARD: &str = "no key that was replaced is current again";
const AT_REST: &str = "at rest the current key alone lives";
const ARROWS: &str = "states change as the product lets them";

impl Model for Rotations {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            keys: vec![Key {
                state: Active,
                alive: true,
                taken: true,
                asked: false,
            }],
            rotations: Vec::new(),
            workers: vec![Worker::Idle; usize::from(self.servers)],
            current: 0,
            live: true,
            crashes: self.crashes,
            losses: self.losses,
            broken: false,
            went_back: false,
        }]
    }

    fn actions(&self, state: &State, all: &mut Vec<Action>) {
        let pending = state.rotations.iter().any(|rotation| rotation.state.is_pending());
        let in_use = state.live && state.keys[usize::from(state.current)].state == Active;
        if !pending && in_use && state.rotations.len() < usize::from(self.in_a_row) {
            all.extend((0..self.servers).map(|by| Action::Begin { by }));
        }
        for (rotation, row) in (0..).zip(&state.rotations) {
            if row.maker.is_some() {
                if state.keys[usize::from(rotation) + 1].alive {
                    all.push(Action::Answer { rotation });
                }
                if state.losses > 0 {
                    all.push(Action::LoseAnswer { rotation });
                }
            }
        }
        for (key, row) in (0..).zip(&state.keys) {
            if row.asked {
                all.extend([true, false].map(|taken| Action::Arrive { key, taken }));
            }
            match row.state {
                // Its own recovery waits until nothing can be under way any more.
                Intent | Probe if !row.asked => all.push(Action::Search { key }),
                Revoking if row.alive => all.push(Action::Die { key }),
                Revoking => all.push(Action::HearEnd { key }),
                _ => {}
            }
        }
        for server in 0..self.servers {
            match state.workers[usize::from(server)] {
                Worker::Idle => {
                    let open = (0..).zip(&state.rotations).filter(|(_, row)| !row.state.is_final());
                    all.extend(open.flat_map(|(rotation, row)| {
                        let tested = row.state == RotationState::PendingCreated;
                        [false, true]
                            .into_iter()
                            .filter(move |refused| tested || !refused)
                            .map(move |refused| Action::See {
                                server,
                                rotation,
                                refused,
                            })
                    }));
                }
                Worker::Saw { .. } => all.push(Action::Commit { server }),
            }
            if state.crashes > 0 {
                all.push(Action::Crash { server });
            }
        }
        if state.live {
            all.push(Action::EndLease);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.take(&mut next, action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(CURRENT, |_, state: &State| {
                let current = state.keys[usize::from(state.current)];
                !state.live || current.state == Active && current.alive && current.taken
            }),
            Property::always(FORWARD, |_, state: &State| !state.went_back),
            Property::always(AT_REST, |_, state: &State| {
                !state.is_at_rest() || state.only_the_current_lives()
            }),
            Property::always(ARROWS, |_, state: &State| !state.broken),
            Property::sometimes("a key is replaced", |_, state: &State| state.has(RotationState::Done)),
            Property::sometimes("a rotation fails", |_, state: &State| state.has(RotationState::Failed)),
        ]
    }
}

impl State {
    fn has(&self, wanted: RotationState) -> bool {
        self.rotations.iter().any(|rotation| rotation.state == wanted)
    }

    fn is_at_rest(&self) -> bool {
        let idle = self.workers.iter().all(|worker| *worker == Worker::Idle);
        let over = |rotation: &Rotation| rotation.state.is_final() && rotation.maker.is_none();
        let settled = |key: &Key| !key.asked && (key.state.is_final() || key.state == Active);
        idle && self.rotations.iter().all(over) && self.keys.iter().all(settled)
    }

    fn only_the_current_lives(&self) -> bool {
        let mut keys = (0_u8..).zip(&self.keys);
        keys.all(|(number, key)| !key.alive || self.live && number == self.current)
    }

    fn key(&mut self, number: u8, next: CredentialState) {
        let row = &mut self.keys[usize::from(number)];
        self.broken |= row.state != next && !row.state.may_become(next);
        row.state = next;
    }

    fn rotation(&mut self, number: u8, next: RotationState) {
        let row = &mut self.rotations[usize::from(number)];
        self.broken |= !row.state.may_become(next);
        row.state = next;
    }

    /// A key that is not wanted any more: ended, or looked for.
    fn abandon(&mut self, number: u8) {
        match self.keys[usize::from(number)].state {
            Active => self.key(number, Revoking),
            Intent => self.key(number, Probe),
            _ => {}
        }
    }

    fn make_current(&mut self, number: u8) {
        self.went_back |= number < self.current;
        self.current = number;
    }
}

impl Rotations {
    fn take(&self, state: &mut State, action: Action) {
        match action {
            Action::Begin { by } => {
                state.keys.push(Key {
                    state: Intent,
                    alive: false,
                    taken: false,
                    asked: true,
                });
                // A rotation that failed left the current key where it was; its number is the key's before.
                state.rotations.push(Rotation {
                    state: RotationState::PendingIntent,
                    maker: Some(by),
                });
            }
            Action::Arrive { key, taken } => {
                let row = &mut state.keys[usize::from(key)];
                (row.asked, row.alive, row.taken) = (false, true, taken);
            }
            Action::Answer { rotation } => answer(state, rotation),
            Action::LoseAnswer { rotation } => {
                state.losses -= 1;
                state.rotations[usize::from(rotation)].maker = None;
                state.abandon(rotation + 1);
                self.give_up(state, rotation);
            }
            Action::Search { key } => {
                if state.keys[usize::from(key)].state == Intent {
                    state.key(key, Probe);
                }
                let found = state.keys[usize::from(key)].alive;
                state.key(key, if found { Revoking } else { Failed });
            }
            Action::See {
                server,
                rotation,
                refused,
            } => {
                let row = state.rotations[usize::from(rotation)];
                let new = state.keys[usize::from(rotation) + 1];
                let taken = new.alive && new.taken && !refused;
                state.workers[usize::from(server)] = Worker::Saw {
                    rotation,
                    state: row.state,
                    taken,
                };
            }
            Action::Commit { server } => {
                let seen = std::mem::replace(&mut state.workers[usize::from(server)], Worker::Idle);
                if let Worker::Saw {
                    rotation,
                    state: stood,
                    taken,
                } = seen
                {
                    let still = state.rotations[usize::from(rotation)].state == stood;
                    // Giving up looks only whether the new key is not current yet.
                    let refused = stood == RotationState::PendingCreated && !taken;
                    if still || refused || self.has(Bug::TrustsWhatItSaw) {
                        self.step(state, rotation, stood, taken);
                    }
                }
            }
            Action::Die { key } => state.keys[usize::from(key)].alive = false,
            Action::HearEnd { key } => state.key(key, Revoked),
            Action::EndLease => {
                state.live = false;
                for key in 0..=u8::try_from(state.rotations.len()).expect("a handful") {
                    state.abandon(key);
                }
            }
            Action::Crash { server } => {
                state.crashes -= 1;
                state.workers[usize::from(server)] = Worker::Idle;
                for row in &mut state.rotations {
                    row.maker = row.maker.filter(|maker| *maker != server);
                }
            }
        }
    }

    fn give_up(&self, state: &mut State, rotation: u8) {
        if state.rotations[usize::from(rotation)].state.is_pending() || self.has(Bug::GivesUpLate) {
            state.abandon(rotation + 1);
            state.rotation(rotation, RotationState::Failed);
        }
    }

    /// One commit of a worker.
    fn step(&self, state: &mut State, rotation: u8, stood: RotationState, taken: bool) {
        let new = rotation + 1;
        match stood {
            RotationState::PendingIntent => {
                if !matches!(state.keys[usize::from(new)].state, Intent | Probe) {
                    self.give_up(state, rotation);
                }
            }
            RotationState::PendingCreated if taken || self.has(Bug::DoesNotTest) => {
                state.rotation(rotation, RotationState::PendingTested);
            }
            RotationState::PendingCreated => self.give_up(state, rotation),
            RotationState::PendingTested => self.promote(state, rotation),
            RotationState::Promoted => state.rotation(rotation, RotationState::Overlap),
            RotationState::Overlap if self.has(Bug::ForgetsTheOldOne) => {
                state.rotation(rotation, RotationState::OldRevoking);
                state.rotation(rotation, RotationState::Done);
            }
            RotationState::Overlap => {
                state.abandon(Self::before(state, rotation));
                state.rotation(rotation, RotationState::OldRevoking);
            }
            RotationState::OldRevoking => {
                let old = usize::from(Self::before(state, rotation));
                if state.keys[old].state.is_final() {
                    state.rotation(rotation, RotationState::Done);
                }
            }
            RotationState::Done | RotationState::Failed => {}
        }
    }

    /// The key that a rotation replaces: the newest one before it that was current.
    fn before(state: &State, rotation: u8) -> u8 {
        let failed = |number: &u8| state.rotations[usize::from(*number - 1)].state == RotationState::Failed;
        (0..=rotation)
            .rev()
            .find(|number| *number == 0 || !failed(number))
            .unwrap_or(0)
    }

    /// The one commit that changes which key is current.
    fn promote(&self, state: &mut State, rotation: u8) {
        let (old, new) = (Self::before(state, rotation), rotation + 1);
        if self.has(Bug::EndsTheOldOneFirst) && state.keys[usize::from(old)].state == Active {
            return state.key(old, Revoking);
        }
        let made = state.keys[usize::from(new)].state == Active;
        let in_use = state.live && state.current == old;
        if made && in_use || self.has(Bug::TrustsWhatItSaw) {
            state.make_current(new);
            state.rotation(rotation, RotationState::Promoted);
        } else {
            self.give_up(state, rotation);
        }
    }
}

/// The vendor's answer is put on record, unless the rotation was given up meanwhile: then the key dies unseen.
fn answer(state: &mut State, rotation: u8) {
    let new = rotation + 1;
    state.rotations[usize::from(rotation)].maker = None;
    if state.keys[usize::from(new)].state != Intent {
        if matches!(state.keys[usize::from(new)].state, Probe | Failed) {
            state.key(new, Revoking);
        }
        return;
    }
    state.key(new, Active);
    if state.rotations[usize::from(rotation)].state == RotationState::PendingIntent && state.live {
        state.rotation(rotation, RotationState::PendingCreated);
    } else {
        state.abandon(new);
    }
}

#[test]
fn one_key_is_current_at_every_moment() {
    search("rotation", Rotations::USUAL);
}

#[test]
#[ignore = "the deep search: minutes of an optimised build"]
fn one_key_is_current_through_two_rotations() {
    let deep = Rotations {
        in_a_row: 2,
        ..Rotations::USUAL
    };
    search("rotation, deep, two in a row", deep);
}

#[test]
fn each_promise_breaks_by_a_mistake() {
    let twice = Rotations {
        in_a_row: 2,
        ..Rotations::USUAL
    };
    for (model, bug, promise) in [
        (Rotations::USUAL, Bug::EndsTheOldOneFirst, CURRENT),
        (Rotations::USUAL, Bug::DoesNotTest, CURRENT),
        (Rotations::USUAL, Bug::TrustsWhatItSaw, ARROWS),
        (twice, Bug::TrustsWhatItSaw, FORWARD),
        (Rotations::USUAL, Bug::GivesUpLate, ARROWS),
        (Rotations::USUAL, Bug::ForgetsTheOldOne, AT_REST),
    ] {
        breaks(
            bug,
            Rotations {
                bug: Some(bug),
                ..model
            },
            promise,
        );
    }
}
