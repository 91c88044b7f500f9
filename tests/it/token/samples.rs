//! The public biscuit samples: with the library alone they behave as listed, and the profile refuses those that
//! `tests/it/token_profile_refusals.txt` names, for the reasons given there.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use biscuit_auth::AuthorizerBuilder;
use biscuit_auth::builder::Term;
use biscuit_auth::datalog::{ExternFunc, RunLimits};
use biscuit_auth::error::{self, FailedCheck, Format, Logic, MatchedPolicy, Signature, Token};
use serde_json::{Value, json};

use super::*;

/// The folder of test vectors, if there is one.
pub(super) fn vectors(what: &str) -> Option<PathBuf> {
    crate::skip::folder("DEKEYS_VECTORS", what)
}

struct Samples {
    folder: PathBuf,
    root: biscuit_auth::PublicKey,
    cases: Vec<Value>,
}

fn samples(what: &str) -> Option<Samples> {
    let folder = vectors(what)?.join("biscuit/samples");
    let list: Value = serde_json::from_slice(&fs::read(folder.join("samples.json")).unwrap()).unwrap();
    let root = list["root_public_key"].as_str().unwrap();
    Some(Samples {
        root: biscuit_auth::PublicKey::from_bytes_hex(root, biscuit_auth::Algorithm::Ed25519).unwrap(),
        cases: list["testcases"].as_array().unwrap().clone(),
        folder,
    })
}

impl Samples {
    fn bytes(&self, case: &Value) -> (String, Vec<u8>) {
        let file = case["filename"].as_str().unwrap().to_owned();
        let bytes = fs::read(self.folder.join(&file)).unwrap();
        (file, bytes)
    }
}

#[test]
fn the_library_agrees_with_all_50_validations() {
    let Some(samples) = samples("the public biscuit samples") else {
        return;
    };
    let mut validations = 0;
    for case in &samples.cases {
        let (file, bytes) = samples.bytes(case);
        for (name, validation) in case["validations"].as_object().unwrap() {
            validations += 1;
            let got = match validate(&samples.root, &bytes, validation) {
                Ok(policy) => json!({ "Ok": policy }),
                Err(error) => json!({ "Err": as_listed(&error) }),
            };
            assert_eq!(got, validation["result"], "{file} {name}");
        }
    }
    assert_eq!(validations, 50);
}

fn validate(root: &biscuit_auth::PublicKey, bytes: &[u8], validation: &Value) -> Result<usize, Token> {
    let token = Biscuit::from(bytes, root)?;
    let ids: Vec<String> = token
        .revocation_identifiers()
        .iter()
        .map(|id| data_encoding::HEXLOWER.encode(id))
        .collect();
    assert_eq!(json!(ids), validation["revocation_ids"]);
    let limits = RunLimits {
        max_time: Duration::from_secs(10),
        ..RunLimits::default()
    };
    AuthorizerBuilder::new()
        .code(validation["authorizer_code"].as_str().unwrap())?
        .set_extern_funcs(HashMap::from([("test".to_owned(), ExternFunc::new(Arc::new(foreign)))]))
        .set_limits(limits)
        .build(&token)?
        .authorize()
}

/// The foreign function the samples call.
fn foreign(left: Term, right: Option<Term>) -> Result<Term, String> {
    match (left, right) {
        (left, None) => Ok(left),
        (Term::Str(left), Some(Term::Str(right))) if left == right => Ok(Term::Str("equal strings".to_owned())),
        (Term::Str(_), Some(Term::Str(_))) => Ok(Term::Str("different strings".to_owned())),
        _ => Err("unsupported operands".to_owned()),
    }
}

/// An error in the words of `samples.json`.
fn as_listed(error: &Token) -> Value {
    match error {
        Token::Format(Format::Signature(Signature::InvalidSignature(words))) => {
            json!({ "Format": { "Signature": { "InvalidSignature": words } } })
        }
        Token::Format(Format::BlockSignatureDeserializationError(words)) => {
            json!({ "Format": { "BlockSignatureDeserializationError": words } })
        }
        Token::FailedLogic(Logic::InvalidBlockRule(id, rule)) => {
            json!({ "FailedLogic": { "InvalidBlockRule": [id, rule] } })
        }
        Token::FailedLogic(Logic::Unauthorized {
            policy: MatchedPolicy::Allow(policy),
            checks,
        }) => {
            let checks: Vec<Value> = checks.iter().map(check_as_listed).collect();
            json!({ "FailedLogic": { "Unauthorized": { "policy": { "Allow": policy }, "checks": checks } } })
        }
        Token::Execution(error::Expression::Overflow) => json!({ "Execution": "Overflow" }),
        Token::Execution(error::Expression::InvalidType) => json!({ "Execution": "InvalidType" }),
        Token::Execution(error::Expression::ShadowedVariable) => json!({ "Execution": "ShadowedVariable" }),
        other => json!(format!("{other:?}")),
    }
}

fn check_as_listed(check: &FailedCheck) -> Value {
    match check {
        FailedCheck::Block(check) => {
            json!({ "Block": { "block_id": check.block_id, "check_id": check.check_id, "rule": check.rule } })
        }
        FailedCheck::Authorizer(check) => {
            json!({ "Authorizer": { "check_id": check.check_id, "rule": check.rule } })
        }
    }
}

/// dekeys' own tokens are a small part of what biscuit can say; no sample is one.
#[test]
fn the_profile_refuses_the_listed_samples_for_the_listed_reasons() {
    let Some(samples) = samples("what the profile says of the public biscuit samples") else {
        return;
    };
    let world = World::new(1);
    let lines: Vec<String> = samples
        .cases
        .iter()
        .map(|case| {
            let (file, bytes) = samples.bytes(case);
            let error = world.parse(&text(&bytes)).unwrap_err();
            format!("{file}: {error}")
        })
        .collect();
    assert_eq!(
        lines.join("\n"),
        include_str!("../token_profile_refusals.txt").trim_end()
    );
}
