//! Outgoing calls: what may be called at all, and that a key never follows a redirect.
#![cfg(test)]

use std::net::{IpAddr, SocketAddr};

use dekeys::base::egress::{Egress, EgressError, Origin, Outgoing, Reach, is_public, vet_answers};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

const LIVE: Reach = Reach::Global {
    private_allowed: Vec::new(),
};

/// Cases that do not apply to this client: a name server that changes its answer is out of reach here, because the
/// client resolves once and dials what it vetted.
const OUT_OF_SCOPE: [&str; 1] = ["egress-122"];

fn cases() -> Option<Vec<Value>> {
    let folder = super::skip::folder("DEKEYS_VECTORS", "our hostile addresses")?;
    let text = std::fs::read_to_string(folder.join("own/egress.jsonl")).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Whether a URL may be called with a key that is for `allowed` only.
fn admitted(egress: &Egress, text: &str, allowed: &[Value]) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let origin = Origin::of(&url);
    let listed = allowed.iter().map(|entry| Url::parse(entry.as_str().unwrap()).unwrap());
    egress.check(&url).is_ok() && listed.into_iter().any(|entry| Origin::of(&entry) == origin)
}

#[tokio::test]
async fn vectors() {
    let Some(cases) = cases() else { return };
    let egress = Egress::new(LIVE).unwrap();
    let (mut run, mut skipped) = (0, Vec::new());
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        if OUT_OF_SCOPE.contains(&id) {
            skipped.push(id);
            continue;
        }
        run += 1;
        match case["kind"].as_str().unwrap() {
            "ip" => {
                let public = case["value"].as_str().unwrap().parse::<IpAddr>().is_ok_and(is_public);
                assert_eq!(public, case["expect"] == "allow", "{case}");
            }
            "url" => {
                let allowed = case["allowlist"].as_array().unwrap();
                let text = case["value"].as_str().unwrap();
                assert_eq!(admitted(&egress, text, allowed), case["expect"] == "allow", "{case}");
                // The same attack over https, where the scheme alone does not refuse it. Two of the hosts are the
                // allowed one once parsed.
                let https = text.replacen("http:", "https:", 1);
                let really_allowed = ["egress-080", "egress-116", "egress-111", "egress-112"].contains(&id);
                assert_eq!(admitted(&egress, &https, allowed), really_allowed, "over https: {case}");
            }
            "dns" => dns(case),
            "redirect" => redirect(case).await,
            other => panic!("unknown kind {other}"),
        }
    }
    assert_eq!(skipped, OUT_OF_SCOPE);
    assert!(run >= 100, "only {run} cases were found");
}

fn dns(case: &Value) {
    let answers = case["answers"].as_array().unwrap().iter();
    let answers: Vec<SocketAddr> = answers
        .map(|ip| SocketAddr::new(ip.as_str().unwrap().parse().unwrap(), 0))
        .collect();
    let verdict = vet_answers(&LIVE, answers.clone());
    match case["expect"].as_str().unwrap() {
        "allow" => assert_eq!(verdict, Ok(answers), "{case}"),
        "block" => assert!(matches!(verdict, Err(EgressError::Refused { .. })), "{case}"),
        "error" => assert_eq!(verdict, Err(EgressError::Connect), "{case}"),
        other => panic!("unknown expectation {other}"),
    }
}

/// A server that answers every request with `reply` and keeps what it was sent.
async fn server(
    reply: String,
) -> (
    SocketAddr,
    tokio::task::JoinHandle<Vec<String>>,
    tokio::sync::oneshot::Sender<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let (mut stream, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                _ = &mut stopped => return seen,
            };
            let mut buffer = vec![0; 8192];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            seen.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            let _sent = stream.write_all(reply.as_bytes()).await;
        }
    });
    (address, task, stop)
}

fn with_key(address: SocketAddr) -> Outgoing {
    let mut outgoing = Outgoing::new(http::Method::POST, format!("http://{address}/first").parse().unwrap());
    outgoing.headers.insert("x-api-key", "the-key".parse().unwrap());
    outgoing
        .headers
        .insert("authorization", "Bearer the-key".parse().unwrap());
    outgoing.body = b"key=the-key".to_vec();
    outgoing
}

/// The location as given, which is not followed; then the same to a server that listens, so that following would show.
async fn redirect(case: &Value) {
    let status = case["status"].as_u64().unwrap();
    let (other, other_task, other_stop) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    for location in [
        case["location"].as_str().unwrap().to_owned(),
        format!("http://{other}/stolen"),
    ] {
        let reply =
            format!("HTTP/1.1 {status} x\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let (address, task, stop) = server(reply).await;
        let incoming = Egress::new(Reach::Loopback)
            .unwrap()
            .send(with_key(address))
            .await
            .unwrap();
        stop.send(()).unwrap();
        let seen = task.await.unwrap();
        assert_eq!((u64::from(incoming.status), seen.len()), (status, 1), "{case}");
        assert!(seen[0].contains("the-key"), "the first host gets the key");
    }
    other_stop.send(()).unwrap();
    assert_eq!(other_task.await.unwrap(), Vec::<String>::new(), "{case}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_an_answer_and_the_key_stays() {
    for status in [301, 302, 303, 307, 308] {
        redirect(&serde_json::json!({ "status": status, "location": "/other" })).await;
    }
}

#[tokio::test]
async fn a_live_instance_reaches_no_loopback_by_name_or_address() {
    let egress = Egress::new(LIVE).unwrap();
    for target in [
        "https://localhost:1/",
        "https://127.0.0.1:1/",
        "https://[::1]:1/",
        "https://0x7f000001:1/",
    ] {
        let error = egress
            .send(Outgoing::new(http::Method::GET, target.parse().unwrap()))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, EgressError::Refused { .. }) && !error.sent(),
            "{target}: {error:?}"
        );
    }
}

#[tokio::test]
async fn errors_tell_whether_the_request_may_have_been_seen() {
    let egress = Egress::new(Reach::Loopback).unwrap();
    // Nobody listens on a port that was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = egress.send(with_key(closed)).await.err().unwrap();
    assert!(error == EgressError::Connect && !error.sent());

    let (silent, task, stop) = server(String::new()).await;
    let error = egress.send(with_key(silent)).await.err().unwrap();
    assert!(matches!(error, EgressError::Broken { sent: true, .. }), "{error:?}");
    stop.send(()).unwrap();
    assert_eq!(task.await.unwrap().len(), 1, "a request is never repeated");

    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut outgoing = with_key(hanging.local_addr().unwrap());
    outgoing.timeout = std::time::Duration::from_millis(50);
    assert_eq!(
        egress.send(outgoing).await.err(),
        Some(EgressError::Timeout { sent: true })
    );
}

#[tokio::test]
async fn long_answers_are_cut_off_whether_they_say_their_length_or_not() {
    let egress = Egress::new(Reach::Loopback).unwrap();
    let long = "a".repeat(2000);
    for head in ["content-length: 2000\r\n", ""] {
        let (address, _task, _stop) = server(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{head}\r\n{long}")).await;
        let mut outgoing = with_key(address);
        outgoing.max_body = 1999;
        assert_eq!(
            egress.send(outgoing).await.err(),
            Some(EgressError::TooLarge { limit: 1999 })
        );
        let mut outgoing = with_key(address);
        outgoing.max_body = 2000;
        assert_eq!(egress.send(outgoing).await.unwrap().body.len(), 2000);
    }
}
