//! Whether a policy fits its vendor: what the manifest can do and what it forbids.

use super::document::{cut, locate, nearest};
use super::finding::{Finding, PolicyErrors};
use super::parse::parse;
use crate::model::policy::{CredentialPer, Policy};
use crate::model::scope::Scope;

/// What a vendor's manifest says that a policy must respect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent facts of a manifest, not states"
)]
pub struct VendorFacts {
    /// The scopes it can make keys for.
    pub scopes: Vec<Scope>,
    /// Class V1 to V5, as 1 to 5; V5 keys are never revealed.
    pub class: u8,
    /// Its keys can make further keys.
    pub can_mint: bool,
    /// It has one key that is entered, not made.
    pub is_static: bool,
    /// Its terms forbid resale.
    pub resale_forbidden: bool,
    /// Its manifest was tried against the vendor: evidence is `test` or `live`.
    pub adequate_evidence: bool,
    /// It ends keys by itself.
    pub vendor_expiry: bool,
    /// Its keys can have a spending cap, or their cost is metered.
    pub has_cap: bool,
}

/// Reads a policy file and holds it against its vendor.
///
/// # Errors
/// Everything wrong with the file; when it can be read, everything in it the vendor cannot do.
pub fn check(text: &str, file: &str, vendor: &VendorFacts) -> Result<Policy, PolicyErrors> {
    let policy = parse(text, file)?;
    let findings: Vec<Finding> = validate(&policy, vendor)
        .into_iter()
        .map(|finding| match locate(text, &finding.pointer) {
            Some(span) => finding.at(text, span),
            None => finding,
        })
        .collect();
    if findings.is_empty() {
        Ok(policy)
    } else {
        Err(PolicyErrors::new(text, file, findings))
    }
}

/// Everything in the policy that the vendor cannot do or its manifest forbids (DESIGN 13, 14). Without positions;
/// [`check`] has them.
#[must_use]
pub fn validate(policy: &Policy, vendor: &VendorFacts) -> Vec<Finding> {
    let mut findings = unknown_scopes(policy, vendor);
    findings.extend(unrevealable(policy, vendor));
    findings.extend(unmakeable(policy, vendor));
    findings.extend(unsellable(policy, vendor));
    findings.extend(unlimitable(policy, vendor));
    findings
}

fn unknown_scopes(policy: &Policy, vendor: &VendorFacts) -> Vec<Finding> {
    let known: Vec<&str> = vendor.scopes.iter().map(Scope::as_str).collect();
    let unknown = policy.scopes.iter().enumerate();
    unknown
        .filter(|(_, scope)| !vendor.scopes.contains(scope))
        .map(|(place, scope)| {
            let fix = nearest(scope.as_str(), &known).map_or_else(
                || format!("its scopes are {}", cut_list(&known)),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("{} has no scope `{}`", policy.vendor, cut(scope.as_str()));
            Finding::new(&format!("/scopes/{place}"), message, fix)
        })
        .collect()
}

/// Keys that could not be accounted for are not made.
fn unmakeable(policy: &Policy, vendor: &VendorFacts) -> Option<Finding> {
    (vendor.class >= 5 && !vendor.is_static).then(|| {
        let message = format!(
            "dekeys makes no keys at {}: they could not be found or ended again (class V5)",
            policy.vendor
        );
        let fix = "connect it with a manifest without `[create]`: its one key is then forwarded, and never shown";
        Finding::new("/vendor", message, fix.to_owned())
    })
}

fn unrevealable(policy: &Policy, vendor: &VendorFacts) -> Option<Finding> {
    policy.reveal.as_ref()?;
    let why = if vendor.can_mint {
        "its keys can make further keys"
    } else if vendor.is_static {
        "its one key is shared by everybody"
    } else if vendor.class >= 5 {
        "it is of class V5"
    } else if policy.grant.credential_per == CredentialPer::Shared {
        "`credential_per = \"shared\"` gives all grants the same key"
    } else {
        return None;
    };
    let message = format!("keys of {} are never revealed: {why}", policy.vendor);
    let fix = "remove `[reveal]`; requests can still be forwarded".to_owned();
    Some(Finding::new("/reveal", message, fix))
}

fn unsellable(policy: &Policy, vendor: &VendorFacts) -> Option<Finding> {
    policy.price.as_ref()?;
    let fix = "remove `[price]` to offer it free".to_owned();
    if vendor.resale_forbidden {
        let message = format!("{} forbids resale in its terms", policy.vendor);
        return Some(Finding::new("/price", message, fix));
    }
    (!vendor.adequate_evidence).then(|| {
        let message = format!(
            "the manifest of {} is a draft: it was not tried against the vendor",
            policy.vendor
        );
        Finding::new("/price", message, fix)
    })
}

fn unlimitable(policy: &Policy, vendor: &VendorFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if policy.limits.vendor_cost_per_grant.is_some() && !vendor.has_cap {
        let message = format!(
            "{} has no spending cap and no metering, so the cost cannot be limited",
            policy.vendor
        );
        let fix = "remove the line; limit `max_ttl` and `max_resolves` instead".to_owned();
        findings.push(Finding::new("/limits/vendor_cost_per_grant", message, fix));
    }
    if policy.limits.vendor_cost_per_grant.is_some() && policy.grant.credential_per == CredentialPer::Shared {
        let message = "one key serves all grants, so what it costs is of no one grant".to_owned();
        let fix = "write `credential_per = \"grant\"`, or remove the line".to_owned();
        findings.push(Finding::new("/limits/vendor_cost_per_grant", message, fix));
    }
    if policy.grant.require_vendor_expiry && !vendor.vendor_expiry {
        let message = format!("{} does not end keys by itself", policy.vendor);
        let fix = "write `require_vendor_expiry = false`; dekeys revokes the keys when their time is over".to_owned();
        findings.push(Finding::new("/grant/require_vendor_expiry", message, fix));
    }
    if policy.grant.credential_per == CredentialPer::Grant && vendor.is_static {
        let message = format!(
            "{} has one key that is entered, so there is none for each grant",
            policy.vendor
        );
        let fix = "write `credential_per = \"shared\"`".to_owned();
        findings.push(Finding::new("/grant/credential_per", message, fix));
    }
    findings
}

fn cut_list(known: &[&str]) -> String {
    let shown: Vec<&str> = known.iter().take(8).copied().collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
