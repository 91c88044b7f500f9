//! Counters of a session: each is good once, and requests may overtake each other a little.

/// How many counters below the highest one are remembered.
const WIDTH: u64 = 64;

/// The last 64 counters of a session. A counter below them is refused, since nobody knows whether it was used.
///
/// Lives in the memory of one instance and ends with it, as the session's key does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CounterWindow {
    /// The highest counter that was accepted.
    highest: Option<u64>,
    /// Bit `i`: `highest - i` was accepted.
    used: u64,
}

impl CounterWindow {
    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { highest: None, used: 0 }
    }

    /// Takes `counter` if it was not taken before. Call it only after the signature was checked: otherwise a stranger
    /// could use up counters.
    #[must_use]
    pub fn accept(&mut self, counter: u64) -> bool {
        match self.highest {
            Some(highest) if counter <= highest => self.accept_late(highest - counter),
            highest => {
                let step = highest.map_or(WIDTH, |highest| counter - highest);
                self.used = if step < WIDTH { self.used << step } else { 0 } | 1;
                self.highest = Some(counter);
                true
            }
        }
    }

    fn accept_late(&mut self, behind: u64) -> bool {
        if behind >= WIDTH || self.used >> behind & 1 == 1 {
            return false;
        }
        self.used |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn counters_may_overtake_but_not_repeat() {
        let mut window = CounterWindow::new();
        let seen: Vec<bool> = [0, 0, 5, 3, 3, 5, 4, 68, 5, 4, 3]
            .map(|counter| window.accept(counter))
            .into();
        assert_eq!(
            seen,
            [true, false, true, true, false, false, true, true, false, false, false]
        );
        assert!(window.accept(6), "62 behind, unused");
    }

    #[test]
    fn the_ends_of_the_range_do_no_harm() {
        let mut window = CounterWindow::new();
        assert!(window.accept(u64::MAX) && !window.accept(u64::MAX) && window.accept(u64::MAX - 63));
        assert!(!window.accept(u64::MAX - 64) && !window.accept(0));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(counters in proptest::collection::vec(0u64..300, 0..400)) {
            let (mut window, mut used) = (CounterWindow::new(), BTreeSet::new());
            for counter in counters {
                let in_reach = used.last().is_none_or(|highest| counter + 64 > *highest);
                let fresh = in_reach && used.insert(counter);
                prop_assert_eq!(window.accept(counter), fresh, "{}", counter);
            }
        }
    }
}
