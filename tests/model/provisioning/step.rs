//! What can happen next, and what comes of it. Each action is one commit of ours, or one thing that the vendor, the
//! network or the clock does.

use dekeys::model::credential::CredentialState::{Active, Failed, Intent, Probe, Revoked, Revoking, Stuck};
use dekeys::model::orphan::OrphanState;

use super::world::{Key, Row, State, Task, Worker};
use super::{Bug, Provisioning, number};

/// Searches that must have found nothing.
const SEARCHES: u8 = 2;

/// Operations by number, servers by number, keys by the vendor's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Intend {
        operation: u8,
        by: u8,
    },
    Ask {
        operation: u8,
    },
    Arrive {
        operation: u8,
        twice: bool,
        answers_first: bool,
    },
    Refuse {
        operation: u8,
    },
    LoseAnswer {
        operation: u8,
    },
    Hear {
        operation: u8,
    },
    Save {
        operation: u8,
    },
    Release {
        operation: u8,
    },
    TimePasses {
        operation: u8,
    },
    Show {
        key: u8,
    },
    End {
        operation: u8,
    },
    GiveUp {
        operation: u8,
    },
    Alarm {
        operation: u8,
    },
    Crash {
        server: u8,
    },
    Search {
        server: u8,
        operation: u8,
    },
    Conclude {
        server: u8,
    },
    AskForEnd {
        server: u8,
        operation: u8,
    },
    Die {
        server: u8,
    },
    HearEnd {
        server: u8,
    },
    LoseEnd {
        server: u8,
    },
    List {
        server: u8,
    },
    Account {
        server: u8,
    },
    AskForOrphansEnd {
        server: u8,
        key: u8,
    },
}

/// All that can happen in a state.
pub(crate) fn possible(model: &Provisioning, state: &State, all: &mut Vec<Action>) {
    for operation in 0..model.operations {
        of_operation(model, state, operation, all);
    }
    for (key, _) in state.living() {
        if !state.keys[usize::from(key)].listed {
            all.push(Action::Show { key });
        }
    }
    for server in 0..model.servers {
        of_server(model, state, server, all);
    }
}

fn of_operation(model: &Provisioning, state: &State, operation: u8, all: &mut Vec<Action>) {
    let at = usize::from(operation);
    let Some(row) = state.rows[at] else {
        if state.tasks[at] == Task::None {
            all.extend((0..model.servers).map(|by| Action::Intend { operation, by }));
        }
        if model.has(Bug::AsksFirst) && state.asked[at] == 0 && state.keys.len() == 1 {
            all.push(Action::Ask { operation });
        }
        return;
    };
    if state.asked[at] > 0 {
        all.push(Action::Arrive {
            operation,
            twice: false,
            answers_first: true,
        });
        all.push(Action::Refuse { operation });
        if state.doubles > 0 {
            all.extend([true, false].map(|answers_first| Action::Arrive {
                operation,
                twice: true,
                answers_first,
            }));
        }
    }
    match state.tasks[at] {
        Task::Begun { .. } => all.push(Action::Ask { operation }),
        Task::Asked { .. } | Task::Answered { .. } if state.losses > 0 => all.push(Action::LoseAnswer { operation }),
        _ => {}
    }
    match state.tasks[at] {
        Task::Answered { .. } => all.push(Action::Hear { operation }),
        Task::Heard { .. } => {
            all.push(Action::Save { operation });
            if model.has(Bug::ReleasesFirst) {
                all.push(Action::Release { operation });
            }
        }
        Task::Saved { .. } => all.push(Action::Release { operation }),
        _ => {}
    }
    let unshown = state
        .living()
        .any(|(key, of)| of == Some(operation) && !state.keys[usize::from(key)].listed);
    let arrived = state.asked[at] == 0 && !unshown && !matches!(state.tasks[at], Task::Begun { .. });
    if row.under_way && (arrived || !model.punctual) {
        all.push(Action::TimePasses { operation });
    }
    match row.state {
        Active => all.push(Action::End { operation }),
        Revoking => all.push(Action::Alarm { operation }),
        _ => {}
    }
    if matches!(row.state, Intent | Active) {
        all.push(Action::GiveUp { operation });
    }
}

fn of_server(model: &Provisioning, state: &State, server: u8, all: &mut Vec<Action>) {
    if state.crashes > 0 {
        all.push(Action::Crash { server });
    }
    match &state.workers[usize::from(server)] {
        Worker::Idle => idle(model, state, server, all),
        Worker::Searched { .. } => all.push(Action::Conclude { server }),
        Worker::Listed { .. } => all.push(Action::Account { server }),
        Worker::Ending { dead, .. } | Worker::EndingOrphan { dead, .. } => {
            all.push(if *dead {
                Action::HearEnd { server }
            } else {
                Action::Die { server }
            });
            if state.losses > 0 {
                all.push(Action::LoseEnd { server });
            }
        }
    }
}

fn idle(model: &Provisioning, state: &State, server: u8, all: &mut Vec<Action>) {
    for (index, row) in state.rows.iter().enumerate() {
        let operation = number(index);
        match row.map(|row| row.state) {
            Some(Intent | Probe) => all.push(Action::Search { server, operation }),
            Some(Revoking | Stuck) => all.push(Action::AskForEnd { server, operation }),
            _ => {}
        }
    }
    if model.reaper {
        all.push(Action::List { server });
    }
    let open = state
        .orphans
        .iter()
        .filter(|orphan| orphan.state == OrphanState::Revoking);
    all.extend(open.map(|orphan| Action::AskForOrphansEnd {
        server,
        key: orphan.key,
    }));
}

/// What comes of it.
pub(crate) fn take(model: &Provisioning, state: &mut State, action: Action) {
    match action {
        Action::Intend { operation, by } => intend(state, operation, by),
        Action::Ask { operation } => ask(state, operation),
        Action::Arrive {
            operation,
            twice,
            answers_first,
        } => arrive(state, operation, twice, answers_first),
        Action::Refuse { operation } => {
            state.asked[usize::from(operation)] -= 1;
            if matches!(state.tasks[usize::from(operation)], Task::Asked { .. }) {
                never_made(state, operation);
            }
        }
        Action::LoseAnswer { operation } => lose(model, state, operation),
        Action::Hear { operation } => hear(state, operation),
        Action::Save { operation } => save(model, state, operation),
        Action::Release { operation } => with(state, operation, |row| row.released = true),
        Action::TimePasses { operation } => with(state, operation, |row| row.under_way = false),
        Action::Show { key } => state.keys[usize::from(key)].listed = true,
        Action::End { operation } => state.become_(operation, Revoking),
        Action::GiveUp { operation } => give_up(state, operation),
        Action::Alarm { operation } => state.become_(operation, Stuck),
        Action::Crash { server } => crash(state, server),
        Action::Search { server, operation } => search(state, server, operation),
        Action::Conclude { server } => conclude(model, state, server),
        Action::AskForEnd { server, operation } => {
            if let Some(key) = state.rows[usize::from(operation)].and_then(|row| row.key) {
                state.workers[usize::from(server)] = Worker::Ending {
                    operation,
                    key,
                    dead: false,
                };
            }
        }
        Action::Die { server } => die(state, server),
        Action::HearEnd { server } => hear_end(state, server),
        Action::LoseEnd { server } => {
            state.losses -= 1;
            if model.has(Bug::LostEndIsAnEnd) {
                return hear_end(state, server);
            }
            state.workers[usize::from(server)] = Worker::Idle;
        }
        Action::List { server } => {
            state.workers[usize::from(server)] = Worker::Listed {
                keys: state.listed(None),
            }
        }
        Action::Account { server } => {
            let listed = std::mem::replace(&mut state.workers[usize::from(server)], Worker::Idle);
            if let Worker::Listed { keys } = listed {
                account(model, state, &keys);
            }
        }
        Action::AskForOrphansEnd { server, key } => {
            if state.listed(None).contains(&key) {
                state.workers[usize::from(server)] = Worker::EndingOrphan { key, dead: false };
            } else {
                orphan_gone(state, key);
            }
        }
    }
}

fn with(state: &mut State, operation: u8, change: impl FnOnce(&mut Row)) {
    if let Some(row) = &mut state.rows[usize::from(operation)] {
        change(row);
    }
    let task = &mut state.tasks[usize::from(operation)];
    if matches!(task, Task::Saved { .. }) && state.rows[usize::from(operation)].is_some_and(|row| row.released) {
        *task = Task::Over;
    }
}

fn intend(state: &mut State, operation: u8, by: u8) {
    state.rows[usize::from(operation)] = Some(Row {
        state: Intent,
        key: None,
        searches: 0,
        under_way: true,
        recorded: false,
        released: false,
    });
    state.tasks[usize::from(operation)] = Task::Begun { by };
}

/// What comes too late to be asked is not asked: somebody may be looking for it.
fn ask(state: &mut State, operation: u8) {
    let at = usize::from(operation);
    if state.rows[at].is_some_and(|row| !row.under_way) {
        return never_made(state, operation);
    }
    state.asked[at] += 1;
    if let Task::Begun { by } = state.tasks[at] {
        state.tasks[at] = Task::Asked { by };
    } else {
        // Only with a mistake: nothing is on record, and the request is at the vendor already.
        arrive(state, operation, false, true);
    }
}

fn arrive(state: &mut State, operation: u8, twice: bool, answers_first: bool) {
    let at = usize::from(operation);
    state.asked[at] -= 1;
    let key = Key {
        operation: Some(operation),
        alive: true,
        listed: false,
    };
    let first = number(state.keys.len());
    state.keys.push(key);
    if twice {
        state.doubles -= 1;
        state.keys.push(key);
    }
    if let Task::Asked { by } = state.tasks[at] {
        let key = if answers_first { first } else { first + 1 };
        state.tasks[at] = Task::Answered { by, key };
    }
}

fn never_made(state: &mut State, operation: u8) {
    state.tasks[usize::from(operation)] = Task::Over;
    may(state, operation, Failed);
}

/// A change that the service makes only where it is allowed.
fn may(state: &mut State, operation: u8, next: dekeys::model::credential::CredentialState) {
    let allowed = state.rows[usize::from(operation)].is_some_and(|row| row.state.may_become(next));
    if allowed {
        state.become_(operation, next);
    }
}

fn lose(model: &Provisioning, state: &mut State, operation: u8) {
    state.losses -= 1;
    state.tasks[usize::from(operation)] = Task::Over;
    let known = state.rows[usize::from(operation)].is_some_and(|row| row.key.is_some());
    let next = match known {
        true => Revoking,
        false if model.has(Bug::ForgetsWhatIsUnknown) => Failed,
        false => Probe,
    };
    may(state, operation, next);
}

fn hear(state: &mut State, operation: u8) {
    let at = usize::from(operation);
    let Task::Answered { by, key } = state.tasks[at] else {
        return;
    };
    state.tasks[at] = Task::Heard { by, key };
    if let Some(row) = &mut state.rows[at]
        && row.key.is_none()
        && !row.state.is_final()
    {
        row.key = Some(key);
    }
}

fn save(model: &Provisioning, state: &mut State, operation: u8) {
    let at = usize::from(operation);
    let (Task::Heard { by, key }, Some(row)) = (state.tasks[at], state.rows[at]) else {
        return;
    };
    if row.state == Intent || model.has(Bug::LateAnswerActivates) {
        state.become_(operation, Active);
        state.tasks[at] = Task::Saved { by };
        if let Some(row) = &mut state.rows[at] {
            (row.key, row.recorded) = (Some(key), true);
        }
        return;
    }
    state.tasks[at] = Task::Over;
    if row.key.is_some_and(|known| known != key) {
        return state.keep_orphan(key, OrphanState::Revoking, true);
    }
    with(state, operation, |row| row.key = Some(key));
    if !matches!(row.state, Revoked | Stuck) {
        state.become_(operation, Revoking);
    }
}

fn give_up(state: &mut State, operation: u8) {
    match state.rows[usize::from(operation)].map(|row| row.state) {
        Some(Active) => state.become_(operation, Revoking),
        Some(Intent) => state.become_(operation, Probe),
        _ => {}
    }
}

/// Everything that ran in the server is gone; what is at the vendor, on the way or on record is not.
fn crash(state: &mut State, server: u8) {
    state.crashes -= 1;
    for task in &mut state.tasks {
        if task.server() == Some(server) {
            *task = Task::Over;
        }
    }
    state.workers[usize::from(server)] = Worker::Idle;
}

fn search(state: &mut State, server: u8, operation: u8) {
    let at = usize::from(operation);
    let Some(row) = state.rows[at] else { return };
    let searches = if row.state == Intent {
        1
    } else {
        (row.searches + 1).min(SEARCHES + 1)
    };
    state.become_(operation, Probe);
    with(state, operation, |row| row.searches = searches);
    if row.key.is_some() {
        return state.become_(operation, Revoking);
    }
    let found = state.listed(Some(operation));
    state.workers[usize::from(server)] = Worker::Searched {
        operation,
        searches,
        settled: !row.under_way,
        found,
    };
}

fn conclude(model: &Provisioning, state: &mut State, server: u8) {
    let seen = std::mem::replace(&mut state.workers[usize::from(server)], Worker::Idle);
    let Worker::Searched {
        operation,
        searches,
        settled,
        found,
    } = seen
    else {
        return;
    };
    let Some(row) = state.rows[usize::from(operation)].filter(|row| row.state == Probe) else {
        return;
    };
    let settled = settled || model.has(Bug::SearchesTooEarly) && !row.under_way;
    let enough = searches > SEARCHES && settled || model.has(Bug::SearchesOnce);
    match row.key.or_else(|| found.first().copied()) {
        Some(key) if !found.is_empty() || enough => {
            with(state, operation, |row| row.key = Some(key));
            state.become_(operation, Revoking);
            for other in found.into_iter().filter(|found| *found != key) {
                if !model.has(Bug::KeepsOneOfTwo) {
                    state.keep_orphan(other, OrphanState::Revoking, true);
                }
            }
        }
        None if enough => state.become_(operation, Failed),
        _ => {}
    }
}

fn die(state: &mut State, server: u8) {
    if let Worker::Ending { key, dead, .. } | Worker::EndingOrphan { key, dead } =
        &mut state.workers[usize::from(server)]
    {
        *dead = true;
        state.keys[usize::from(*key)].alive = false;
    }
}

fn hear_end(state: &mut State, server: u8) {
    match std::mem::replace(&mut state.workers[usize::from(server)], Worker::Idle) {
        Worker::Ending { operation, .. } => state.become_(operation, Revoked),
        Worker::EndingOrphan { key, .. } => orphan_gone(state, key),
        _ => {}
    }
}

fn orphan_gone(state: &mut State, key: u8) {
    if let Some(orphan) = state.orphans.iter_mut().find(|orphan| orphan.key == key) {
        orphan.state = OrphanState::Gone;
    }
}

/// The state after a reaper's look at a list that is complete.
pub(crate) fn reaped(model: &Provisioning, state: &State) -> State {
    let mut after = state.clone();
    let keys = after.listed(None);
    account(model, &mut after, &keys);
    after
}

/// What each listed key is to dekeys, by what is on record now.
fn account(model: &Provisioning, state: &mut State, listed: &[u8]) {
    for &key in listed {
        let reopen = !model.has(Bug::GoneForGood);
        let Some(operation) = state.keys[usize::from(key)].operation else {
            let unknown = if model.has(Bug::ReaperEndsTheUnknown) {
                OrphanState::Revoking
            } else {
                OrphanState::Reported
            };
            state.keep_orphan(key, unknown, reopen);
            continue;
        };
        let Some(row) = state.rows[usize::from(operation)] else {
            continue;
        };
        match row.state {
            Intent if model.has(Bug::ReaperEndsWhatIsBegun) => state.keep_orphan(key, OrphanState::Revoking, reopen),
            Intent | Probe => {}
            Active | Revoking | Stuck if row.key == Some(key) => {}
            _ if row.key.is_some_and(|known| known != key) => state.keep_orphan(key, OrphanState::Revoking, reopen),
            Revoked => state.keep_orphan(key, OrphanState::Revoking, reopen),
            Active | Revoking | Stuck | Failed => {
                with(state, operation, |row| row.key = Some(key));
                if row.state == Failed {
                    state.become_(operation, Revoking);
                }
            }
        }
    }
    for orphan in &mut state.orphans {
        if !listed.contains(&orphan.key) {
            orphan.state = OrphanState::Gone;
        }
    }
}
