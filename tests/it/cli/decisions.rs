//! What people decide: verdicts over what they saw, and questions before what cannot be undone.

use dekeys::base::canonical::Digest;
use dekeys::base::id::ApprovalId;
use dekeys::httpsig::verify_raw;
use dekeys::model::approval::{Verdict, verdict_bytes};
use serde_json::{Value, json};

use super::stage::{Answer, Server, Stage, id};

fn approval(state: &str) -> Value {
    json!({
        "id": id("apr", '1'), "object": "approval", "state": state, "kind": "policy",
        "summary": "policy readers v4", "digest": Digest::of(b"v4"), "requester": id("pri", '1'),
        "reason": "index\u{202e}", "approvers": ["ada", "grace"], "quorum": 2, "reviews": [],
        "text": "max_ttl = \"1h\"\n",
        "diff": { "changes": [{ "words": "grant.max_ttl 15m -> 1h", "effect": "wider" }], "unified": "-15m\n+1h\u{1b}[2J" },
    })
}

fn court() -> Server {
    Server::start(|seen, _| match seen.method.as_str() {
        "GET" => Answer::ok(&approval("pending")),
        _ => Answer::json(201, &approval("approved")),
    })
}

#[test]
fn a_verdict_is_signed_over_request_digest_word_and_comment() {
    for (word, verdict) in [("approve", Verdict::Approve), ("deny", Verdict::Deny)] {
        let server = court();
        let stage = Stage::new().at(&server);
        let (key, public) = stage.key("ada.key", 7);
        let (apr, digest) = (id("apr", '1'), Digest::of(b"v4"));
        let ran = stage.run(&format!(
            "approval {word} {apr} --digest {digest} -c 'as agreed' --key-file {key}"
        ));
        assert_eq!(ran.exit, 0, "{ran:?}");
        let posted = server.seen().pop().unwrap();
        assert_eq!(posted.line(), format!("POST /v1/approvals/{apr}/reviews"));
        let body = posted.json();
        assert_eq!(
            (body["verdict"].as_str(), body["comment"].as_str()),
            (Some(word), Some("as agreed"))
        );
        let signature = data_encoding::BASE64URL_NOPAD
            .decode(body["signature"].as_str().unwrap().as_bytes())
            .unwrap();
        let apr: ApprovalId = apr.parse().unwrap();
        assert!(verify_raw(
            &public,
            &verdict_bytes(apr, digest, verdict, "as agreed"),
            &signature
        ));
        assert!(!verify_raw(
            &public,
            &verdict_bytes(apr, digest, verdict, "as agreed."),
            &signature
        ));
    }
}

#[test]
fn a_request_that_changed_gets_no_vote() {
    let server = court();
    let stage = Stage::new().at(&server);
    let (key, _) = stage.key("ada.key", 7);
    let seen = Digest::of(b"v3");
    let ran = stage.run(&format!(
        "approval approve {} --digest {seen} --key-file {key}",
        id("apr", '1')
    ));
    assert_eq!(ran.exit, 9);
    let told = format!(
        "You saw {seen}, it is now {}. Your vote was not counted.",
        Digest::of(b"v4")
    );
    assert!(
        ran.err.contains("[digest_mismatch]") && ran.err.contains(&told),
        "{ran:?}"
    );
    assert_eq!(server.seen().len(), 1, "nothing was posted");
}

#[test]
fn without_a_digest_a_person_is_shown_what_changes_and_asked() {
    let vote = |input: &str| {
        let server = court();
        let stage = Stage::at_terminal(input).at(&server);
        let (key, _) = stage.key("ada.key", 7);
        let ran = stage.run(&format!("approval approve {} --key-file {key}", id("apr", '1')));
        (ran, server.seen().len())
    };
    let (ran, requests) = vote("y\n");
    assert_eq!((ran.exit, requests), (0, 2), "{ran:?}");
    assert!(ran.err.contains("grant.max_ttl 15m -> 1h  (wider)"), "{ran:?}");
    assert!(
        ran.err.contains(r"+1h\u{1b}[2J") && !ran.err.contains('\u{1b}'),
        "{ran:?}"
    );
    for no in ["n\n", "\n", "", "yess\n"] {
        let (ran, requests) = vote(no);
        assert_eq!((ran.exit, requests), (1, 1), "{no:?}: {ran:?}");
    }
}

#[test]
fn a_script_must_name_the_digest_and_a_refusal_a_reason() {
    let server = court();
    let stage = Stage::new().at(&server);
    let (key, _) = stage.key("ada.key", 7);
    let apr = id("apr", '1');
    for line in [
        format!("approval approve {apr} --key-file {key}"),
        format!("approval approve {apr} --yes --key-file {key}"),
        format!("approval deny {apr} --digest {} --key-file {key}", Digest::of(b"v4")),
        format!("approval approve {apr} --digest b3:9f2c41aa07 --key-file {key}"),
    ] {
        let ran = stage.run(&line);
        assert_eq!(ran.exit, 2, "{line}: {ran:?}");
    }
    assert!(
        server.seen().iter().all(|seen| seen.method == "GET"),
        "{:?}",
        server.lines()
    );
    let ran = stage.run(&format!("approval approve {apr} --digest {}", Digest::of(b"v4")));
    assert!(
        ran.exit == 4 && ran.err.contains("--key-file"),
        "a login cannot vote: {ran:?}"
    );
}

#[test]
fn what_cannot_be_undone_is_asked_about() {
    let lines = [
        format!("lease revoke {}", id("lea", '1')),
        format!("grant revoke {}", id("grt", '1')),
        format!("principal disable {}", id("pri", '1')),
        format!("approval cancel {}", id("apr", '1')),
        "seal".to_owned(),
    ];
    for line in &lines {
        let server = Server::always(|| Answer::ok(&json!({ "confirmed": true })));
        let asked = |stage: Stage, more: &str| stage.at(&server).run(&format!("{line}{more}")).exit;
        assert_eq!(asked(Stage::new(), ""), 2, "{line}: nobody can be asked");
        assert_eq!(asked(Stage::at_terminal("y\n"), " --no-input"), 2, "{line}");
        assert_eq!(asked(Stage::at_terminal("n\n"), ""), 1, "{line}");
        assert_eq!(server.seen().len(), 0, "{line}: nothing was sent");
        assert_eq!(asked(Stage::at_terminal("y\n"), ""), 0, "{line}");
        assert_eq!(asked(Stage::new(), " --yes"), 0, "{line}");
        assert_eq!(server.seen().len(), 2, "{line}");
    }
}

#[test]
fn a_request_is_shown_with_its_whole_digest_and_nothing_hidden() {
    let server = court();
    let ran = Stage::at_terminal("")
        .at(&server)
        .run(&format!("approval show {}", id("apr", '1')));
    assert!(ran.out.contains(&Digest::of(b"v4").to_string()), "{ran:?}");
    assert!(
        ran.out.contains(r"index\u{202e}") && ran.out.contains("-15m"),
        "{ran:?}"
    );
}
