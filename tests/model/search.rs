//! Searching a model: every state that can be reached, and each promise in each of them.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker as _, HasDiscoveries, Model};

/// Searches everything, and tells how many states there are.
///
/// # Panics
/// With the way to it, when a promise is broken or something that should be possible is not.
pub(crate) fn search<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let done = model.checker().threads(2).spawn_bfs().join();
    done.assert_properties();
    assert!(done.is_done(), "{name}: the search was not finished");
    tell(name, done.unique_state_count(), done.max_depth());
}

/// Searches a model with a mistake in it until the promise is seen to break.
///
/// # Panics
/// When it holds all the same: then the promise says nothing.
pub(crate) fn breaks<M>(bug: impl Debug, model: M, promise: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let until = HasDiscoveries::AnyOf([promise].into());
    let done = model.checker().threads(2).finish_when(until).spawn_bfs().join();
    assert!(
        done.discovery(promise).is_some(),
        "with {bug:?} in it the model still keeps \"{promise}\""
    );
}

#[expect(clippy::print_stdout, reason = "figures for whoever runs the deep search")]
fn tell(name: &str, states: usize, depth: usize) {
    println!("{name}: {states} states, at most {depth} steps deep, every promise held");
}
