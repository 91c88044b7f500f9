//! Making keys and ending them, as `service/{provision, recover, end, reap}.rs` do it.

mod step;
mod world;

use dekeys::model::credential::CredentialState;
use stateright::{Model, Property};

use crate::search::{breaks, search};
use step::Action;
use world::{State, Task};

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The vendor is asked before the intent is on record.
    AsksFirst,
    /// A lost answer counts as no key.
    ForgetsWhatIsUnknown,
    /// One search that finds nothing is enough, whatever is under way.
    SearchesOnce,
    /// The last search counts by when it ended, not by when it began.
    SearchesTooEarly,
    /// An answer that came too late makes the key active all the same.
    LateAnswerActivates,
    /// The key leaves before it is on record.
    ReleasesFirst,
    /// The reaper ends what it does not know.
    ReaperEndsTheUnknown,
    /// The reaper takes a key that is being made for one that nobody accounts for.
    ReaperEndsWhatIsBegun,
    /// A lost answer to an end counts as an end.
    LostEndIsAnEnd,
    /// Of two keys under one name the second is forgotten.
    KeepsOneOfTwo,
    /// What was gone once is not looked at again.
    GoneForGood,
}

/// What is searched: how much happens, and how bad it gets.
pub(crate) struct Provisioning {
    pub(crate) operations: u8,
    pub(crate) servers: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) doubles: u8,
    /// Requests arrive, and lists show their keys, before the operation's time is over. As long as that holds, recovery
    /// alone is enough; the reaper is for when it does not.
    pub(crate) punctual: bool,
    pub(crate) reaper: bool,
    pub(crate) bug: Option<Bug>,
}

impl Provisioning {
    /// Answers are lost and servers die, and the vendor keeps its times: there is no reaper, so that it hides nothing.
    const PUNCTUAL: Self = Self {
        operations: 1,
        servers: 2,
        crashes: 1,
        losses: 2,
        doubles: 0,
        punctual: true,
        reaper: false,
        bug: None,
    };
    /// Requests arrive when nobody waits any more, twice, and lists lag for as long as they like.
    const UNTIMELY: Self = Self {
        crashes: 0,
        losses: 1,
        doubles: 1,
        punctual: false,
        reaper: true,
        ..Self::PUNCTUAL
    };

    fn with(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

const NAMED: &str = "each key that lives bears a name that is on record";
const AT_REST: &str = "at rest no key lives that is not in use";
const RECORDED: &str = "no key leaves that is not on record";
const FOREIGN: &str = "what others made stays";
const IN_USE: &str = "a key in use lives";
const ARROWS: &str = "states change as the product lets them";

impl Model for Provisioning {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        step::possible(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        step::take(self, &mut next, action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(NAMED, |_, state: &State| {
                let nameless = |operation: u8| state.rows[usize::from(operation)].is_none();
                !state.living().any(|(_, operation)| operation.is_some_and(nameless))
            }),
            Property::always(AT_REST, |model: &Self, state: &State| {
                !state.is_at_rest(model) || state.living().all(|(key, by)| by.is_none() || state.is_in_use(key))
            }),
            Property::always(RECORDED, |_, state: &State| {
                state.rows.iter().flatten().all(|row| !row.released || row.recorded)
            }),
            Property::always(FOREIGN, |_, state: &State| {
                state.living().any(|(_, operation)| operation.is_none())
            }),
            Property::always(IN_USE, |_, state: &State| {
                let alive = |key: u8| state.living().any(|(living, _)| living == key);
                (0..state.keys.len()).all(|key| !state.is_in_use(number(key)) || alive(number(key)))
            }),
            Property::always(ARROWS, |_, state: &State| !state.broken),
        ];
        for (name, condition) in REACHED {
            all.push(Property::sometimes(name, *condition));
        }
        if self.reaper {
            all.push(Property::sometimes("an orphan is ended", |_, state: &State| {
                !state.orphans.is_empty()
            }));
        }
        all
    }
}

type Seen = fn(&Provisioning, &State) -> bool;

/// That the model does something at all.
const REACHED: &[(&str, Seen)] = &[
    ("a key is in use", |_, state| state.any(CredentialState::Active)),
    ("a key's end is in trouble", |_, state| {
        state.any(CredentialState::Stuck)
    }),
    ("a key was never made", |_, state| state.any(CredentialState::Failed)),
    ("a key is dead", |_, state| state.any(CredentialState::Revoked)),
    ("a key left", |_, state| {
        state.rows.iter().flatten().any(|row| row.released)
    }),
    ("an answer comes when another has gone on", |_, state| {
        let gone_on = |row: &Option<world::Row>| row.is_some_and(|row| row.state != CredentialState::Intent);
        let answered = |task: &Task| matches!(task, Task::Answered { .. });
        std::iter::zip(&state.rows, &state.tasks).any(|(row, task)| gone_on(row) && answered(task))
    }),
];

pub(crate) fn number(index: usize) -> u8 {
    u8::try_from(index).expect("a handful")
}

#[test]
fn no_key_is_lost_while_the_vendor_keeps_its_times() {
    search("provisioning, recovery alone", Provisioning::PUNCTUAL);
}

#[test]
fn no_key_is_lost_when_everything_comes_late_and_twice() {
    search("provisioning, with the reaper", Provisioning::UNTIMELY);
}

#[test]
#[ignore = "the deep search: minutes of an optimised build"]
fn no_key_is_lost_whatever_comes_together() {
    let deep = Provisioning {
        crashes: 1,
        ..Provisioning::UNTIMELY
    };
    search("provisioning, deep, with the reaper", deep);
    let deep = Provisioning {
        operations: 2,
        servers: 1,
        losses: 1,
        ..Provisioning::PUNCTUAL
    };
    search("provisioning, deep, two operations, recovery alone", deep);
}

#[test]
fn each_promise_breaks_by_a_mistake() {
    for (model, bug, promise) in [
        (Provisioning::PUNCTUAL, Bug::AsksFirst, NAMED),
        (Provisioning::PUNCTUAL, Bug::ForgetsWhatIsUnknown, AT_REST),
        (Provisioning::PUNCTUAL, Bug::SearchesOnce, AT_REST),
        (Provisioning::PUNCTUAL, Bug::SearchesTooEarly, AT_REST),
        (Provisioning::PUNCTUAL, Bug::LateAnswerActivates, ARROWS),
        (Provisioning::PUNCTUAL, Bug::ReleasesFirst, RECORDED),
        (Provisioning::PUNCTUAL, Bug::LostEndIsAnEnd, AT_REST),
        (
            Provisioning {
                doubles: 1,
                ..Provisioning::PUNCTUAL
            },
            Bug::KeepsOneOfTwo,
            AT_REST,
        ),
        (Provisioning::UNTIMELY, Bug::ReaperEndsTheUnknown, FOREIGN),
        (Provisioning::UNTIMELY, Bug::ReaperEndsWhatIsBegun, IN_USE),
        (Provisioning::UNTIMELY, Bug::GoneForGood, AT_REST),
    ] {
        breaks(bug, model.with(bug), promise);
    }
}
