//! Expressions in checks: a fixed list of operations on text, sets of text, numbers and truth, typed here so that
//! evaluating one cannot fail. Regular expressions, closures, arithmetic and foreign functions are not on the list.

use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::schema::op::Content as Operation;
use biscuit_auth::format::schema::op_binary::Kind as Binary;
use biscuit_auth::format::schema::op_unary::Kind as Unary;
use biscuit_auth::format::schema::term::Content as Literal;
use biscuit_auth::format::schema::{Op, OpBinary, OpUnary, Term, TermSet};

use super::condition::{Condition, Subject, quote};
use super::profile::Why;
use crate::base::time::Timestamp;

/// What symbols and variables stand for within one alternative of a check.
pub(super) struct Names<'a> {
    symbols: &'a SymbolTable,
    variables: Vec<(u32, Subject)>,
    authority: bool,
}

impl<'a> Names<'a> {
    /// No variables yet. `authority`: whether the block may also set a beginning.
    pub(super) fn new(symbols: &'a SymbolTable, authority: bool) -> Self {
        Self {
            symbols,
            variables: Vec::new(),
            authority,
        }
    }

    /// The text of a symbol.
    pub(super) fn symbol(&self, index: u64) -> Result<&'a str, Why> {
        self.symbols.get_symbol(index).ok_or(Why::Symbols)
    }

    /// Remembers that `variable` is the subject.
    pub(super) fn bind(&mut self, variable: u32, subject: Subject) -> Result<(), Why> {
        self.symbol(u64::from(variable))?;
        if self.variables.iter().any(|(known, _)| *known == variable) {
            return Err(Why::Variable);
        }
        self.variables.push((variable, subject));
        Ok(())
    }

    /// The subjects that have a variable.
    pub(super) fn bound(&self) -> impl Iterator<Item = Subject> {
        self.variables.iter().map(|(_, subject)| *subject)
    }

    fn subject(&self, variable: u32) -> Result<Subject, Why> {
        let bound = self.variables.iter().find(|(known, _)| *known == variable);
        bound.map(|(_, subject)| *subject).ok_or(Why::Expression)
    }
}

/// Reads one expression, in the postfix order biscuit stores.
pub(super) fn read(ops: &[Op], names: &Names<'_>) -> Result<Condition, Why> {
    if let Some(condition) = simple(ops, names)? {
        return Ok(condition);
    }
    let mut stack: Vec<Typed> = Vec::with_capacity(ops.len());
    for op in ops {
        let next = match op.content.as_ref().ok_or(Why::Encoding)? {
            Operation::Value(term) => Operand::read(term, names)?.typed()?,
            Operation::Unary(unary) => {
                let of = stack.pop().ok_or(Why::Expression)?;
                apply_unary(unary, of)?
            }
            Operation::Binary(binary) => {
                let right = stack.pop().ok_or(Why::Expression)?;
                let left = stack.pop().ok_or(Why::Expression)?;
                apply_binary(binary, &left, &right)?
            }
            Operation::Closure(_) => return Err(Why::Operation("a closure")),
        };
        stack.push(next);
    }
    match stack.as_slice() {
        [one] if one.kind == Kind::Truth => Ok(Condition::Holds(one.words.clone())),
        _ => Err(Why::Expression),
    }
}

/// The shapes that have plain words, and the only ones in which the time may stand.
fn simple(ops: &[Op], names: &Names<'_>) -> Result<Option<Condition>, Why> {
    let [left, right, operation] = ops else { return Ok(None) };
    let (Some(Operation::Value(left)), Some(Operation::Value(right)), Some(Operation::Binary(operation))) =
        (&left.content, &right.content, &operation.content)
    else {
        return Ok(None);
    };
    let kind = binary_kind(operation)?;
    let condition = match (Operand::read(left, names)?, Operand::read(right, names)?, kind) {
        (Operand::Asked(Subject::Time), Operand::Date(at), Binary::LessThan) => Condition::Before(moment(at)),
        (Operand::Asked(Subject::Time), Operand::Date(at), Binary::LessOrEqual) => {
            Condition::Before(moment(at.saturating_add(1)))
        }
        (Operand::Asked(Subject::Time), Operand::Date(at), Binary::GreaterOrEqual) if names.authority => {
            Condition::From(moment(at))
        }
        (Operand::Asked(Subject::Time), _, _) | (_, Operand::Asked(Subject::Time), _) => return Err(Why::Time),
        (Operand::Set(words), Operand::Asked(subject), Binary::Contains) => Condition::Is(subject, words),
        (Operand::Asked(subject), Operand::Text(word), Binary::Equal | Binary::HeterogeneousEqual)
        | (Operand::Text(word), Operand::Asked(subject), Binary::Equal | Binary::HeterogeneousEqual) => {
            Condition::Is(subject, vec![word])
        }
        (Operand::Asked(subject), Operand::Text(prefix), Binary::Prefix) => Condition::Begins(subject, prefix),
        _ => return Ok(None),
    };
    Ok(Some(condition))
}

/// Biscuit dates are whole seconds, and so is the `time` fact: rounded down.
fn moment(seconds: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// A value as it stands in an expression.
enum Operand {
    Asked(Subject),
    Text(String),
    Set(Vec<String>),
    Number(i64),
    Truth(bool),
    Date(u64),
}

impl Operand {
    fn read(term: &Term, names: &Names<'_>) -> Result<Self, Why> {
        match term.content.as_ref().ok_or(Why::Encoding)? {
            Literal::Variable(variable) => names.subject(*variable).map(Self::Asked),
            Literal::String(symbol) => Ok(Self::Text(names.symbol(*symbol)?.to_owned())),
            Literal::Integer(number) => Ok(Self::Number(*number)),
            Literal::Bool(truth) => Ok(Self::Truth(*truth)),
            Literal::Date(at) => Ok(Self::Date(*at)),
            Literal::Set(set) => words(set, names).map(Self::Set),
            Literal::Bytes(_) => Err(Why::Operation("bytes")),
            Literal::Null(_) => Err(Why::Operation("null")),
            Literal::Array(_) => Err(Why::Operation("an array")),
            Literal::Map(_) => Err(Why::Operation("a map")),
        }
    }

    fn typed(self) -> Result<Typed, Why> {
        let (kind, words) = match self {
            Self::Asked(Subject::Time) | Self::Date(_) => return Err(Why::Time),
            Self::Asked(subject) => (Kind::Text, subject.to_string()),
            Self::Text(text) => (Kind::Text, quote(&text)),
            Self::Set(words) => {
                let words: Vec<String> = words.iter().take(8).map(|word| quote(word)).collect();
                (Kind::Set, format!("{{{}}}", words.join(", ")))
            }
            Self::Number(number) => (Kind::Number, number.to_string()),
            Self::Truth(truth) => (Kind::Truth, truth.to_string()),
        };
        Ok(Typed::of(kind, words))
    }
}

/// The words of a set, sorted: the order in the token depends on what stood in it before.
fn words(set: &TermSet, names: &Names<'_>) -> Result<Vec<String>, Why> {
    let mut words = Vec::with_capacity(set.set.len());
    for term in &set.set {
        match term.content.as_ref().ok_or(Why::Encoding)? {
            Literal::String(symbol) => words.push(names.symbol(*symbol)?.to_owned()),
            _ => return Err(Why::Operation("a set of anything but text")),
        }
    }
    words.sort_unstable();
    words.dedup();
    Ok(words)
}

/// The kind of a value, and the words for it.
struct Typed {
    kind: Kind,
    words: String,
}

impl Typed {
    fn of(kind: Kind, words: String) -> Self {
        Self { kind, words }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Set,
    Number,
    Truth,
}

fn apply_unary(unary: &OpUnary, of: Typed) -> Result<Typed, Why> {
    if unary.ffi_name.is_some() {
        return Err(Why::Operation("a foreign function"));
    }
    let words = of.words;
    match (Unary::from_i32(unary.kind).ok_or(Why::Encoding)?, of.kind) {
        (Unary::Negate, Kind::Truth) => Ok(Typed::of(Kind::Truth, format!("not {words}"))),
        (Unary::Parens, kind) => Ok(Typed::of(kind, format!("({words})"))),
        (Unary::Length, Kind::Text | Kind::Set) => Ok(Typed::of(Kind::Number, format!("the length of {words}"))),
        (Unary::Negate | Unary::Length, _) => Err(Why::Expression),
        (Unary::TypeOf, _) => Err(Why::Operation("a type")),
        (Unary::Ffi, _) => Err(Why::Operation("a foreign function")),
    }
}

fn apply_binary(binary: &OpBinary, left: &Typed, right: &Typed) -> Result<Typed, Why> {
    let kind = binary_kind(binary)?;
    let words = phrase(kind)?;
    let fits = match kind {
        Binary::LessThan | Binary::GreaterThan | Binary::LessOrEqual | Binary::GreaterOrEqual => {
            (left.kind, right.kind) == (Kind::Number, Kind::Number)
        }
        Binary::Prefix | Binary::Suffix => (left.kind, right.kind) == (Kind::Text, Kind::Text),
        Binary::And | Binary::Or => (left.kind, right.kind) == (Kind::Truth, Kind::Truth),
        Binary::Contains => matches!(
            (left.kind, right.kind),
            (Kind::Set, Kind::Set | Kind::Text) | (Kind::Text, Kind::Text)
        ),
        _ => left.kind == right.kind,
    };
    if !fits {
        return Err(Why::Expression);
    }
    Ok(Typed::of(
        Kind::Truth,
        format!("{} {words} {}", left.words, right.words),
    ))
}

fn binary_kind(binary: &OpBinary) -> Result<Binary, Why> {
    if binary.ffi_name.is_some() {
        return Err(Why::Operation("a foreign function"));
    }
    Binary::from_i32(binary.kind).ok_or(Why::Encoding)
}

/// The words of an operation that is on the list.
fn phrase(kind: Binary) -> Result<&'static str, Why> {
    match kind {
        Binary::LessThan => Ok("<"),
        Binary::GreaterThan => Ok(">"),
        Binary::LessOrEqual => Ok("<="),
        Binary::GreaterOrEqual => Ok(">="),
        Binary::Equal | Binary::HeterogeneousEqual => Ok("is"),
        Binary::NotEqual | Binary::HeterogeneousNotEqual => Ok("is not"),
        Binary::Contains => Ok("contains"),
        Binary::Prefix => Ok("begins with"),
        Binary::Suffix => Ok("ends with"),
        Binary::And => Ok("and"),
        Binary::Or => Ok("or"),
        Binary::Regex => Err(Why::Operation("a regular expression")),
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => Err(Why::Operation("arithmetic")),
        Binary::BitwiseAnd | Binary::BitwiseOr | Binary::BitwiseXor => Err(Why::Operation("bit arithmetic")),
        Binary::Intersection | Binary::Union => Err(Why::Operation("a set operation")),
        Binary::LazyAnd | Binary::LazyOr | Binary::All | Binary::Any | Binary::TryOr => {
            Err(Why::Operation("a closure"))
        }
        Binary::Get => Err(Why::Operation("an element")),
        Binary::Ffi => Err(Why::Operation("a foreign function")),
    }
}
