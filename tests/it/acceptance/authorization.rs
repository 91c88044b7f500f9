//! Who may do what: every operation by every kind of caller, against a checked-in table; and no proof counts twice.

use std::fmt::Write as _;

use dekeys::base::random::{OsRandom, bytes};
use dekeys::base::time::{Clock, SystemClock};
use dekeys::client::{Address, prepare};
use dekeys::operations::{Method, Operation, Who, operations};

use super::scene::{CALLERS, Scene};
use crate::support::session::plain_http;

const TABLE: &str = include_str!("authorization.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_every_caller_as_the_table_says() {
    let scene = Scene::new().await;
    let mut seen = String::from(
        "# What each kind of caller is answered for a request that is good otherwise. A new operation needs a line here.\n",
    );
    writeln!(seen, "# {:<20} {}", "operation", CALLERS.join(" ")).unwrap();
    // What ends the server's work comes last.
    let (last, others): (Vec<_>, Vec<_>) = operations().partition(|operation| operation.id == "seal");
    for operation in others.into_iter().chain(last) {
        let mut statuses = Vec::new();
        for caller in CALLERS {
            statuses.push(scene.ask(operation, caller).await.status);
        }
        fits(operation, &statuses);
        let cells: Vec<String> = statuses.iter().map(ToString::to_string).collect();
        writeln!(seen, "{:<22} {}", operation.id, cells.join(" ")).unwrap();
    }
    assert!(
        seen == TABLE,
        "the answers differ from tests/it/acceptance/authorization.txt:\n{seen}"
    );
    scene.app.stop().await;
}

/// What follows from the table "Who proves what", whatever the checked-in numbers are.
#[track_caller]
fn fits(operation: &Operation, statuses: &[u16]) {
    let out = |status: u16| matches!(status, 401 | 403 | 404);
    let may = |caller: &str| match operation.who {
        Who::Anyone | Who::Buyer | Who::Admin => true,
        Who::Holder => matches!(caller, "agent" | "operator"),
        Who::Prim => caller == "prim",
        Who::PrimOrOperator => matches!(caller, "prim" | "operator" | "agent"),
        Who::Signer => caller != "nobody",
        Who::Principal => !matches!(caller, "nobody" | "unknown"),
        Who::Person => matches!(caller, "human" | "operator"),
        Who::Operator => caller == "operator",
    };
    for (caller, status) in CALLERS.iter().zip(statuses) {
        assert!(*status < 500, "{} for {caller}: {status}", operation.id);
        // A list shows strangers and others an empty page of their own.
        let own_list = operation.who == Who::Holder
            && ["listGrants", "followEvents"].contains(&operation.id)
            && *caller != "nobody";
        assert!(
            may(caller) || own_list || out(*status),
            "{} for {caller}: {status}",
            operation.id
        );
    }
    let someone = CALLERS
        .iter()
        .zip(statuses)
        .any(|(caller, status)| may(caller) && !out(*status));
    assert!(someone, "{}: nobody may do it: {statuses:?}", operation.id);
}

/// Operations that change nothing: asking twice is harmless.
const HARMLESS: [&str; 5] = [
    "explainPolicy",
    "introspectToken",
    "testVendor",
    "validatePolicy",
    "verifyAudit",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_request_has_its_effect_once() {
    let scene = Scene::new().await;
    let mut replayed = Vec::new();
    let acts = operations().filter(|operation| operation.method != Method::Get);
    let acts = acts.filter(|operation| !HARMLESS.contains(&operation.id) && !operation.admin);
    for operation in acts {
        for caller in ["operator", "agent", "human", "prim"] {
            let request = scene.request(operation, caller).await;
            let address: Address = scene.url(operation).parse().unwrap();
            let nonce = data_encoding::BASE64URL_NOPAD.encode(&bytes::<18>(&OsRandom));
            let now = SystemClock::default().now();
            let prepared = prepare(&request, &address, scene.key(caller), None, now, &nonce).unwrap();
            let send = async || {
                let request = plain_http()
                    .request(request.method.clone(), prepared.url.clone())
                    .headers(prepared.headers.clone())
                    .body(request.body().to_vec());
                let answer = request.send().await.unwrap();
                (answer.status().as_u16(), answer.text().await.unwrap())
            };
            let (first, _) = send().await;
            let (second, body) = send().await;
            if (200..300).contains(&first) {
                // The effect is refused, or there is nothing left to be done and nothing secret is said.
                let over = matches!(second, 401 | 409 | 410) || (second == 200 && operation.id.starts_with("revoke"));
                assert!(over, "{} by {caller}: {first}, then {second} {body}", operation.id);
                assert!(!body.contains("api_key") && !body.contains("dkt_test_"), "{body}");
                replayed.push(operation.id);
                break;
            }
            // Without effect nothing was claimed: the same is said again.
            assert_eq!(first, second, "{} by {caller}: {body}", operation.id);
        }
    }
    for id in [
        "resolve",
        "createPrincipal",
        "freshToken",
        "revokeLease",
        "revokeToken",
        "reportLease",
        "proposePolicy",
        "reviewApproval",
        "openSession",
    ] {
        assert!(replayed.contains(&id), "{id} was never tried: {replayed:?}");
    }
    scene.app.stop().await;
}
