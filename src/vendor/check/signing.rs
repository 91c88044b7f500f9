//! What a manifest lets dekeys sign.

use super::{names, variables};
use crate::vendor::findings::Reader;
use crate::vendor::jwt::{Assertion, Signer};
use crate::vendor::manifest::Manifest;
use crate::vendor::tables::{CreateTable, ExpiryUnit};
use crate::vendor::template::Tree;

/// What signs, with what, and for how long.
pub(super) fn assertion(manifest: &Manifest, reader: &mut Reader<'_>, assertion: &Assertion) {
    let mut known = names(manifest, &["root", "params"]);
    signer(manifest, reader, "/root/auth/assertion/sign", &assertion.sign);
    known.push("fingerprint".to_owned());
    for (pointer, text) in assertion.claims.texts() {
        variables(reader, &format!("/root/auth/assertion/claims{pointer}"), text, &known);
    }
    if !matches!(assertion.claims, Tree::Table(_)) || !(60..=3600).contains(&assertion.lifetime_s) {
        let message = "claims are a table, and what proves a root credential is valid for 60 to 3600 seconds";
        reader.wrong("/root/auth/assertion", message, None);
    }
}

fn signer(manifest: &Manifest, reader: &mut Reader<'_>, path: &str, signer: &Signer) {
    if !signer
        .field()
        .is_some_and(|field| manifest.root.fields.contains_key(field))
    {
        let fix = manifest
            .root
            .fields
            .keys()
            .next()
            .map(|field| format!("write `${{root.{field}}}`"));
        reader.wrong(
            &format!("{path}/key"),
            "the key is one field of the root credential",
            fix,
        );
    }
    for (name, text) in &signer.header {
        variables(
            reader,
            &format!("{path}/header/{name}"),
            text,
            &names(manifest, &["root", "params"]),
        );
        if matches!(name.as_str(), "alg" | "typ") {
            reader.wrong(
                &format!("{path}/header/{name}"),
                "`alg` and `typ` are set by dekeys",
                None,
            );
        }
    }
}

/// A key that is signed here is told apart by nothing but itself and dies by itself.
pub(super) fn create(manifest: &Manifest, reader: &mut Reader<'_>, create: &CreateTable, signed: &Signer) {
    signer(manifest, reader, "/create/sign", signed);
    let mut known = names(manifest, &["root", "params"]);
    known.extend(["name", "expires", "scopes", "scope", "now", "fingerprint"].map(str::to_owned));
    for (pointer, text) in create.body.iter().flat_map(Tree::texts) {
        variables(reader, &format!("/create/body{pointer}"), text, &known);
    }
    if !matches!(create.body, Some(Tree::Table(_))) {
        reader.wrong(
            "/create/body",
            "the claims of a key that is signed here are a table",
            None,
        );
    }
    let calls = !create.path.source().is_empty() || create.poll.is_some() || !create.then.is_empty();
    if calls || manifest.list.is_some() || manifest.revoke.is_some() {
        let message = "a key that is signed here is neither called for nor listed nor ended at the vendor";
        reader.wrong("/create/sign", message, None);
    }
    if manifest.vendor.class != 4 || manifest.expiry.unit != ExpiryUnit::UnixS {
        let fix = Some("say `class = 4`, and `[expiry]` with `unit = \"unix_s\"`".to_owned());
        reader.wrong("/create/sign", "a key that is signed here ends by itself", fix);
    }
}
