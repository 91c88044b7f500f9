//! Patterns that are looked for in a text that comes in pieces: where they are, and what at its end could still become
//! one. Matched on bytes, without Unicode and without looking around (`^`, `\b`), so a match hangs on its own bytes only.

use std::fmt;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

/// The most memory that the automaton of one list may take.
const MOST: usize = 1 << 20;

/// Patterns, ready to be looked for.
pub struct Patterns {
    /// `None`: there is nothing to look for.
    automaton: Option<dense::DFA<Vec<u32>>>,
    /// Which bytes a match may begin with.
    first: [bool; 256],
}

/// A list that cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// One is no regular expression, or one that is too large.
    #[error("`{0}` is no regular expression of moderate size")]
    Invalid(String),
    /// One finds what is not there.
    #[error("`{0}` also matches nothing at all")]
    Empty(String),
    /// One asks what stands around it.
    #[error("`{0}` looks at what stands around a match, which may not have come yet")]
    Looks(String),
}

impl Patterns {
    /// Of these regular expressions.
    ///
    /// # Errors
    /// [`PatternError`], naming the one that is wrong.
    pub fn new(list: &[String]) -> Result<Self, PatternError> {
        for one in list {
            look(one)?;
        }
        let all = || PatternError::Invalid(list.join("`, `"));
        let automaton = match list {
            [] => None,
            some => Some(compile(some).ok_or_else(all)?),
        };
        let mut patterns = Self {
            automaton,
            first: [false; 256],
        };
        for (byte, first) in (0..=u8::MAX).zip(&mut patterns.first) {
            let begun = patterns.automaton.as_ref().map(|automaton| run(automaton, &[byte]));
            *first = begun.is_some_and(|run| run.open || run.length.is_some());
        }
        Ok(patterns)
    }

    /// Where matches begin and end, from left to right, each as long as it goes.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let Some(automaton) = &self.automaton else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut free = 0;
        for (at, byte) in text.iter().enumerate() {
            if at < free || !self.may_begin(*byte) {
                continue;
            }
            if let Some(length) = run(automaton, text.get(at..).unwrap_or_default()).length {
                free = at + length;
                found.push((at, free));
            }
        }
        found
    }

    /// Where the longest end of `text` begins that could be a match, or a longer one, with what follows; its length when
    /// none could.
    #[must_use]
    pub fn tail(&self, text: &[u8]) -> usize {
        let Some(automaton) = &self.automaton else {
            return text.len();
        };
        let open = |(at, byte): (usize, &u8)| {
            (self.may_begin(*byte) && run(automaton, text.get(at..).unwrap_or_default()).open).then_some(at)
        };
        text.iter().enumerate().find_map(open).unwrap_or(text.len())
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").finish_non_exhaustive()
    }
}

/// What matches from the first byte of a text on.
struct Run {
    /// The longest match.
    length: Option<usize>,
    /// More bytes could make one, or a longer one.
    open: bool,
}

fn run(automaton: &dense::DFA<Vec<u32>>, text: &[u8]) -> Run {
    let mut length = None;
    let start = automaton.start_state_forward(&Input::new(text).anchored(Anchored::Yes));
    let Ok(mut state) = start else {
        return Run { length, open: false };
    };
    for (at, byte) in text.iter().enumerate() {
        state = automaton.next_state(state, *byte);
        if !automaton.is_special_state(state) {
            continue;
        }
        if automaton.is_match_state(state) {
            // A match is told one byte late.
            length = Some(at);
        } else if automaton.is_dead_state(state) || automaton.is_quit_state(state) {
            return Run { length, open: false };
        }
    }
    if automaton.is_match_state(automaton.next_eoi_state(state)) {
        length = Some(text.len());
    }
    Run { length, open: true }
}

fn nfa(list: &[String]) -> Option<thompson::NFA> {
    thompson::Compiler::new()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(thompson::Config::new().utf8(false).nfa_size_limit(Some(MOST)))
        .build_many(list)
        .ok()
}

fn look(one: &str) -> Result<(), PatternError> {
    let nfa = nfa(&[one.to_owned()]).ok_or_else(|| PatternError::Invalid(one.to_owned()))?;
    if nfa.has_empty() {
        return Err(PatternError::Empty(one.to_owned()));
    }
    if !nfa.look_set_any().is_empty() {
        return Err(PatternError::Looks(one.to_owned()));
    }
    Ok(())
}

fn compile(list: &[String]) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .match_kind(MatchKind::All)
        .dfa_size_limit(Some(MOST))
        .determinize_size_limit(Some(MOST));
    dense::Builder::new().configure(config).build_from_nfa(&nfa(list)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::new(&list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn matches_are_found_as_long_as_they_go() {
        let keys = patterns(&["sk-[A-Za-z0-9]{4,}", "SG\\.[a-z]{3}"]);
        assert_eq!(keys.find(b"a sk-abcdef! SG.xyzw sk-abc"), [(2, 11), (13, 19)]);
        assert_eq!(keys.find(b"sk-sk-abcd"), [(3, 10)]);
        assert_eq!(patterns(&[]).find(b"sk-abcdef"), []);
    }

    #[test]
    fn a_tail_is_what_could_still_become_a_match() {
        let keys = patterns(&["sk-[A-Za-z0-9]{4,}", "SG\\.[a-z]{3}"]);
        for (text, tail) in [
            ("so s", 3),
            ("x sk-ab", 2),
            ("x sk-abcdef", 2),
            ("x sk-ab ", 8),
            ("SG.a", 0),
            ("hello\n", 6),
        ] {
            assert_eq!(keys.tail(text.as_bytes()), tail, "{text}");
        }
        assert_eq!(patterns(&[]).tail(b"sk-"), 3);
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused() {
        for (bad, words) in [
            ("sk-[", "no regular expression"),
            ("(sk-)?", "matches nothing"),
            ("^sk-a", "looks at"),
            ("\\bsk-a", "looks at"),
            ("(a{1000}){1000}", "moderate size"),
        ] {
            let told = Patterns::new(&[bad.to_owned()]).unwrap_err().to_string();
            assert!(told.contains(words) && told.contains(bad), "{told}");
        }
    }
}
