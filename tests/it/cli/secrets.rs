//! Secrets go in by file, standard input or prompt, and come out only where they are asked for.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use super::stage::{Answer, Server, Stage, id};

const KEY: &str = "sk-CANARY-0123456789";

fn resolved() -> Answer {
    Answer::ok(&json!({ "object": "list", "has_more": false, "data": [{
        "object": "resolution", "reference": "dk://openai/chat:write", "lease_id": id("lea", '1'), "lease_duration": 300,
        "renewable": false, "credential": { "kind": "api_key", "version": 1, "fields": { "api_key": KEY } },
    }] }))
}

fn prim(stage: &Stage) -> String {
    let (key, _) = stage.key("prim.key", 5);
    let token = stage.file("token", "dkt_test_abc\n");
    format!("resolve dk://openai/chat:write --key-file {key} --token-file {token}")
}

#[test]
fn a_key_is_printed_only_when_it_is_asked_for() {
    let server = Server::always(resolved);
    for (stage, more, shown) in [
        (Stage::new(), "", false),
        (Stage::new(), " --json", false),
        (Stage::new(), " -o jsonl", false),
        (Stage::new(), " --verbose", false),
        (Stage::at_terminal(""), "", false),
        (Stage::at_terminal(""), " --yes", false),
        (Stage::new(), " --reveal", true),
        (Stage::new(), " --reveal --json", true),
        (Stage::at_terminal(""), " --reveal --yes", true),
    ] {
        let stage = stage.at(&server);
        let ran = stage.run(&format!("{}{more}", prim(&stage)));
        assert_eq!((ran.exit, ran.out.contains(KEY)), (0, shown), "{more}: {ran:?}");
        assert!(!ran.err.contains("CANARY"), "{more}: {ran:?}");
        assert!(shown || ran.out.contains(&id("lea", '1')), "{more}: {ran:?}");
    }
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer dkt_test_abc"));
    assert_eq!(
        seen.json(),
        json!({ "items": [{ "reference": "dk://openai/chat:write" }] })
    );
    assert!(seen.signer.is_some());
}

#[test]
fn a_key_asked_for_is_the_key_and_nothing_else() {
    let server = Server::always(resolved);
    let stage = Stage::new().at(&server);
    assert_eq!(stage.run(&format!("{} --reveal", prim(&stage))).out, format!("{KEY}\n"));
    let ran = stage.run(&format!("{} --reveal --field other", prim(&stage)));
    assert!(
        ran.exit == 2 && ran.err.contains("--field api_key") && ran.out.is_empty(),
        "{ran:?}"
    );
}

#[test]
fn a_terminal_is_refused_before_anything_is_sent() {
    let server = Server::always(resolved);
    let stage = Stage::at_terminal("").at(&server);
    let ran = stage.run(&format!("{} --reveal", prim(&stage)));
    assert_eq!((ran.exit, server.seen().len()), (2, 0), "{ran:?}");
    let ran = stage.run("api /v1/resolve -X POST");
    assert!(ran.exit == 0 && !ran.out.contains("CANARY"), "{ran:?}");
}

#[test]
fn one_item_refused_is_a_command_that_failed() {
    let server = Server::always(|| {
        let problem = json!({ "code": "used_up", "title": "No resolves are left", "status": 403, "detail": "", "fix": "buy again" });
        Answer::ok(&json!({ "object": "list", "has_more": false, "data": [
            { "object": "problem", "reference": "dk://openai/chat:write", "problem": problem }
        ] }))
    });
    let stage = Stage::new().at(&server);
    let ran = stage.run(&prim(&stage));
    assert_eq!(ran.exit, 5);
    assert!(
        ran.err.contains("error: no resolves are left [used_up]") && ran.out.ends_with("used_up\n"),
        "{ran:?}"
    );
}

#[test]
fn a_token_goes_to_its_file_alone() {
    let server = Server::always(|| {
        let grant =
            json!({ "id": id("grt", '1'), "state": "active", "token": "dkt_test_CANARY", "token_type": "Bearer" });
        Answer::json(201, &grant)
    });
    let stage = Stage::new().at(&server);
    let path = stage.path("token");
    for (line, json) in [
        ("grant create dk://a/b:c".to_owned(), ""),
        (format!("grant token {}", id("grt", '1')), " --json"),
    ] {
        let ran = stage.run(&format!("{line} --out-token {}{json}", path.display()));
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(!ran.out.contains("CANARY") && !ran.err.contains("CANARY"), "{ran:?}");
        assert!(ran.out.contains(&id("grt", '1')), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dkt_test_CANARY");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_token_as_an_argument_is_refused_and_not_repeated() {
    let ran = Stage::new().run("token inspect dkt_test_CANARY");
    assert!(ran.exit == 2 && !ran.err.contains("CANARY"), "{ran:?}");
}

fn vendor(fields: &'static [&'static str]) -> Server {
    Server::always(move || Answer::ok(&json!({ "name": "demo", "state": "connected", "root_fields": fields })))
}

#[test]
fn a_root_credential_comes_from_a_file_standard_input_or_a_person() {
    let put = |stage: Stage, line: &str| {
        let server = vendor(&["api_key"]);
        let stage = stage.at(&server);
        let file = stage.file("root", &format!("{KEY}\n"));
        let ran = stage.run(&line.replace("FILE", &file));
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(!ran.out.contains("CANARY") && !ran.err.contains("CANARY"), "{ran:?}");
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.line(), "PUT /v1/vendors/demo/root-credential");
        seen.json()
    };
    let piped = Stage::piped(format!("{KEY}\n"));
    let plain = json!({ "fields": { "api_key": KEY }, "params": {} });
    assert_eq!(put(Stage::new(), "vendor connect demo --root-key-file FILE"), plain);
    assert_eq!(put(Stage::new(), "vendor connect demo --field api_key=@FILE"), plain);
    assert_eq!(put(piped, "vendor connect demo --root-key-file -"), plain);
    assert_eq!(
        put(Stage::at_terminal(&format!("{KEY}\n")), "vendor connect demo"),
        plain
    );
    let more = put(
        Stage::new(),
        "vendor connect demo --root-key-file FILE --param org=acme --base-url http://127.0.0.1:9/",
    );
    let expected =
        json!({ "fields": { "api_key": KEY }, "params": { "org": "acme" }, "base_url": "http://127.0.0.1:9/" });
    assert_eq!(more, expected);
}

#[test]
fn a_root_credential_on_the_command_line_is_refused_and_not_repeated() {
    let server = vendor(&["sid", "token"]);
    let stage = Stage::new().at(&server);
    let ran = stage.run("vendor connect demo --field sid=CANARY");
    assert!(
        ran.exit == 2 && !ran.err.contains("CANARY") && server.seen().is_empty(),
        "{ran:?}"
    );
    let file = stage.file("root", KEY);
    let ran = stage.run(&format!("vendor connect demo --root-key-file {file}"));
    assert!(ran.err.contains("--field sid=@FILE --field token=@FILE"), "{ran:?}");
    assert_eq!(server.lines(), ["GET /v1/vendors/demo"]);
    let ran = stage.run("vendor connect demo");
    assert_eq!(ran.exit, 2, "nobody can be asked: {ran:?}");
}

#[test]
fn unsealing_sends_what_it_was_given_to_the_admin_address() {
    let server = Server::always(|| Answer::ok(&json!({ "sealed": false, "mode": "test", "instance": "ins_1" })));
    let elsewhere = Server::always(|| Answer::ok(&Value::Null));
    let run = |stage: Stage, line: &str| {
        let mut stage = stage.at(&server);
        stage.set("DEKEYS_ADDR", &elsewhere.url());
        let file = stage.file("unseal", "six random words here\n");
        let ran = stage.run(&line.replace("FILE", &file));
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(!ran.out.contains("words") && !ran.err.contains("words"), "{ran:?}");
        server.seen().pop().unwrap().json()
    };
    let passphrase = json!({ "passphrase": "six random words here" });
    assert_eq!(run(Stage::new(), "unseal --passphrase-file FILE"), passphrase);
    assert_eq!(run(Stage::at_terminal("six random words here\n"), "unseal"), passphrase);
    assert_eq!(
        run(Stage::new(), "unseal --unseal-key-file FILE"),
        json!({ "key": "six random words here" })
    );
    assert!(elsewhere.seen().is_empty());
    assert_eq!(Stage::new().at(&server).run("unseal").exit, 2);
}

#[test]
fn a_key_file_is_for_its_owner_and_is_never_overwritten() {
    let stage = Stage::new();
    let path = stage.path("ada.key");
    let ran = stage.run(&format!("key new {} --name ada", path.display()));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(
        ran.out.starts_with("ed25519:") && ran.out.lines().count() == 1,
        "{ran:?}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(before.starts_with("# ada\ndekeys-key-1 ed25519 "));
    let again = stage.run(&format!("key new {}", path.display()));
    assert!(
        again.exit == 1 && again.err.contains("exists already and is not overwritten"),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert_eq!(stage.run(&format!("key public {}", path.display())).out, ran.out);
    assert!(!ran.out.contains(before.trim().rsplit(' ').next().unwrap()));
    let other = stage.run(&format!("key new {}", stage.path("b.key").display()));
    assert_ne!(other.out, ran.out);
}

#[test]
fn a_new_instance_needs_a_quorum_that_can_be_reached() {
    let stage = Stage::new();
    let data = stage.path("data").display().to_string();
    let unseal = stage.path("unseal.key").display().to_string();
    let base = format!("init --mode test --operator ada --data-dir {data} --unseal-key-file {unseal}");
    let key = "ed25519:Qk7wZ0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for more in [
        format!("--operator-key {key}"),
        format!("--operator-key {key} --approver grace={key} --quorum 2"),
        format!("--operator-key {key} --solo --quorum 0"),
        format!("--operator-key {key} --approver Grace={key}"),
        "--solo".to_owned(),
    ] {
        let ran = stage.run(&format!("{base} {more}"));
        assert_eq!(ran.exit, 2, "{more}: {ran:?}");
        assert!(!std::path::Path::new(&unseal).exists(), "{more}: nothing was made");
    }
}
