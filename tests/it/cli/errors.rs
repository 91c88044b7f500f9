//! What goes wrong, as it is told: what, why, what to do, which request; and the exit code.

use serde_json::{Value, json};

use super::stage::{Answer, Server, Stage, id};

/// One mistake: the answer, the exit code, and what is printed.
struct Mistake {
    answer: fn() -> Answer,
    exit: u8,
    told: &'static str,
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        answer: || {
            let why = "Stored keys cannot be used until a key holder unseals it.";
            Answer::problem(503, "vault_sealed", "The vault is sealed", why, "dekeys unseal")
        },
        exit: 8,
        told: "error: the vault is sealed [vault_sealed]\n    Stored keys cannot be used until a key holder unseals it.\n    \
            fix: dekeys unseal\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let why = "It is well formed, but not this vault's.";
            Answer::problem(
                400,
                "unseal_key_invalid",
                "That unseal key is wrong",
                why,
                "look for the other one",
            )
        },
        exit: 1,
        told: "error: that unseal key is wrong [unseal_key_invalid]\n    It is well formed, but not this vault's.\n    \
            fix: look for the other one\n    request req_1\n",
    },
    Mistake {
        answer: || Answer::problem(401, "invalid_token", "The token is not valid", "", "dekeys grant token"),
        exit: 4,
        told: "error: the token is not valid [invalid_token]\n    fix: dekeys grant token\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let why = "Block 1 allows less.";
            Answer::problem(
                403,
                "insufficient_scope",
                "This token may not do that",
                why,
                "use a wider one",
            )
        },
        exit: 5,
        told: "error: this token may not do that [insufficient_scope]\n    Block 1 allows less.\n    \
            fix: use a wider one\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let title = "No root credential for vendor `stripe`";
            Answer::problem(502, "vendor_not_connected", title, "", "dekeys vendor connect stripe")
        },
        exit: 1,
        told: "error: no root credential for vendor `stripe` [vendor_not_connected]\n    \
            fix: dekeys vendor connect stripe\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let title = "No approved policy covers this for you";
            Answer::problem(403, "policy_not_approved", title, "v3 allows chat:write.", "ask for it")
        },
        exit: 7,
        told: "error: no approved policy covers this for you [policy_not_approved]\n    v3 allows chat:write.\n    \
            fix: ask for it\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let why = "5000, the price is 10000. Nothing was charged.";
            Answer::problem(
                402,
                "payment_invalid",
                "The payment is too low",
                why,
                "sign again for 10000",
            )
        },
        exit: 6,
        told: "error: the payment is too low [payment_invalid]\n    5000, the price is 10000. Nothing was charged.\n    \
            fix: sign again for 10000\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let title = "We do not know yet whether the payment went through";
            Answer::problem(
                202,
                "payment_unknown",
                title,
                "DO NOT sign again.",
                "repeat the request",
            )
            .with("retry-after", "5")
        },
        exit: 10,
        told: "error: we do not know yet whether the payment went through [payment_unknown]\n    DO NOT sign again.\n    \
            Try again in 5 s.\n    fix: repeat the request\n    request req_1\n",
    },
    Mistake {
        answer: || {
            Answer::problem(
                401,
                "clock_skew",
                "The clocks differ by 94 s",
                "",
                "timedatectl set-ntp true",
            )
        },
        exit: 4,
        told: "error: the clocks differ by 94 s [clock_skew]\n    fix: timedatectl set-ntp true\n    request req_1\n",
    },
    Mistake {
        answer: || {
            let title = "The request changed while you were reading";
            Answer::problem(
                412,
                "digest_mismatch",
                title,
                "It is another now.",
                "dekeys approval show",
            )
        },
        exit: 9,
        told: "error: the request changed while you were reading [digest_mismatch]\n    It is another now.\n    \
            fix: dekeys approval show\n    request req_1\n",
    },
    Mistake {
        answer: || {
            Answer::problem(
                429,
                "rate_limited",
                "Slow down",
                "60 a minute.",
                "keep the key for its lease",
            )
            .with("retry-after", "12")
        },
        exit: 10,
        told: "error: slow down [rate_limited]\n    60 a minute.\n    Try again in 12 s.\n    \
            fix: keep the key for its lease\n    request req_1\n",
    },
    Mistake {
        answer: || Answer::problem(404, "not_found", "There is no such lease", "", "dekeys lease ls"),
        exit: 3,
        told: "error: there is no such lease [not_found]\n    fix: dekeys lease ls\n    request req_1\n",
    },
];

#[test]
fn problems_are_told_in_one_form_with_their_exit_codes() {
    for mistake in MISTAKES {
        let server = Server::always(mistake.answer);
        let ran = Stage::new().at(&server).run("grant ls");
        assert_eq!(
            (ran.err.as_str(), ran.exit, ran.out.as_str()),
            (mistake.told, mistake.exit, "")
        );
    }
}

#[test]
fn with_json_the_problem_is_on_standard_error_unchanged() {
    let server =
        Server::always(|| Answer::problem(503, "vault_sealed", "The vault is sealed", "Why.", "dekeys unseal"));
    let ran = Stage::new().at(&server).run("grant ls --json");
    let told: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(
        (told["code"].as_str(), told["request_id"].as_str()),
        (Some("vault_sealed"), Some("req_1"))
    );
    assert_eq!((ran.exit, ran.out.as_str()), (8, ""));
}

#[test]
fn an_error_of_somebody_else_cannot_move_the_terminal() {
    let server = Server::always(|| Answer::problem(500, "internal", "A\u{1b}[2Jb", "c\rd\u{202e}e", "f\u{7}"));
    let ran = Stage::new().at(&server).run("grant ls");
    let controls = |letter: char| letter != '\n' && (letter.is_control() || letter == '\u{202e}');
    assert!(!ran.err.contains(controls), "{ran:?}");
    assert!(
        ran.err.contains(r"A\u{1b}[2Jb") && ran.err.contains(r"\u{202e}"),
        "{ran:?}"
    );
}

#[test]
fn nobody_there_is_a_reason_to_try_later() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ran = Stage::new().run(&format!("grant ls --addr http://{free}"));
    assert_eq!(ran.exit, 10);
    assert!(
        ran.err
            .starts_with(&format!("error: nothing answers at http://{free} [unreachable]\n")),
        "{ran:?}"
    );
    assert!(ran.err.contains("fix: start it: dekeys serve"), "{ran:?}");
}

#[test]
fn somebody_else_there_is_not_taken_for_dekeys() {
    for (status, body) in [(200, "<html>"), (404, "<html>nothing</html>"), (302, "")] {
        let server = Server::always(move || Answer {
            status,
            headers: vec![
                ("content-type", "text/html".to_owned()),
                ("location", "/elsewhere".to_owned()),
            ],
            body: body.to_owned(),
        });
        let ran = Stage::new().at(&server).run("grant ls");
        assert_eq!((ran.exit, ran.out.as_str()), (1, ""));
        assert!(
            ran.err
                .contains(&format!("answered {status}, but not as dekeys does [not_dekeys]")),
            "{ran:?}"
        );
        assert_eq!(server.lines(), ["GET /v1/grants"], "redirects are not followed");
    }
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let ran = Stage::new().run("grant ls --addr 127.0.0.1:8402");
    assert_eq!(ran.exit, 2);
    assert!(ran.err.contains("`127.0.0.1:8402` is not an address"), "{ran:?}");
}

#[test]
fn a_policy_file_is_told_where_it_is_wrong() {
    let server = Server::always(|| {
        let mut answer = Answer::problem(422, "policy_invalid", "The policy is not valid", "", "correct it");
        let mut body: Value = serde_json::from_str(&answer.body).unwrap();
        body["errors"] = json!([{ "pointer": "/grant/max_tll", "message": "line 7, column 1: unknown key `max_tll`" }]);
        answer.body = body.to_string();
        answer
    });
    let stage = Stage::new().at(&server);
    let file = stage.file("p.toml", "name = \"p\"\n");
    let ran = stage.run(&format!("policy validate {file}"));
    assert_eq!(ran.exit, 2);
    assert!(
        ran.err.contains(&format!("    {file}:7:1: unknown key `max_tll`\n")),
        "{ran:?}"
    );
}

#[test]
fn what_a_vendor_has_not_confirmed_is_no_success() {
    let lease = id("lea", '3');
    let ended = json!({ "id": lease, "object": "lease", "state": "revoking", "credentials": 1, "confirmed": false });
    let server = Server::always(move || Answer::ok(&ended));
    let ran = Stage::new().at(&server).run(&format!("lease revoke {lease} --yes"));
    assert_eq!(ran.exit, 10);
    assert!(
        ran.err.contains("[revocation_failed]") && ran.out.contains("revoking"),
        "{ran:?}"
    );
}

#[test]
fn colour_is_for_terminals_and_can_be_refused() {
    let server = Server::always(|| Answer::problem(404, "not_found", "No", "", ""));
    let coloured = |line: &str, env: &[(&str, &str)]| {
        let mut stage = Stage::new().at(&server);
        stage.terminal.stderr = true;
        for (name, value) in env {
            stage.set(name, value);
        }
        stage.run(line).err.contains('\u{1b}')
    };
    assert!(coloured("grant ls", &[]));
    assert!(coloured("grant ls --color always", &[("NO_COLOR", "1")]));
    assert!(!coloured("grant ls", &[("NO_COLOR", "1")]));
    assert!(!coloured("grant ls", &[("TERM", "dumb")]));
    assert!(!coloured("grant ls --color never", &[]));
    assert!(!coloured("grant ls --json --color always", &[]));
}

#[test]
fn the_seal_status_decides_what_status_says() {
    let answers = |sealed: bool, ready: u16| {
        Server::start(move |seen, _| match seen.path.as_str() {
            "/v1/sys/seal-status" => Answer::ok(&json!({ "sealed": sealed, "mode": "test", "instance": "ins_1" })),
            "/readyz" => {
                let checks = json!([{ "name": "database", "ok": ready == 200, "detail": "does not answer" }]);
                Answer::json(ready, &json!({ "ready": ready == 200, "checks": checks }))
            }
            other => panic!("{other}"),
        })
    };
    let ran = Stage::new().at(&answers(true, 503)).run("status");
    assert_eq!(ran.exit, 8, "{ran:?}");
    let ran = Stage::new().at(&answers(false, 503)).run("status");
    assert_eq!(ran.exit, 10);
    assert!(ran.err.contains("    database: does not answer\n"), "{ran:?}");
    let ran = Stage::new().at(&answers(false, 200)).run("status --quiet");
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}
