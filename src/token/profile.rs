//! What a token may contain, checked by a walk of its protobuf before any signature or Datalog work.
//!
//! Anybody who holds a token may add a block, and a few hundred bytes of Datalog can keep the engine busy for
//! minutes whatever its time limit says. So added blocks may only check, over a fixed list of facts, with
//! operations that always end and never fail. Nothing is printed and parsed again on the way: names are compared
//! as the symbol table has them, so that a name made to look like syntax gains nothing.
//!
//! Blocks written with an official biscuit library pass if they keep to this. The operators `&&` and `||` do not
//! (they are closures since Datalog 3.3): write a comma, or `or`.

use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::schema;
use prost::Message;

use super::TokenError;
use super::condition::{Check, Condition, Subject, quote};
use super::expression::{self, Names};

const MAX_BLOCKS: usize = 5;
const MAX_FACTS: usize = 64;
const MAX_CHECKS: usize = 8;
const MAX_ALTERNATIVES: usize = 4;
const MAX_PREDICATES: usize = 2;
const MAX_OPERATIONS: usize = 32;
/// Datalog versions biscuit 6 knows (3.0 to 3.3).
const VERSIONS: std::ops::RangeInclusive<u32> = 3..=6;

/// A block that says what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {block} {why}")]
pub struct Refusal {
    /// Which block; 0 is the authority block.
    pub block: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Too many blocks.
    #[error("is one too many: {0} blocks where 5 may stand")]
    Blocks(usize),
    /// Signed by somebody outside the chain.
    #[error("was signed by a third party")]
    ThirdParty,
    /// The next block's key is not Ed25519. ECDSA signatures can be changed without the key, and with them the
    /// revocation id.
    #[error("hands on to a key that is not Ed25519")]
    Key,
    /// Bytes that the schema does not know, or another encoding of what it knows.
    #[error("is not plain protobuf of a biscuit block")]
    Encoding,
    /// A Datalog version this build does not know.
    #[error("has Datalog version {0}")]
    Version(u32),
    /// Symbols that stand in an earlier block already, or are nowhere.
    #[error("repeats symbols or names one that is missing")]
    Symbols,
    /// More facts than the authority block may state.
    #[error("states {0} facts where 64 may stand")]
    ManyFacts(usize),
    /// Facts in an added block.
    #[error("states facts")]
    Facts,
    /// Rules.
    #[error("has rules")]
    Rules,
    /// Trust in other blocks.
    #[error("says whom to trust")]
    Scopes,
    /// Public keys.
    #[error("names public keys")]
    PublicKeys,
    /// Too many checks.
    #[error("has {0} checks where 8 may stand")]
    Checks(usize),
    /// `check all` or `reject if`.
    #[error("has a check that is not `check if`")]
    CheckKind,
    /// None or too many alternatives.
    #[error("has a check of {0} alternatives where 1 to 4 may stand")]
    Alternatives(usize),
    /// A query with a result.
    #[error("has a check with a head")]
    Head,
    /// Too many predicates.
    #[error("joins {0} facts where 2 may stand")]
    Predicates(usize),
    /// A predicate that is not on the list.
    #[error("asks for {0}, which no check may")]
    Predicate(String),
    /// A predicate with other terms than one text or variable.
    #[error("asks for {0} in a form that never holds")]
    Terms(&'static str),
    /// One variable for two facts.
    #[error("binds a variable twice")]
    Variable,
    /// Too many operations.
    #[error("has {0} operations where 32 may stand")]
    Operations(usize),
    /// An operation that is not on the list.
    #[error("uses {0}, which no check may")]
    Operation(&'static str),
    /// An expression that could not be evaluated.
    #[error("has an expression that does not fit together")]
    Expression,
    /// Time compared otherwise.
    #[error("uses the time otherwise than `$time < a date`")]
    Time,
    /// An authority block that dekeys did not make, or not for this purpose.
    #[error("is not one that dekeys mints: {0}")]
    Authority(&'static str),
}

/// A token that keeps to the profile, not yet verified.
#[derive(Clone)]
pub(super) struct Walked {
    pub(super) root_key_id: Option<u32>,
    /// The facts of the authority block.
    pub(super) facts: Vec<Stated>,
    /// The checks of each block.
    pub(super) blocks: Vec<Vec<Check>>,
    /// Revocation ids, hexadecimal.
    pub(super) revocation_ids: Vec<String>,
    /// Nothing can be added.
    pub(super) sealed: bool,
}

/// One fact of the authority block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) name: String,
    pub(super) terms: Vec<Value>,
}

/// One term of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// Seconds since 1970.
    Date(u64),
    Other,
}

/// Walks the bytes of a token.
pub(super) fn walk(bytes: &[u8]) -> Result<Walked, TokenError> {
    let token: schema::Biscuit = decode(bytes).ok_or(TokenError::Malformed)?;
    let count = token.blocks.len() + 1;
    if count > MAX_BLOCKS {
        return refuse(MAX_BLOCKS, Why::Blocks(count));
    }
    let mut symbols = SymbolTable::new();
    let mut walked = Walked {
        root_key_id: token.root_key_id,
        facts: Vec::new(),
        blocks: Vec::with_capacity(count),
        revocation_ids: Vec::with_capacity(count),
        sealed: matches!(token.proof.content, Some(schema::proof::Content::FinalSignature(_))),
    };
    let signed = || std::iter::once(&token.authority).chain(&token.blocks).enumerate();
    for (index, signed) in signed() {
        chained(signed).or_else(|why| refuse(index, why))?;
    }
    for (index, signed) in signed() {
        let block = open(signed, &mut symbols).or_else(|why| refuse(index, why))?;
        if index == 0 {
            walked.facts = authority_facts(&block, &symbols).or_else(|why| refuse(index, why))?;
        } else if !block.facts.is_empty() {
            return refuse(index, Why::Facts);
        }
        let checks = checks(&block, &symbols, index == 0).or_else(|why| refuse(index, why))?;
        walked.blocks.push(checks);
        walked
            .revocation_ids
            .push(data_encoding::HEXLOWER.encode(&signed.signature));
    }
    Ok(walked)
}

fn refuse<T>(block: usize, why: Why) -> Result<T, TokenError> {
    Err(TokenError::Profile(Refusal { block, why }))
}

/// Decodes, and sees that encoding again gives the same bytes: unknown fields would be passed over otherwise, and
/// one token would have many texts.
fn decode<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    (message.encode_to_vec() == bytes).then_some(message)
}

fn chained(signed: &schema::SignedBlock) -> Result<(), Why> {
    if signed.external_signature.is_some() {
        return Err(Why::ThirdParty);
    }
    if signed.next_key.algorithm != schema::public_key::Algorithm::Ed25519 as i32 {
        return Err(Why::Key);
    }
    Ok(())
}

fn open(signed: &schema::SignedBlock, symbols: &mut SymbolTable) -> Result<schema::Block, Why> {
    let block: schema::Block = decode(&signed.block).ok_or(Why::Encoding)?;
    let version = block.version.unwrap_or(0);
    if !VERSIONS.contains(&version) {
        return Err(Why::Version(version));
    }
    let own = SymbolTable::from(block.symbols.clone()).map_err(|_| Why::Symbols)?;
    symbols.extend(&own).map_err(|_| Why::Symbols)?;
    if !block.rules.is_empty() {
        return Err(Why::Rules);
    }
    if !block.scope.is_empty() {
        return Err(Why::Scopes);
    }
    if !block.public_keys.is_empty() {
        return Err(Why::PublicKeys);
    }
    Ok(block)
}

fn authority_facts(block: &schema::Block, symbols: &SymbolTable) -> Result<Vec<Stated>, Why> {
    if block.facts.len() > MAX_FACTS {
        return Err(Why::ManyFacts(block.facts.len()));
    }
    let value = |term: &schema::Term| match &term.content {
        Some(schema::term::Content::String(symbol)) => symbols
            .get_symbol(*symbol)
            .map(|text| Value::Text(text.to_owned()))
            .ok_or(Why::Symbols),
        Some(schema::term::Content::Date(seconds)) => Ok(Value::Date(*seconds)),
        _ => Ok(Value::Other),
    };
    let fact = |fact: &schema::Fact| {
        let name = symbols.get_symbol(fact.predicate.name).ok_or(Why::Symbols)?.to_owned();
        let terms = fact.predicate.terms.iter().map(value).collect::<Result<_, _>>()?;
        Ok(Stated { name, terms })
    };
    block.facts.iter().map(fact).collect()
}

fn checks(block: &schema::Block, symbols: &SymbolTable, authority: bool) -> Result<Vec<Check>, Why> {
    if block.checks.len() > MAX_CHECKS {
        return Err(Why::Checks(block.checks.len()));
    }
    block
        .checks
        .iter()
        .map(|check| one_check(check, symbols, authority))
        .collect()
}

fn one_check(check: &schema::Check, symbols: &SymbolTable, authority: bool) -> Result<Check, Why> {
    if !matches!(check.kind, None | Some(0)) {
        return Err(Why::CheckKind);
    }
    if !(1..=MAX_ALTERNATIVES).contains(&check.queries.len()) {
        return Err(Why::Alternatives(check.queries.len()));
    }
    let alternative = |query| alternative(query, symbols, authority);
    check
        .queries
        .iter()
        .map(alternative)
        .collect::<Result<_, _>>()
        .map(Check)
}

fn alternative(query: &schema::Rule, symbols: &SymbolTable, authority: bool) -> Result<Vec<Condition>, Why> {
    if !query.scope.is_empty() {
        return Err(Why::Scopes);
    }
    if symbols.get_symbol(query.head.name) != Some("query") || !query.head.terms.is_empty() {
        return Err(Why::Head);
    }
    if query.body.len() > MAX_PREDICATES {
        return Err(Why::Predicates(query.body.len()));
    }
    let operations = query.expressions.iter().map(|expression| expression.ops.len()).sum();
    if operations > MAX_OPERATIONS {
        return Err(Why::Operations(operations));
    }
    let mut names = Names::new(symbols, authority);
    let mut conditions = Vec::new();
    for predicate in &query.body {
        conditions.extend(asked(predicate, &mut names)?);
    }
    let constants = conditions.len();
    for expression in &query.expressions {
        conditions.push(expression::read(&expression.ops, &names)?);
    }
    let unused = names
        .bound()
        .filter(|subject| *subject != Subject::Time && !spoken_of(*subject, &conditions));
    let present: Vec<Condition> = unused.map(Condition::Present).collect();
    conditions.splice(constants..constants, present);
    Ok(conditions)
}

/// Reads `ask_prim("x")` as a condition, and remembers `ask_prim($x)` for the expressions.
fn asked(predicate: &schema::Predicate, names: &mut Names<'_>) -> Result<Option<Condition>, Why> {
    let name = names.symbol(predicate.name)?;
    let subject = Subject::named(name).ok_or_else(|| Why::Predicate(quote(name)))?;
    let [term] = predicate.terms.as_slice() else {
        return Err(Why::Terms(subject.predicate()));
    };
    match &term.content {
        Some(schema::term::Content::Variable(variable)) => names.bind(*variable, subject).map(|()| None),
        Some(schema::term::Content::String(symbol)) if subject != Subject::Time => {
            Ok(Some(Condition::Is(subject, vec![names.symbol(*symbol)?.to_owned()])))
        }
        _ => Err(Why::Terms(subject.predicate())),
    }
}

fn spoken_of(subject: Subject, conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| match condition {
        Condition::Is(of, _) | Condition::Begins(of, _) | Condition::Present(of) => *of == subject,
        Condition::Before(_) | Condition::From(_) => subject == Subject::Time,
        Condition::Holds(_) => false,
    })
}
