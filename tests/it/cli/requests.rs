//! What is sent: signed by the named key over the very request, with the login otherwise, to the right place.

use std::os::unix::fs::MetadataExt as _;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::stage::{Answer, Server, Stage, id};

fn empty() -> Answer {
    Answer::ok(&json!({ "object": "list", "data": [], "has_more": false }))
}

#[test]
fn a_key_file_signs_every_request_with_a_nonce_of_its_own() {
    let server = Server::always(empty);
    let stage = Stage::new().at(&server);
    let (file, public) = stage.key("ada.key", 7);
    for _ in 0..2 {
        assert_eq!(
            stage.run(&format!("audit tail --type lease. --key-file {file}")).exit,
            0
        );
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.signer == Some(public)), "{seen:?}");
    assert_ne!(seen[0].nonce, seen[1].nonce);
    assert!(seen[0].header("authorization").is_none());
}

#[test]
fn without_a_key_nothing_is_signed() {
    let server = Server::always(empty);
    Stage::new().at(&server).run("offer ls");
    assert!(server.seen()[0].signer.is_none() && server.seen()[0].header("signature").is_none());
}

#[test]
fn a_login_is_kept_for_its_owner_and_used_at_its_address_only() {
    let server = Server::start(|seen, _| match seen.path.as_str() {
        "/v1/sessions" => {
            assert_eq!(seen.json(), json!({ "use": "login" }));
            let body = json!({ "object": "session", "session_id": null, "secret": "dks_CANARY", "expires": "2025-11-21T04:31:07Z" });
            Answer::json(201, &body)
        }
        _ => empty(),
    });
    let mut stage = Stage::new().at(&server);
    let (file, public) = stage.key("ada.key", 7);
    let ran = stage.run(&format!("login --key-file {file}"));
    assert_eq!((ran.exit, ran.out.as_str()), (0, ""));
    assert!(
        ran.err.contains("ends in 8 h") && !ran.err.contains("CANARY"),
        "{ran:?}"
    );
    assert_eq!(server.seen()[0].signer, Some(public));
    let folder = stage.path("home/.config/dekeys");
    let kept: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::metadata(&kept[0]).unwrap().mode() & 0o777, 0o600);

    assert_eq!(stage.run("grant ls").exit, 0);
    assert_eq!(server.seen()[1].header("authorization"), Some("Bearer dks_CANARY"));
    assert_eq!(stage.run("whoami").exit, 0);
    let other = Server::always(empty);
    stage.set("DEKEYS_ADDR", &other.url());
    assert_eq!(stage.run("grant ls").exit, 0);
    assert_eq!(other.seen()[0].header("authorization"), None);
}

#[test]
fn a_login_that_is_over_is_told() {
    let server =
        Server::always(|| Answer::problem(401, "signature_required", "The request must be signed", "", "sign it"));
    let stage = Stage::new().at(&server);
    assert!(stage.run("grant ls").err.contains("fix: sign it\n"));
    let folder = stage.path("home/.config/dekeys");
    std::fs::create_dir_all(&folder).unwrap();
    let name = format!("login-{}", server.url().replace([':', '/'], "-"));
    std::fs::write(folder.join(name), "dks_old").unwrap();
    let ran = stage.run("grant ls");
    assert!(
        ran.exit == 4
            && ran
                .err
                .contains("fix: your login is over: dekeys login --key-file FILE\n"),
        "{ran:?}"
    );
}

#[test]
fn a_key_that_others_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::always(empty);
    let stage = Stage::new().at(&server);
    let (file, _) = stage.key("ada.key", 7);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = stage.run(&format!("grant ls --key-file {file}"));
    assert!(
        ran.exit == 0 && ran.err.contains(&format!("chmod 600 {file}")),
        "{ran:?}"
    );
}

#[test]
fn plain_http_to_another_machine_is_told() {
    let stage = Stage::new();
    // A token that is no header stops the request before it reaches the network.
    let token = stage.file("token", "a\u{1}b");
    let ran = stage.run(&format!("grant ls --addr http://192.0.2.1:1 --token-file {token}"));
    assert!(ran.err.starts_with("warning: plain http to another machine"), "{ran:?}");
    assert!(ran.exit == 1 && ran.err.contains("cannot be signed"), "{ran:?}");
}

#[test]
fn every_command_asks_for_the_right_thing() {
    let server = Server::always(|| Answer::ok(&json!({ "confirmed": true, "ok": true, "allowed": true })));
    let stage = Stage::new().at(&server);
    let (key, _) = stage.key("ada.key", 7);
    let (grant, lease, credential) = (id("grt", '1'), id("lea", '1'), id("cred", '1'));
    let (approval, principal, event) = (id("apr", '1'), id("pri", '1'), id("evt", '1'));
    let receipt = id("rcp", '1');
    let lines = [
        ("whoami".to_owned(), "GET /v1/whoami".to_owned()),
        (format!("grant show {grant}"), format!("GET /v1/grants/{grant}")),
        (
            format!("grant token {grant}"),
            format!("POST /v1/grants/{grant}/tokens"),
        ),
        (
            format!("grant renew {grant} --ttl 1h"),
            format!("POST /v1/grants/{grant}/renew"),
        ),
        (
            format!("grant revoke {grant} --yes"),
            format!("POST /v1/grants/{grant}/revoke"),
        ),
        (format!("lease show {lease}"), format!("GET /v1/leases/{lease}")),
        (
            format!("lease revoke {lease} --yes"),
            format!("POST /v1/leases/{lease}/revoke"),
        ),
        (
            format!("credential show {credential}"),
            format!("GET /v1/credentials/{credential}"),
        ),
        (
            "policy show readers --at 3".to_owned(),
            "GET /v1/policies/readers".to_owned(),
        ),
        (
            "policy explain dk://a/b:c".to_owned(),
            "POST /v1/policies/explain".to_owned(),
        ),
        (
            format!("approval show {approval}"),
            format!("GET /v1/approvals/{approval}"),
        ),
        (
            format!("approval cancel {approval} --yes"),
            format!("POST /v1/approvals/{approval}/cancel"),
        ),
        ("vendor show demo".to_owned(), "GET /v1/vendors/demo".to_owned()),
        ("vendor test demo".to_owned(), "POST /v1/vendors/demo/test".to_owned()),
        (
            format!("principal show {principal}"),
            format!("GET /v1/principals/{principal}"),
        ),
        (
            format!("principal disable {principal} --yes"),
            format!("POST /v1/principals/{principal}/disable"),
        ),
        ("audit verify".to_owned(), "POST /v1/audit/verify".to_owned()),
        (format!("audit proof {event}"), format!("GET /v1/audit/proofs/{event}")),
        (format!("receipt show {receipt}"), format!("GET /v1/receipts/{receipt}")),
        ("seal --yes".to_owned(), "POST /v1/sys/seal".to_owned()),
    ];
    for (line, expected) in &lines {
        let ran = stage.run(&format!("{line} --key-file {key}"));
        assert_eq!(ran.exit, 0, "{line}: {ran:?}");
        assert_eq!(server.lines().last(), Some(expected), "{line}");
    }
    assert!(server.seen().iter().all(|seen| seen.signer.is_some()));
}

#[test]
fn a_grant_is_asked_for_in_the_servers_words() {
    let server = Server::always(|| Answer::json(201, &json!({ "id": id("grt", '1'), "token": "dkt_test_x" })));
    let stage = Stage::new().at(&server);
    let line = "grant create dk://openai/chat:write --ttl 15m --max-resolves 100 --audience prim-infer --reason 'nightly index'";
    let ran = stage.run(line);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let body = json!({
        "reference": "dk://openai/chat:write", "ttl": "15m", "max_resolves": 100, "audience": ["prim-infer"],
        "reason": "nightly index", "public_key": null, "bearer": false,
    });
    assert_eq!(server.seen()[0].json(), body);
    assert!(
        server.seen()[0]
            .header("idempotency-key")
            .is_some_and(|key| key.len() >= 16)
    );
    stage.run("grant create dk://a/b:c dk://a/b:d --idempotency-key mine");
    let seen = server.seen();
    assert_eq!(seen[1].json()["references"], json!(["dk://a/b:c", "dk://a/b:d"]));
    assert_eq!(seen[1].header("idempotency-key"), Some("mine"));
}

#[test]
fn waiting_repeats_the_same_request() {
    let server = Server::start(|_, before| match before {
        0 | 1 => Answer::problem(202, "approval_pending", "People decide", "", "wait"),
        _ => Answer::json(201, &json!({ "id": id("grt", '1'), "token": "dkt_test_x" })),
    });
    let stage = Stage::new().at(&server);
    let ran = stage.run("grant create dk://a/b:c --wait 1h");
    assert_eq!(ran.exit, 0, "{ran:?}");
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    let keys: Vec<_> = seen.iter().map(|seen| seen.header("idempotency-key")).collect();
    assert!(keys[0] == keys[1] && keys[1] == keys[2], "{keys:?}");
    assert!(seen.iter().all(|other| other.body == seen[0].body));

    let pending = Server::always(|| Answer::problem(202, "approval_pending", "People decide", "", "wait"));
    let ran = Stage::new().at(&pending).run("grant create dk://a/b:c");
    assert_eq!(ran.exit, 7);
    let key = pending.seen()[0].header("idempotency-key").unwrap().to_owned();
    assert!(ran.err.contains(&format!("--idempotency-key {key}")), "{ran:?}");
}

fn demand(network: &str) -> Answer {
    let offer = json!({ "scheme": "exact", "network": network, "amount": "10000", "payTo": "0x1", "asset": "0x2" });
    let required = json!({ "x402Version": 2, "accepts": [offer] });
    let header = BASE64.encode(required.to_string().as_bytes());
    Answer::problem(
        402,
        "payment_required",
        "Payment required",
        "It costs 0.01 USDC.",
        "pay",
    )
    .with("payment-required", &header)
}

#[test]
fn nothing_is_paid_above_the_limit_on_real_networks_or_unasked() {
    for (network, flags, told) in [
        (
            "eip155:84532",
            "--max-price '0.005 USDC'",
            "the price is 0.01 USDC, more than 0.005 USDC",
        ),
        ("eip155:8453", "--max-price '1 USDC'", "real money"),
    ] {
        let server = Server::always(move || demand(network));
        let stage = Stage::new().at(&server);
        let wallet = stage.file("wallet", &"11".repeat(32));
        let ran = stage.run(&format!("grant create dk://a/b:c --pay-key-file {wallet} {flags}"));
        assert_eq!(ran.exit, 6, "{ran:?}");
        assert!(
            ran.err.contains(told) && ran.err.contains("Nothing was paid."),
            "{ran:?}"
        );
        assert_eq!(server.seen().len(), 1);
    }
    let server = Server::always(|| demand("eip155:84532"));
    let stage = Stage::new().at(&server);
    let wallet = stage.file("wallet", &"11".repeat(32));
    let ran = stage.run(&format!("grant create dk://a/b:c --pay-key-file {wallet}"));
    assert_eq!((ran.exit, server.seen().len()), (2, 1), "{ran:?}");
    let ran = Stage::new().at(&server).run("grant create dk://a/b:c");
    assert!(ran.exit == 6 && ran.err.contains("[payment_required]"), "{ran:?}");
    assert!(ran.err.contains("--pay-key-file FILE"), "{ran:?}");
}

#[test]
fn principals_are_found_by_name_and_near_names_are_suggested() {
    let principal = json!({ "id": id("pri", '1'), "name": "prim-infer", "kind": "prim" });
    let server = Server::start(move |seen, _| match seen.path.as_str() {
        "/v1/principals" => Answer::ok(&json!({ "object": "list", "data": [principal], "has_more": false })),
        _ => Answer::ok(&principal),
    });
    let stage = Stage::new().at(&server);
    assert_eq!(stage.run("principal show prim-infer").exit, 0);
    assert_eq!(
        server.lines().last(),
        Some(&format!("GET /v1/principals/{}", id("pri", '1')))
    );
    let ran = stage.run("principal show prim-infre");
    assert_eq!(ran.exit, 3);
    assert!(ran.err.contains("did you mean `prim-infer`?"), "{ran:?}");
}

#[test]
fn a_policy_is_proposed_under_its_own_name_and_waited_for() {
    for (state, exit) in [("approved", 0), ("denied", 7)] {
        let approval = id("apr", '1');
        let server = Server::start(move |seen, before| match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", _) => Answer::ok(&json!({ "state": if before < 4 { "pending" } else { state } })),
            (_, "/v1/policies/validate") => Answer::ok(&json!({ "name": "readers" })),
            _ => {
                let changes =
                    json!([{ "field": "grant.max_ttl", "words": "grant.max_ttl 15m -> 1h", "effect": "wider" }]);
                Answer::json(
                    202,
                    &json!({
                        "name": "readers", "version": 4, "digest": "b3:00", "approval": approval,
                        "diff": { "changes": changes, "unified": "-a\n+b" }, "findings": [],
                    }),
                )
            }
        });
        let stage = Stage::new().at(&server);
        let file = stage.file("p.toml", "name = \"readers\"\n");
        let ran = stage.args(&["policy", "apply", &file, "--reason", "why", "--wait", "1h"]);
        assert_eq!(ran.exit, exit, "{ran:?}");
        assert_eq!(server.lines()[1], "PUT /v1/policies/readers");
        assert_eq!(
            server.seen()[1].json(),
            json!({ "text": "name = \"readers\"\n", "reason": "why" })
        );
        assert!(
            ran.out.starts_with("grant.max_ttl 15m -> 1h  (wider)\n\n-a\n+b\n"),
            "{ran:?}"
        );
        assert!(
            ran.out
                .contains(&format!("proposed readers v4: {}, digest b3:00", id("apr", '1'))),
            "{ran:?}"
        );
    }
}

#[test]
fn enrolling_sends_public_keys_only() {
    let server = Server::always(|| Answer::json(201, &json!({ "name": "prim-infer" })));
    let stage = Stage::new().at(&server);
    let (private, public) = stage.key("prim.key", 3);
    let file = stage.file("prim.pub", &format!("{public}\n"));
    let ran = stage.run(&format!("principal create prim-infer --kind prim --public-key {file}"));
    assert_eq!(ran.exit, 0, "{ran:?}");
    let body = json!({ "name": "prim-infer", "kind": "prim", "public_keys": [public], "wallets": [] });
    assert_eq!(server.seen()[0].json(), body);
    let ran = stage.run(&format!(
        "principal create prim-infer --kind prim --public-key {private}"
    ));
    let secret = std::fs::read_to_string(&private).unwrap();
    let seed = secret.trim().rsplit(' ').next().unwrap();
    assert!(ran.exit == 1 && !ran.err.contains(seed), "{ran:?}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn any_request_can_be_made() {
    let server = Server::always(|| Answer::ok(&Value::Null));
    let stage = Stage::new().at(&server);
    assert_eq!(stage.run("api /v1/policies/explain -f reference=dk://a/b:c").exit, 0);
    let seen = &server.seen()[0];
    assert_eq!(
        (seen.line().as_str(), seen.json()),
        ("POST /v1/policies/explain", json!({ "reference": "dk://a/b:c" }))
    );
    stage.run("api /v1/audit/events -X GET -f type=a&b");
    assert_eq!(server.seen()[1].query, "type=a%26b");
    assert_eq!(stage.run("api v1/offers").exit, 2);
    assert_eq!(stage.run("api /v1/offers -X DELETE").exit, 2);
    assert_eq!(server.seen().len(), 2);
}
