//! The hostile corpora: every case behaves as it is listed, judged by what reaches the vendor and the caller.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::Value;

use super::raw::{Asked, Piece, answer, chunk, chunked, ok};
use super::scene::{KEY, Scene};
use crate::skip;

fn cases(file: &str) -> Vec<Value> {
    let Some(folder) = skip::folder("DEKEYS_VECTORS", &format!("own/{file}.jsonl")) else {
        return Vec::new();
    };
    let text = std::fs::read_to_string(folder.join(format!("own/{file}.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn no_path_or_method_leaves_the_scope() {
    let cases = cases("path_scope");
    if cases.is_empty() {
        return;
    }
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    for case in &cases {
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        let extra = case["headers"].as_object().into_iter().flatten();
        let extra: Vec<_> = extra
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        let fields: Vec<String> = extra
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let fields = fields.concat();
        scene.vendor.forget();
        let raw = scene.get(&text("method"), &text("path"), &token, &fields).await;
        let (asked, status) = (scene.vendor.asked(), raw.status());
        match text("expect").as_str() {
            "refuse" => assert!(
                asked.is_empty() && !(200..300).contains(&status),
                "{case} {asked:?} {}",
                raw.text()
            ),
            "allow" => {
                assert_eq!((status, asked.len()), (200, 1), "{case} {}", raw.text());
                let line = asked[0].line();
                assert!(line.contains(" /v1/messages") || line.contains(" /v1/files/"), "{line}");
            }
            "header stripped" => {
                assert_eq!((status, asked.len()), (200, 1), "{case}");
                assert!(
                    extra.iter().all(|(name, _)| asked[0].header(name).is_empty()),
                    "{case} {}",
                    asked[0].head
                );
            }
            other => panic!("{other}"),
        }
    }
    assert!(cases.len() > 50);
    scene.app.stop().await;
}

#[tokio::test]
async fn header_fields_of_a_caller_prove_and_move_nothing() {
    let cases = cases("proxy_vendor");
    if cases.is_empty() {
        return;
    }
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    let mut count = 0;
    for case in &cases {
        for (name, value) in case["req"].as_object().into_iter().flatten() {
            count += 1;
            scene.vendor.forget();
            let field = format!("{name}: {}\r\n", value.as_str().unwrap());
            let raw = scene.get("GET", "/v1/messages", &token, &field).await;
            let asked = scene.vendor.asked();
            if raw.status() != 200 {
                assert!(asked.is_empty(), "{case} {}", raw.text());
                continue;
            }
            assert_eq!(asked.len(), 1, "{case}");
            assert_eq!(asked[0].header("authorization"), [format!("Bearer {KEY}")], "{case}");
            assert_eq!(asked[0].header("host"), [scene.vendor.address.to_string()], "{case}");
            let own = ["authorization", "host"].contains(&name.to_lowercase().as_str());
            assert!(
                own || asked[0].header(name).is_empty() || name == "X-A",
                "{case} {}",
                asked[0].head
            );
            let clean = |byte: u8| byte >= b' ' || byte == b'\t';
            assert!(
                asked[0].header("x-a").iter().all(|value| value.bytes().all(clean)),
                "{case}"
            );
        }
    }
    assert!(count >= 20, "{count}");
    scene.app.stop().await;
}

fn json_escaped() -> String {
    let each: Vec<String> = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    each.concat()
}

fn packed(text: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// What a vendor says that sends the key back in this way, and whether the log must hear of it.
fn reflecting(how: &str) -> Option<(Vec<Piece>, bool)> {
    let body = |text: String| vec![ok(&text)];
    let header = |field: String| vec![answer(200, &format!("{field}\r\n"), b"{}")];
    let joined: String = KEY.chars().flat_map(|letter| [letter, '\u{200d}']).collect();
    let (one, other) = KEY.split_at(10);
    Some(match how {
        "body raw" => (body(format!("{{\"k\":\"{KEY}\"}}")), true),
        "body base64" => (body(BASE64.encode(format!("Bearer {KEY}").as_bytes())), true),
        "body base64url" => (body(BASE64URL_NOPAD.encode(KEY.as_bytes())), true),
        "body hex" => (body(HEXLOWER.encode(KEY.as_bytes())), true),
        "body JSON \\u escapes" => (body(format!("{{\"k\":\"{}\"}}", json_escaped())), true),
        "body split over two chunks" => (
            vec![chunked(""), chunk(one.as_bytes()), chunk(other.as_bytes()), chunk(b"")],
            true,
        ),
        "body split over 1-byte chunks" => {
            let mut pieces = vec![chunked("")];
            pieces.extend(KEY.bytes().map(|byte| chunk(&[byte])));
            pieces.push(chunk(b""));
            (pieces, true)
        }
        "body gzip" => (
            vec![answer(200, "Content-Encoding: gzip\r\n", &packed(KEY.as_bytes()))],
            true,
        ),
        "body zstd" => (
            vec![answer(200, "Content-Encoding: zstd\r\n", b"\x28\xb5\x2f\xfd\x20\x01")],
            true,
        ),
        "body reversed (documented limit)" => (body(KEY.chars().rev().collect()), true),
        "header X-Echo" => (header(format!("X-Echo: {KEY}")), true),
        "header Location query" => (header(format!("Location: /next?key={KEY}")), true),
        "header Set-Cookie" => (header(format!("Set-Cookie: k={KEY}")), false),
        "header WWW-Authenticate" => (header(format!("WWW-Authenticate: Bearer realm=\"{KEY}\"")), true),
        "SSE event" => (
            vec![
                chunked("Content-Type: text/event-stream\r\n"),
                chunk(format!("data: {KEY}\n\n").as_bytes()),
                chunk(b""),
            ],
            true,
        ),
        "multipart part" => (
            body(format!("--b\r\nContent-Type: text/plain\r\n\r\n{KEY}\r\n--b--")),
            true,
        ),
        "JSON key name" => (body(format!("{{\"{KEY}\":1}}")), true),
        "HTTP/1.1 103 early hints" => {
            let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{KEY}>\r\n\r\n").into_bytes();
            (vec![Piece::Bytes(hints), ok("{}")], false)
        }
        "error page 5xx" => (vec![answer(500, "", format!("<p>{KEY}</p>").as_bytes())], true),
        "key prefix 8 chars only" => (body(KEY.chars().take(8).collect()), false),
        "key uppercase" => (body(KEY.to_uppercase()), true),
        "key with zero-width joiner" => (body(joined), true),
        // Seen in sockets.rs, over a connection that changed its protocol.
        "websocket frame" => return None,
        other => panic!("no script for: {other}"),
    })
}

#[tokio::test]
async fn a_key_that_comes_back_does_not_reach_the_caller() {
    let cases = cases("proxy_vendor");
    if cases.is_empty() {
        return;
    }
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    let mut told = 0;
    for case in &cases {
        let how = case["vendor_reflects"]
            .as_str()
            .and_then(|words| words.strip_prefix("the injected key in "));
        let Some((_, loud)) = how.and_then(reflecting) else {
            continue;
        };
        let how = how.unwrap().to_owned();
        scene.vendor.answers(move |_: &Asked| reflecting(&how).unwrap().0);
        let raw = scene.get("GET", "/v1/messages", &token, "").await;
        let seen = raw.text().to_lowercase();
        for spelling in [
            KEY.to_owned(),
            BASE64.encode(KEY.as_bytes()),
            HEXLOWER.encode(KEY.as_bytes()),
            json_escaped(),
        ] {
            assert!(!seen.contains(&spelling.to_lowercase()), "{case} {seen}");
        }
        let back: String = KEY.chars().rev().collect();
        assert!(!seen.contains(&back.to_lowercase()), "{case}");
        assert!(raw.status() > 0, "{case}");
        told += usize::from(loud);
    }
    assert!(told >= 15, "{told}");
    crate::support::until("the events", async || {
        let reflected = scene.app.events("security.key_reflected").await.len();
        let refused = scene.app.events("request.answer_refused").await.len();
        (reflected + refused == told).then_some(())
    })
    .await;
    scene.app.stop().await;
}
