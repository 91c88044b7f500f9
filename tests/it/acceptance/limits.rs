//! What a request may not be: too large, too deep, misspelt, or at no address. And hostile JSON of every kind.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::session::plain_http;
use crate::support::{READ, TestApp};

/// Status, problem code and detail of a raw `POST`.
async fn post(app: &TestApp, path: &str, body: impl Into<reqwest::Body>) -> (u16, String, String) {
    let url = format!("{}{path}", app.stage.server.url);
    let request = plain_http()
        .post(url)
        .header("content-type", "application/json")
        .body(body);
    told(request.send().await.unwrap()).await
}

async fn get(app: &TestApp, path: &str) -> (u16, String, String) {
    let url = format!("{}{path}", app.stage.server.url);
    told(plain_http().get(url).send().await.unwrap()).await
}

async fn told(answer: reqwest::Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    let json: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("detail"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_end_at_256_kib() {
    let app = TestApp::start().await;
    let head = format!(r#"{{"reference":"{READ}","reason":""#);
    let of_size = |size: usize| {
        let mut body = head.clone();
        body.push_str(&"x".repeat(size - head.len() - 2));
        body.push_str("\"}");
        assert_eq!(body.len(), size);
        body
    };
    let (status, code, _) = post(&app, "/v1/grants", of_size(256 * 1024)).await;
    assert_eq!((status, code.as_str()), (402, "payment_required"));
    let (status, code, _) = post(&app, "/v1/grants", of_size(256 * 1024 + 1)).await;
    assert_eq!((status, code.as_str()), (413, "body_too_large"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_ends_at_a_depth_of_32() {
    let app = TestApp::start().await;
    let of_depth = |depth: usize| {
        let inner = depth - 1;
        format!(r#"{{"references":{}{}}}"#, "[".repeat(inner), "]".repeat(inner))
    };
    let (status, code, detail) = post(&app, "/v1/grants", of_depth(33)).await;
    assert_eq!((status, code.as_str()), (400, "invalid_json"), "{detail}");
    assert!(detail.contains("32"), "{detail}");
    let (_, code, detail) = post(&app, "/v1/grants", of_depth(32)).await;
    assert_eq!(code, "invalid_request", "read, and of the wrong type: {detail}");
    let (status, code, _) = post(&app, "/v1/grants", "[".repeat(200_000)).await;
    assert_eq!((status, code.as_str()), (400, "invalid_json"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unknown_is_ignored_and_the_nearest_name_is_told() {
    let app = TestApp::start().await;
    let body = format!(r#"{{"reference":"{READ}","max_resolve":1}}"#);
    let (status, code, detail) = post(&app, "/v1/grants", body).await;
    assert_eq!((status, code.as_str()), (400, "unknown_field"));
    assert!(detail.contains("max_resolves"), "{detail}");
    let (status, code, detail) = get(&app, "/v1/grants?limt=3").await;
    assert_eq!((status, code.as_str()), (400, "unknown_parameter"));
    assert!(detail.contains("did you mean `limit`?"), "{detail}");
    let (status, code, _) = get(&app, "/v1/offers?vendor=demo").await;
    assert_eq!((status, code.as_str()), (400, "unknown_parameter"));
    let twice = format!(r#"{{"reference":"{READ}","reference":"{READ}"}}"#);
    let (status, code, detail) = post(&app, "/v1/grants", twice).await;
    assert!(matches!(status, 400 | 422) && !code.is_empty(), "{status} {detail}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_more_than_16_kib_is_refused() {
    let app = TestApp::start().await;
    let url = format!("{}/v1/offers", app.stage.server.url);
    let ask = async |size: usize| {
        let request = plain_http().get(&url).header("x-filler", "x".repeat(size));
        request.send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(ask(8 * 1024).await.unwrap(), 200);
    for size in [17 * 1024, 300 * 1024] {
        // Either it is told, or the connection is closed on what is still being sent.
        let answer = ask(size).await;
        assert!(!matches!(answer, Ok(status) if status != 431), "{size}: {answer:?}");
    }
    assert_eq!(ask(10).await.unwrap(), 200, "others are served as before");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_addresses_and_methods_are_problems_too() {
    let app = TestApp::start().await;
    for path in ["/", "/v1", "/v1/grant", "/v1/grants/", "/v1//offers", "/V1/offers"] {
        let (status, code, _) = get(&app, path).await;
        assert_eq!((status, code.as_str()), (404, "not_found"), "{path}");
    }
    let url = |path: &str| format!("{}{path}", app.stage.server.url);
    for (method, path) in [
        ("DELETE", "/v1/grants"),
        ("PUT", "/v1/resolve"),
        ("POST", "/healthz"),
        ("BREW", "/v1/offers"),
    ] {
        let request = plain_http().request(method.parse().unwrap(), url(path));
        let answer = request.send().await.unwrap();
        let allow = answer.headers().get("allow").cloned();
        let (status, code, _) = told(answer).await;
        assert_eq!((status, code.as_str()), (405, "method_not_allowed"), "{method} {path}");
        assert!(
            allow.is_some_and(|allow| !allow.is_empty()),
            "{method} {path}: no Allow"
        );
    }
    for path in [
        "/v1/grants/x",
        "/v1/grants/lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3",
        "/v1/receipts/%00",
    ] {
        let (status, ..) = get(&app, path).await;
        assert!(matches!(status, 401 | 404), "{path}: {status}");
    }
    // What only the admin address does is not there on the public one.
    let (status, ..) = post(&app, "/v1/sys/seal", "{}").await;
    assert_eq!(status, 404);
    let (status, ..) = post(&app, "/v1/sys/unseal", "{}").await;
    assert_eq!(status, 404);
    app.stop().await;
}

/// The public corpus of JSON texts: none makes the server fail, none that is no JSON is taken for some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_json_test_suite_is_survived() {
    let Some(vectors) = std::env::var_os("DEKEYS_VECTORS") else {
        let words = "SKIPPED the JSON test suite: DEKEYS_VECTORS is not set";
        std::io::Write::write_all(&mut std::io::stderr(), format!("{words}\n").as_bytes()).unwrap();
        return;
    };
    let folder = PathBuf::from(vectors).join("json/JSONTestSuite/test_parsing");
    let app = TestApp::start().await;
    let (mut complaints, mut count) = (String::new(), 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        count += 1;
        // Alone, and as the value of a field that takes any text.
        let inside = [format!(r#"{{"reference":"{READ}","reason":"#).as_bytes(), &bytes, b"}"].concat();
        for (way, body) in [("alone", bytes.clone()), ("inside", inside)] {
            let (status, code, _) = post(&app, "/v1/grants", body).await;
            let empty = bytes.is_empty() && way == "alone";
            let accepted = !matches!(status, 400 | 413 | 422) && !empty;
            let wrong = status >= 500 || code.is_empty() || (name.starts_with("n_") && accepted);
            if wrong {
                writeln!(complaints, "{name} {way}: {status} {code}").unwrap();
            }
        }
    }
    assert!(count > 300, "{count} files");
    assert!(complaints.is_empty(), "\n{complaints}");
    app.stop().await;
}
