//! What the checks of a block mean: conditions on one request, read out of Datalog and said in plain words.

use std::fmt;

use crate::base::time::Timestamp;

/// What a check can look at. Each is one ambient fact that only dekeys states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Vendor,
    Scope,
    Use,
    Prim,
    Method,
    Path,
    Time,
}

impl Subject {
    const ALL: [Self; 7] = [
        Self::Vendor,
        Self::Scope,
        Self::Use,
        Self::Prim,
        Self::Method,
        Self::Path,
        Self::Time,
    ];

    /// The name of the Datalog predicate.
    pub(super) const fn predicate(self) -> &'static str {
        match self {
            Self::Vendor => "ask_vendor",
            Self::Scope => "ask_scope",
            Self::Use => "ask_use",
            Self::Prim => "ask_prim",
            Self::Method => "ask_method",
            Self::Path => "ask_path",
            Self::Time => "time",
        }
    }

    /// The subject whose predicate is exactly `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.predicate() == name)
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Scope => "scope",
            Self::Use => "use",
            Self::Prim => "prim",
            Self::Method => "method",
            Self::Path => "path",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// The subject is one of these.
    Is(Subject, Vec<String>),
    /// The subject begins with this.
    Begins(Subject, String),
    /// The subject is known at all.
    Present(Subject),
    /// It is earlier than this.
    Before(Timestamp),
    /// It is this time or later; only the authority block says so.
    From(Timestamp),
    /// Anything else, in the words of [`super::expression`].
    Holds(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(Subject::Use, words) => write!(f, "only to {}", list(words)),
            Self::Is(subject, words) => {
                let plural = if words.len() == 1 { "" } else { "s" };
                write!(f, "only {subject}{plural} {}", list(words))
            }
            Self::Begins(subject, prefix) => write!(f, "only {subject}s that begin with {}", quote(prefix)),
            Self::Present(subject) => write!(f, "only where a {subject} is named"),
            Self::Before(at) => write!(f, "valid until {at}"),
            Self::From(at) => write!(f, "valid from {at}"),
            Self::Holds(words) => write!(f, "only when {words}"),
        }
    }
}

/// One check: at least one alternative must hold, each of which is conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check(pub(super) Vec<Vec<Condition>>);

impl Check {
    /// Whether the answer may depend on a request's method or path.
    pub(super) fn is_of_request(&self) -> bool {
        self.0.iter().flatten().any(|condition| match condition {
            Condition::Is(subject, _) | Condition::Begins(subject, _) | Condition::Present(subject) => {
                matches!(subject, Subject::Method | Subject::Path)
            }
            Condition::Holds(_) => true,
            Condition::Before(_) | Condition::From(_) => false,
        })
    }

    /// Every moment at which this check may stop holding, even if other alternatives still do then.
    pub(super) fn moments(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().flatten().filter_map(|condition| match condition {
            Condition::Before(at) => Some(*at),
            _ => None,
        })
    }

    /// The time from which on this check cannot hold, whatever is asked; `None` if it may hold for ever.
    pub(super) fn bound(&self) -> Option<Timestamp> {
        let of_alternative = |conditions: &Vec<Condition>| Check(vec![conditions.clone()]).moments().min();
        let bounds: Option<Vec<Timestamp>> = self.0.iter().map(of_alternative).collect();
        bounds?.into_iter().max()
    }

    /// The one prim this check allows, if it has no alternatives and allows exactly one.
    pub(super) fn pin(&self) -> Option<&str> {
        let [conditions] = self.0.as_slice() else { return None };
        conditions.iter().find_map(|condition| match condition {
            Condition::Is(Subject::Prim, words) => match words.as_slice() {
                [word] => Some(word.as_str()),
                _ => None,
            },
            _ => None,
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alternative = |conditions: &Vec<Condition>| match conditions.as_slice() {
            [] => "always".to_owned(),
            some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
        };
        let words: Vec<String> = self.0.iter().map(alternative).collect();
        f.write_str(&words.join(", or "))
    }
}

fn list(words: &[String]) -> String {
    match words {
        [] => "(none)".to_owned(),
        some => some.iter().map(|word| plain(word)).collect::<Vec<_>>().join(", "),
    }
}

/// The word as it is where it is harmless, quoted otherwise: a holder wrote it.
fn plain(word: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if (1..=128).contains(&word.len()) && word.bytes().all(harmless) {
        word.to_owned()
    } else {
        quote(word)
    }
}

/// Text a holder wrote, safe to print: control characters escaped, cut at 80 characters.
pub(super) fn quote(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn prim(words: &[&str]) -> Condition {
        Condition::Is(Subject::Prim, words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn says_conditions_in_plain_words() {
        let check = Check(vec![
            vec![prim(&["prim-echo"]), Condition::Before(at(1_763_670_667))],
            vec![Condition::Is(Subject::Use, vec!["manage".into()])],
        ]);
        assert_eq!(
            check.to_string(),
            "only prim prim-echo and valid until 2025-11-20T20:31:07Z, or only to manage"
        );
        assert_eq!(
            Condition::Begins(Subject::Path, "/v1/\n\u{1b}[2J".into()).to_string(),
            r"only paths that begin with `/v1/\n\u{1b}[2J`"
        );
        assert_eq!(
            Condition::Is(Subject::Vendor, vec![]).to_string(),
            "only vendors (none)"
        );
    }

    #[test]
    fn a_check_is_bound_only_if_every_alternative_is() {
        let both = Check(vec![vec![Condition::Before(at(5))], vec![Condition::Before(at(9))]]);
        assert_eq!(both.bound(), Some(at(9)));
        assert_eq!(both.moments().min(), Some(at(5)));
        let one = Check(vec![vec![Condition::Before(at(5))], vec![prim(&["a"])]]);
        assert_eq!(one.bound(), None);
        let twice = Check(vec![vec![Condition::Before(at(5)), Condition::Before(at(3))]]);
        assert_eq!(twice.bound(), Some(at(3)));
    }

    #[test]
    fn a_pin_is_one_prim_without_alternatives() {
        assert_eq!(Check(vec![vec![prim(&["a"])]]).pin(), Some("a"));
        assert_eq!(Check(vec![vec![prim(&["a", "b"])]]).pin(), None);
        assert_eq!(Check(vec![vec![prim(&["a"])], vec![prim(&["a"])]]).pin(), None);
        assert_eq!(
            Check(vec![vec![Condition::Is(Subject::Vendor, vec!["a".into()])]]).pin(),
            None
        );
    }
}
