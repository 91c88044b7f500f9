//! Why: every policy of a vendor, every rule it asked, and the one that decided, in words.

use std::fmt;

use serde::Serialize;

use super::decide::{Ask, CHECKS, Decision, Payer, Verdict, decide, price};
use crate::base::money::Money;
use crate::model::policy::Policy;
use crate::model::scope::{Name, Reference};

/// The answers of all policies of the vendor that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Explanation {
    /// What was asked for.
    pub reference: Reference,
    /// Whether a policy allows it.
    pub allowed: bool,
    /// One answer for each policy of the vendor; empty when there is none.
    pub answers: Vec<Answer>,
}

/// What one policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Answer {
    /// The policy.
    pub policy: Name,
    /// Its version.
    pub version: i64,
    /// Whether it allows the request.
    pub allowed: bool,
    /// What it costs; absent of a no, and when it is free.
    pub price: Option<Money>,
    /// The rule that decided; of a yes, the one that let the requester in.
    pub rule: String,
    /// The reason.
    pub words: String,
    /// Of a no, the smallest change of the policy or the request that gets past this rule.
    pub change: Option<String>,
    /// The rules asked, in order, up to the one that decided.
    pub steps: Vec<Step>,
}

/// One rule and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Step {
    /// The rule's name.
    pub rule: String,
    /// Whether it let the request pass.
    pub passed: bool,
    /// What it found.
    pub words: String,
}

/// Explains what [`decide`] answers, policy by policy, with each policy's version.
#[must_use]
pub fn explain(policies: &[(Policy, i64)], ask: &Ask<'_>) -> Explanation {
    let answers: Vec<Answer> = policies
        .iter()
        .filter(|(policy, _)| policy.vendor == *ask.vendor)
        .map(|(policy, version)| answer(policy, *version, ask))
        .collect();
    Explanation {
        reference: Reference {
            vendor: ask.vendor.clone(),
            scope: ask.scope.clone(),
        },
        allowed: answers.iter().any(|answer| answer.allowed),
        answers,
    }
}

fn answer(policy: &Policy, version: i64, ask: &Ask<'_>) -> Answer {
    let (allowed, rule, words, change) = match decide(policy, ask) {
        Decision::Allow(terms) => {
            let words = format!("allowed: the requester is in `{}`", terms.rule);
            (true, terms.rule, words, None)
        }
        Decision::Deny(denial) => (false, denial.rule, denial.words, Some(denial.change)),
    };
    Answer {
        policy: policy.name.clone(),
        version,
        allowed,
        price: price(policy, ask).filter(|_| allowed),
        rule,
        words,
        change,
        steps: steps(policy, ask),
    }
}

fn steps(policy: &Policy, ask: &Ask<'_>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(CHECKS.len());
    for rule in &CHECKS {
        let (passed, words) = match (rule.ask)(policy, ask, Payer::Known) {
            Verdict::Pass(words) => (true, words),
            Verdict::Refuse { words, .. } => (false, words),
        };
        steps.push(Step {
            rule: rule.name.to_owned(),
            passed,
            words,
        });
        if !passed {
            break;
        }
    }
    steps
}

impl fmt::Display for Explanation {
    /// One paragraph for each policy, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.answers.is_empty() {
            return write!(f, "{}: no policy is for this vendor", self.reference);
        }
        let word = if self.allowed { "allowed" } else { "not allowed" };
        write!(f, "{}: {word}", self.reference)?;
        for answer in &self.answers {
            let word = if answer.allowed { "yes" } else { "no" };
            write!(
                f,
                "\n  {} v{}  {word}, by {}",
                answer.policy, answer.version, answer.rule
            )?;
            for step in &answer.steps {
                let mark = if step.passed { "ok" } else { "no" };
                write!(f, "\n    {mark}  {:<18}  {}", step.rule, step.words)?;
            }
            if let Some(price) = &answer.price {
                write!(f, "\n    price: {price}")?;
            }
            if let Some(change) = &answer.change {
                write!(f, "\n    fix: {change}")?;
            }
        }
        Ok(())
    }
}
