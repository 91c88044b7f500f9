//! What can happen next to a purchase, and what comes of it.

use dekeys::model::payment::PurchaseState::{
    self, Claimed, Credited, Paid, Provisioning, Refused, Released, Settled, Settling,
};

use super::{Bug, Grant, Purchases, Row, State, Task};

/// Servers and grants by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Send { server: u8 },
    Provision { server: u8, works: bool },
    BeginSettling { server: u8 },
    MoneyMoves,
    AnswerDone { server: u8 },
    AnswerRefused { server: u8 },
    LoseAnswer { server: u8 },
    ProvisionPaid { server: u8, works: bool },
    Finish { server: u8 },
    ClaimIsOver,
    GrantIsOver { grant: u8 },
    AuthorizationEnds,
    Reconcile,
    Crash { server: u8 },
}

/// All that can happen in a state.
pub(crate) fn possible(model: &Purchases, state: &State, all: &mut Vec<Action>) {
    for server in 0..model.servers {
        of_server(state, server, all);
    }
    let seen = state.submitted || model.observer && state.row.is_some();
    if seen && !state.moved && !state.ended {
        all.push(Action::MoneyMoves);
    }
    if state.is(Claimed) || model.has(Bug::GivesUpWhatSettles) && state.is(Settling) {
        all.push(Action::ClaimIsOver);
    }
    if let Some(row) = state.row {
        let grant = state.grants[usize::from(row.grant)];
        if !grant.over && grant.activated == 0 {
            all.push(Action::GrantIsOver { grant: row.grant });
        }
        if !state.ended {
            all.push(Action::AuthorizationEnds);
        }
        let looked_at = !matches!(row.state, Claimed | Settled | Credited) || model.has(Bug::CreditsBlindly);
        if looked_at && !row.watched {
            all.push(Action::Reconcile);
        }
    }
}

fn of_server(state: &State, server: u8, all: &mut Vec<Action>) {
    match state.tasks[usize::from(server)] {
        Task::None if state.sent > 0 && !state.ended => all.push(Action::Send { server }),
        Task::None => {}
        Task::Claimed { .. } if state.settle_first => all.push(Action::BeginSettling { server }),
        Task::Claimed { .. } => all.extend([true, false].map(|works| Action::Provision { server, works })),
        Task::Made { .. } => all.push(Action::BeginSettling { server }),
        Task::Asked { .. } => {
            all.push(if state.moved {
                Action::AnswerDone { server }
            } else {
                Action::AnswerRefused { server }
            });
            if state.losses > 0 {
                all.push(Action::LoseAnswer { server });
            }
        }
        Task::Paid { .. } => all.extend([true, false].map(|works| Action::ProvisionPaid { server, works })),
        Task::PaidAndMade { .. } => all.push(Action::Finish { server }),
    }
    if state.crashes > 0 && state.tasks[usize::from(server)] != Task::None {
        all.push(Action::Crash { server });
    }
}

/// What comes of it.
pub(crate) fn take(model: &Purchases, state: &mut State, action: Action) {
    match action {
        Action::Send { server } => send(state, server),
        Action::Provision { server, works } => provision(model, state, server, works),
        Action::BeginSettling { server } => begin_settling(model, state, server),
        Action::MoneyMoves => state.moved = true,
        Action::AnswerDone { server } => answer_done(model, state, server),
        Action::AnswerRefused { server } => {
            task(state, server, Task::None);
            if state.is(Settling) {
                state.misled |= state.moved;
                close(model, state, Refused);
            }
        }
        Action::LoseAnswer { server } => lose(model, state, server),
        Action::ProvisionPaid { server, works } => provision_paid(model, state, server, works),
        Action::Finish { server } => {
            if let Task::PaidAndMade { grant } = task(state, server, Task::None) {
                activate(model, state, grant);
            }
        }
        Action::ClaimIsOver => close(model, state, Released),
        Action::GrantIsOver { grant } => state.grants[usize::from(grant)].over = true,
        Action::AuthorizationEnds => state.ended = true,
        Action::Reconcile => reconcile(model, state),
        Action::Crash { server } => {
            state.crashes -= 1;
            crash(state, server);
        }
    }
}

fn task(state: &mut State, server: u8, next: Task) -> Task {
    std::mem::replace(&mut state.tasks[usize::from(server)], next)
}

fn become_(state: &mut State, next: PurchaseState) {
    if let Some(row) = &mut state.row {
        state.broken |= !row.state.may_become(next);
        row.state = next;
        row.watched = false;
    }
}

/// The authorization is claimed, or whoever sends it hears what became of it.
fn send(state: &mut State, server: u8) {
    state.sent -= 1;
    let grant = u8::try_from(state.grants.len()).expect("a handful");
    match state.row {
        None => {
            state.row = Some(Row {
                state: Claimed,
                grant,
                watched: false,
            });
        }
        // Nobody who has paid may claim: the rail is asked, and it says that the authorization is used.
        Some(Row { state: Released, .. }) if !state.moved => {
            become_(state, Claimed);
            if let Some(row) = &mut state.row {
                row.grant = grant;
            }
        }
        Some(Row {
            state: Refused,
            watched: true,
            ..
        }) => return state.misled |= state.moved,
        Some(_) => return,
    }
    state.grants.push(Grant::default());
    task(state, server, Task::Claimed { grant });
}

fn provision(model: &Purchases, state: &mut State, server: u8, works: bool) {
    let Task::Claimed { grant } = task(state, server, Task::None) else {
        return;
    };
    if works {
        state.grants[usize::from(grant)].keys = true;
        task(state, server, Task::Made { grant });
    } else if is_ours(state, Claimed, grant) {
        close(model, state, Released);
    }
}

fn is_ours(state: &State, wanted: PurchaseState, grant: u8) -> bool {
    state.row.is_some_and(|row| row.state == wanted && row.grant == grant)
}

/// Keys on record, then the record that settlement begins. What was given up meanwhile goes no further.
fn begin_settling(model: &Purchases, state: &mut State, server: u8) {
    let (Task::Claimed { grant } | Task::Made { grant }) = task(state, server, Task::None) else {
        return;
    };
    if !is_ours(state, Claimed, grant) && !model.has(Bug::SettlesWhatWasGivenUp) {
        // A late answer of the vendor: its keys are ended.
        return end_keys(model, state, grant);
    }
    become_(state, Settling);
    state.submitted = true;
    task(state, server, Task::Asked { grant });
}

fn answer_done(model: &Purchases, state: &mut State, server: u8) {
    let Task::Asked { grant } = task(state, server, Task::None) else {
        return;
    };
    if !state.settle_first {
        return activate(model, state, grant);
    }
    if state.is(Settling) {
        become_(state, Paid);
        become_(state, Provisioning);
        task(state, server, Task::Paid { grant });
    }
}

/// Nobody knows whether the money moved.
fn lose(model: &Purchases, state: &mut State, server: u8) {
    state.losses -= 1;
    let Task::Asked { grant } = task(state, server, Task::None) else {
        return;
    };
    if model.has(Bug::UnknownIsRefused) && state.is(Settling) {
        state.misled |= state.moved;
        close(model, state, Refused);
    }
    if model.has(Bug::UnknownIsSettled) {
        activate(model, state, grant);
    }
}

fn provision_paid(model: &Purchases, state: &mut State, server: u8, works: bool) {
    let Task::Paid { grant } = task(state, server, Task::None) else {
        return;
    };
    if works {
        state.grants[usize::from(grant)].keys = true;
        task(state, server, Task::PaidAndMade { grant });
    } else if state.is(Provisioning) {
        credit(model, state);
    }
}

/// The grant in force, unless it is so already, or came to nothing.
fn activate(model: &Purchases, state: &mut State, grant: u8) {
    let open = state
        .row
        .is_some_and(|row| matches!(row.state, Settling | Provisioning));
    if !open && !model.has(Bug::ActivatesTwice) {
        if !state.is(Settled) {
            end_keys(model, state, grant);
        }
        return;
    }
    state.grants[usize::from(grant)].activated += 1;
    if open {
        become_(state, Settled);
    }
}

fn credit(model: &Purchases, state: &mut State) {
    let Some(row) = state.row else { return };
    state.credits += 1;
    become_(state, Credited);
    end_keys(model, state, row.grant);
}

/// Came to nothing.
fn close(model: &Purchases, state: &mut State, next: PurchaseState) {
    let Some(row) = state.row else { return };
    become_(state, next);
    end_keys(model, state, row.grant);
}

fn end_keys(model: &Purchases, state: &mut State, grant: u8) {
    if !model.has(Bug::LeavesKeys) {
        state.grants[usize::from(grant)].keys = false;
    }
}

/// One look of the reconciler, which asks the rail what happened.
fn reconcile(model: &Purchases, state: &mut State) {
    let Some(row) = state.row else { return };
    let grant = state.grants[usize::from(row.grant)];
    match row.state {
        Settling if state.moved && state.settle_first => {
            become_(state, Paid);
            // Its keys are made at once, by the same worker; here they cannot be.
            if grant.over {
                return credit(model, state);
            }
            become_(state, Provisioning);
        }
        Settling if state.moved && grant.over => credit(model, state),
        Settling if state.moved => activate(model, state, row.grant),
        Settling if state.ended => close(model, state, Refused),
        // Whoever made them is gone: nobody knows how far it came.
        Paid | Provisioning => credit(model, state),
        Refused | Released if state.ended && model.has(Bug::ForgetsTheRefused) => watched(state),
        Refused | Released if state.ended && state.moved => credit(model, state),
        Refused | Released if state.ended => watched(state),
        Settled if model.has(Bug::CreditsBlindly) => credit(model, state),
        _ => {}
    }
}

fn watched(state: &mut State) {
    if let Some(row) = &mut state.row {
        row.watched = true;
    }
}

/// Keys that were not on record yet are found by name, and ended: recovery's affair, and searched in its own model.
fn crash(state: &mut State, server: u8) {
    match task(state, server, Task::None) {
        Task::Made { grant } | Task::PaidAndMade { grant } => state.grants[usize::from(grant)].keys = false,
        _ => {}
    }
}
