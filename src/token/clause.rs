//! Datalog put together from parts, never from text: nothing a caller gives is ever parsed.

use biscuit_auth::builder::{Binary, Check, CheckKind, Expression, Fact, Op, Predicate, Rule, Term};

use super::condition::Subject;
use crate::base::time::Timestamp;

/// The fact `name(terms)`.
pub(super) fn fact(name: &str, terms: Vec<Term>) -> Fact {
    Fact::new(name.to_owned(), terms)
}

/// The pattern `name(terms)`.
pub(super) fn pattern(name: &str, terms: Vec<Term>) -> Predicate {
    Predicate::new(name.to_owned(), terms)
}

/// A variable.
pub(super) fn variable(name: &str) -> Term {
    Term::Variable(name.to_owned())
}

/// Text.
pub(super) fn text(value: impl AsRef<str>) -> Term {
    Term::Str(value.as_ref().to_owned())
}

/// A time, in whole seconds, rounded down. Before 1970 there is none.
pub(super) fn date(at: Timestamp) -> Term {
    Term::Date(u64::try_from(at.as_secs()).unwrap_or(0))
}

/// `check if` one of the alternatives.
pub(super) fn check(alternatives: Vec<Rule>) -> Check {
    Check {
        queries: alternatives,
        kind: CheckKind::One,
    }
}

/// The subject is one of `words`.
pub(super) fn one_of<T: AsRef<str>>(subject: Subject, words: &[T]) -> Rule {
    if let [word] = words {
        return alternative(pattern(subject.predicate(), vec![text(word)]), vec![]);
    }
    let set = Term::Set(words.iter().map(text).collect());
    alternative(asked(subject), vec![compare(set, subject_variable(), Binary::Contains)])
}

/// The subject begins with `prefix`.
pub(super) fn begins(subject: Subject, prefix: &str) -> Rule {
    let expression = compare(subject_variable(), text(prefix), Binary::Prefix);
    alternative(asked(subject), vec![expression])
}

/// It is `from` or later, if given, and before `until`.
pub(super) fn within(from: Option<Timestamp>, until: Timestamp) -> Rule {
    let from = from.map(|from| compare(subject_variable(), date(from), Binary::GreaterOrEqual));
    let until = compare(subject_variable(), date(until), Binary::LessThan);
    alternative(asked(Subject::Time), from.into_iter().chain([until]).collect())
}

fn asked(subject: Subject) -> Predicate {
    pattern(subject.predicate(), vec![subject_variable()])
}

fn subject_variable() -> Term {
    variable("query")
}

fn compare(left: Term, right: Term, operation: Binary) -> Expression {
    Expression {
        ops: vec![Op::Value(left), Op::Value(right), Op::Binary(operation)],
    }
}

fn alternative(body: Predicate, expressions: Vec<Expression>) -> Rule {
    Rule::new(pattern("query", vec![]), vec![body], expressions, vec![])
}
