//! What a manifest says keys of its vendor look like is masked in answers: other keys than the one of the request too.

use super::raw::{Piece, answer, chunk, chunked};
use super::scene::{KEY, MANIFEST, Scene};
use crate::support::until;

/// Another customer's key, as this vendor writes them.
const OTHER: &str = "acme-other-0123456789ABCDEF";

#[tokio::test]
async fn keys_of_others_and_the_root_credential_are_masked_wherever_they_stand() {
    let manifest = MANIFEST.replace(
        "strip_response",
        "redact = [\"acme-[A-Za-z0-9-]{16,}\"]\nstrip_response",
    );
    let scene = Scene::with("15m", &manifest, |_| {}).await;
    let token = scene.bearer().await;
    let (one, two) = OTHER.split_at(9);
    let escaped: Vec<String> = OTHER.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let scripts: Vec<Vec<Piece>> = vec![
        vec![answer(
            200,
            "",
            format!("{{\"key\":\"{OTHER}\",\"own\":\"{KEY}\",\"id\":\"acme-7\"}}").as_bytes(),
        )],
        vec![
            chunked(""),
            chunk(b"id acme-7 "),
            chunk(one.as_bytes()),
            chunk(two.as_bytes()),
            chunk(format!(" {KEY}").as_bytes()),
            chunk(b""),
        ],
        vec![answer(200, &format!("X-Key: {OTHER}\r\n"), b"acme-7")],
        vec![answer(500, "", format!("\"{}\" acme-7", escaped.concat()).as_bytes())],
    ];
    let count = scripts.len();
    for pieces in scripts {
        let pieces = std::sync::Mutex::new(Some(pieces));
        scene
            .vendor
            .answers(move |_| pieces.lock().unwrap().take().unwrap_or_default());
        let raw = scene.get("GET", "/v1/messages", &token, "").await.text();
        assert!(
            !raw.contains("0123456789ABCDEF") && !raw.contains(KEY) && !raw.contains(&escaped[12]),
            "{raw}"
        );
        assert!(raw.contains("acme-7") && raw.contains("****************"), "{raw}");
    }
    until("the events", async || {
        (scene.app.events("security.key_reflected").await.len() == count).then_some(())
    })
    .await;
    scene.app.stop().await;
}

#[tokio::test]
async fn a_manifest_whose_patterns_cannot_be_looked_for_is_refused() {
    let scene = Scene::new().await;
    for (pattern, told) in [
        ("acme-[", "no regular expression"),
        ("(acme-)?", "matches nothing"),
        ("^acme-a", "looks at"),
    ] {
        let manifest = MANIFEST.replace("strip_response", &format!("redact = ['{pattern}']\nstrip_response"));
        let body = serde_json::json!({ "fields": { "key": KEY }, "manifest": manifest });
        let request = dekeys::client::Request::put(&["v1", "vendors", "acme", "root-credential"]).json(&body);
        let seen = crate::support::send(&scene.app.operator(), request).await;
        seen.is(422, "manifest_invalid");
        assert!(seen.text("/detail").contains(told), "{}", seen.json);
    }
    scene.app.stop().await;
}
