//! Verdicts on approval requests, signed by the approver's own key.

use serde_json::{Value, json};

use crate::base::canonical::Digest;
use crate::base::id::{ApprovalId, base64url};
use crate::httpsig::KeyFile;
use crate::model::approval::{Verdict, verdict_bytes};

/// The body of `POST /v1/approvals/{id}/reviews`. The signature covers the request, the digest that was seen, the
/// verdict and the comment; it counts for nothing else.
#[must_use]
pub fn review(key: &KeyFile, approval: ApprovalId, digest: Digest, verdict: Verdict, comment: &str) -> Value {
    let signature = key.sign(&verdict_bytes(approval, digest, verdict, comment));
    json!({
        "verdict": verdict,
        "comment": comment,
        "digest": digest,
        "signature": base64url(&signature),
    })
}
