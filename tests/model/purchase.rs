//! One authorization to pay, from its claim to its end, as `service/{purchase, prepaid, reconcile}.rs` handle it: keys
//! first and then the money, or the money first.

mod step;

use dekeys::model::payment::PurchaseState;
use stateright::{Model, Property};

use crate::search::{breaks, search};
use step::Action;

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What the rail did not answer counts as refused.
    UnknownIsRefused,
    /// What the rail did not answer counts as settled.
    UnknownIsSettled,
    /// A purchase is given up whose settlement has begun.
    GivesUpWhatSettles,
    /// Settlement begins without a look whether the purchase was given up.
    SettlesWhatWasGivenUp,
    /// A refused purchase is not looked at again.
    ForgetsTheRefused,
    /// A grant is put in force without a look whether it is already, or came to nothing.
    ActivatesTwice,
    /// Credit is given for what has its grant.
    CreditsBlindly,
    /// The keys of a purchase that came to nothing are not ended.
    LeavesKeys,
}

/// What is searched.
pub(crate) struct Purchases {
    pub(crate) servers: u8,
    /// How often the same authorization is sent.
    pub(crate) sent: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    /// Somebody who saw the authorization may bring it to the chain.
    pub(crate) observer: bool,
    pub(crate) bug: Option<Bug>,
}

impl Purchases {
    const USUAL: Self = Self {
        servers: 2,
        sent: 3,
        crashes: 1,
        losses: 1,
        observer: true,
        bug: None,
    };

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

/// The request that works on the purchase in a server; it dies with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    None,
    /// It claimed the authorization for the grant of this number.
    Claimed {
        grant: u8,
    },
    /// It has the keys.
    Made {
        grant: u8,
    },
    /// It asked the rail to settle.
    Asked {
        grant: u8,
    },
    /// Settled first: it makes the keys.
    Paid {
        grant: u8,
    },
    PaidAndMade {
        grant: u8,
    },
}

/// The purchase's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: PurchaseState,
    pub(crate) grant: u8,
    /// Came to nothing, and was looked at for the last time.
    pub(crate) watched: bool,
}

/// One grant that it may pay for: a claim after a release has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Grant {
    pub(crate) activated: u8,
    pub(crate) over: bool,
    /// Keys that live for it.
    pub(crate) keys: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent things that have happened, or not"
)]
pub(crate) struct State {
    pub(crate) settle_first: bool,
    pub(crate) row: Option<Row>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) credits: u8,
    /// The rail was given the authorization.
    pub(crate) submitted: bool,
    /// The money moved.
    pub(crate) moved: bool,
    /// The authorization's time is over, and what happened is final.
    pub(crate) ended: bool,
    pub(crate) sent: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    /// A state changed as the product would not let it.
    pub(crate) broken: bool,
    /// Somebody was told to pay whose money had moved.
    pub(crate) misled: bool,
}

const PAID: &str = "nothing is given that is not paid";
const ONCE: &str = "one payment buys one thing";
const LOST: &str = "in the end whoever paid has a grant or credit";
const KEYS: &str = "in the end keys live for a grant in force alone";
const TOLD: &str = "nobody who paid is told to pay";
const ARROWS: &str = "states change as the product lets them";

impl Model for Purchases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |settle_first| State {
            settle_first,
            row: None,
            grants: Vec::new(),
            tasks: vec![Task::None; usize::from(self.servers)],
            credits: 0,
            submitted: false,
            moved: false,
            ended: false,
            sent: self.sent,
            crashes: self.crashes,
            losses: self.losses,
            broken: false,
            misled: false,
        };
        vec![state(false), state(true)]
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
        vec![
            Property::always(PAID, |_, state: &State| state.moved || state.bought() == 0),
            Property::always(ONCE, |_, state: &State| state.bought() <= 1),
            Property::always(LOST, |_, state: &State| {
                !state.is_over() || !state.moved || state.bought() == 1
            }),
            Property::always(KEYS, |_, state: &State| {
                !state.is_over() || state.grants.iter().all(|grant| grant.keys == (grant.activated > 0))
            }),
            Property::always(TOLD, |_, state: &State| !state.misled),
            Property::always(ARROWS, |_, state: &State| !state.broken),
            Property::sometimes("a grant is bought", |_, state: &State| {
                state.grants.iter().any(|grant| grant.activated > 0)
            }),
            Property::sometimes("a payer has credit", |_, state: &State| state.credits > 0),
            Property::sometimes("a payment is refused", |_, state: &State| {
                state.is(PurchaseState::Refused)
            }),
            Property::sometimes("a purchase is claimed anew", |_, state: &State| state.grants.len() > 1),
        ]
    }
}

impl State {
    pub(crate) fn is(&self, wanted: PurchaseState) -> bool {
        self.row.is_some_and(|row| row.state == wanted)
    }

    /// Grants put in force, and credits.
    fn bought(&self) -> u8 {
        self.credits + self.grants.iter().map(|grant| grant.activated).sum::<u8>()
    }

    /// Nobody works on it, and nothing can happen to it any more.
    fn is_over(&self) -> bool {
        let over = |row: Row| match row.state {
            PurchaseState::Settled | PurchaseState::Credited => true,
            PurchaseState::Refused | PurchaseState::Released => row.watched,
            _ => false,
        };
        self.ended && self.tasks.iter().all(|task| *task == Task::None) && self.row.is_some_and(over)
    }
}

#[test]
fn no_payment_is_lost_or_counted_twice() {
    search("purchase", Purchases::USUAL);
}

#[test]
#[ignore = "the deep search: minutes of an optimised build"]
fn no_payment_is_lost_by_three_servers() {
    let deep = Purchases {
        servers: 3,
        sent: 4,
        crashes: 2,
        losses: 2,
        ..Purchases::USUAL
    };
    search("purchase, deep, three servers", deep);
}

#[test]
fn each_promise_breaks_by_a_mistake() {
    for (bug, promise) in [
        (Bug::UnknownIsRefused, TOLD),
        (Bug::UnknownIsSettled, PAID),
        (Bug::GivesUpWhatSettles, ARROWS),
        (Bug::SettlesWhatWasGivenUp, ARROWS),
        (Bug::ForgetsTheRefused, LOST),
        (Bug::ActivatesTwice, ONCE),
        (Bug::CreditsBlindly, ONCE),
        (Bug::LeavesKeys, KEYS),
    ] {
        breaks(
            bug,
            Purchases {
                bug: Some(bug),
                ..Purchases::USUAL
            },
            promise,
        );
    }
}
