//! Vendors that behave badly: what they do is bounded in time and memory, and ends as an answer or a cut.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::{Asked, Piece, answer, chunk, chunked, ok};
use super::scene::{KEY, MANIFEST, Scene};

async fn impatient() -> Scene {
    Scene::with("15m", MANIFEST, |config| {
        config.limits.forward_timeout = dekeys::base::time::Ttl::from_secs(2);
        config.limits.forward_idle = dekeys::base::time::Ttl::from_secs(1);
    })
    .await
}

fn bytes(text: &str) -> Piece {
    Piece::Bytes(text.as_bytes().to_vec())
}

#[tokio::test]
async fn what_is_no_answer_becomes_a_problem() {
    let scene = impatient().await;
    let token = scene.bearer().await;
    let many: String = (0..10_000)
        .map(|n| format!("X-{n}: a\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let scripts: Vec<(&str, Vec<Piece>)> = vec![
        ("10,000 headers", vec![answer(200, &many, b"{}")]),
        (
            "status 100 forever",
            vec![Piece::Forever(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())],
        ),
        (
            "negative content-length",
            vec![bytes("HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\nhello")],
        ),
        ("no answer", vec![Piece::Hang]),
        ("RST after headers", vec![Piece::Close]),
        ("not HTTP", vec![bytes("SSH-2.0-OpenSSH\r\n\r\n"), Piece::Close]),
        (
            "101 unasked",
            vec![bytes("HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")],
        ),
        (
            "packed in brotli",
            vec![answer(200, "Content-Encoding: br\r\n", b"xxxx")],
        ),
    ];
    for (what, pieces) in scripts {
        let pieces = std::sync::Mutex::new(Some(pieces));
        scene
            .vendor
            .answers(move |_: &Asked| pieces.lock().unwrap().take().unwrap_or_default());
        let raw = scene.get("GET", "/v1/messages", &token, "").await;
        assert!((502..505).contains(&raw.status()), "{what}: {}", raw.text());
        assert!(
            raw.text().contains("application/problem+json") && !raw.text().contains(KEY),
            "{what}"
        );
    }
    scene.app.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_not_ended() {
    let scene = impatient().await;
    let token = scene.bearer().await;
    let scripts: Vec<(&str, Vec<Piece>)> = vec![
        ("slow body", vec![chunked(""), chunk(b"{"), Piece::Hang]),
        (
            "chunk size overflow",
            vec![chunked(""), bytes("fffffffffffffffff\r\nx\r\n")],
        ),
        ("cut mid body", vec![chunked(""), chunk(b"{"), Piece::Close]),
        (
            "shorter than said",
            vec![bytes("HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\nhello"), Piece::Close],
        ),
        (
            "broken gzip",
            vec![answer(200, "Content-Encoding: gzip\r\n", b"this is not gzip at all")],
        ),
    ];
    for (what, pieces) in scripts {
        let pieces = std::sync::Mutex::new(Some(pieces));
        scene
            .vendor
            .answers(move |_: &Asked| pieces.lock().unwrap().take().unwrap_or_default());
        let raw = scene.get("GET", "/v1/messages", &token, "").await;
        // Cut before its head was flushed, or after.
        assert!(matches!(raw.status(), 0 | 200), "{what}: {}", raw.text());
        assert!(
            !raw.text().ends_with("0\r\n\r\n") && !raw.text().ends_with("x".repeat(50).as_str()),
            "{what}"
        );
    }
    // More than was said is not this answer's.
    scene.vendor.answers(|_| {
        vec![bytes(
            "HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 X\r\n\r\nsmuggled",
        )]
    });
    let raw = scene.get("GET", "/v1/messages", &token, "").await;
    assert!(
        raw.text().ends_with("{}") && !raw.text().contains("smuggled"),
        "{}",
        raw.text()
    );
    scene.app.stop().await;
}

/// Reads so many bytes, then goes away.
async fn sip(scene: &Scene, token: &str, most: usize) -> usize {
    let address = scene.app.stage.server.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /p/acme/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut piece) = (0, vec![0u8; 64 * 1024]);
    while read < most {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => read += count,
            _ => break,
        }
    }
    read
}

#[tokio::test]
async fn endless_and_packed_answers_are_handed_on_as_they_come() {
    let mut scene = Scene::new().await;
    let token = scene.bearer().await;
    scene
        .vendor
        .answers(|_| vec![bytes("HTTP/1.1 200 X\r\n\r\n"), Piece::Forever(vec![b'a'; 64 * 1024])]);
    assert!(sip(&scene, &token, 50 << 20).await >= 50 << 20);
    // The caller went away, so does the vendor's side.
    scene.vendor.gone().await;
    scene.vendor.answers(|_| {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0u8; 64 << 20]).unwrap();
        vec![answer(200, "Content-Encoding: gzip\r\n", &encoder.finish().unwrap())]
    });
    assert!(
        sip(&scene, &token, 64 << 20).await >= 64 << 20,
        "a bomb is unpacked piece by piece"
    );
    scene.vendor.answers(|_| vec![ok("{}")]);
    assert_eq!(scene.get("GET", "/v1/messages", &token, "").await.status(), 200);
    scene.app.stop().await;
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere_else() {
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    for status in [301, 302, 303, 307, 308] {
        for place in [
            "https://evil.test/",
            "//evil.test/",
            "http://127.0.0.1:1/",
            "https://api.vendor.test@evil.test/",
        ] {
            scene.vendor.forget();
            scene
                .vendor
                .answers(move |_| vec![answer(status, &format!("Location: {place}\r\n"), b"")]);
            let raw = scene.get("GET", "/v1/messages", &token, "").await;
            assert_eq!(raw.status(), status, "{place}");
            assert!(!raw.text().to_lowercase().contains("location:"), "{}", raw.text());
            assert_eq!(scene.vendor.asked().len(), 1, "not followed");
        }
        scene
            .vendor
            .answers(move |_| vec![answer(status, "Location: /other?a=1\r\n", b"")]);
        let raw = scene.get("GET", "/v1/messages", &token, "").await;
        assert!(raw.text().contains("location: /p/acme/other?a=1"), "{}", raw.text());
    }
    scene.app.stop().await;
}

#[tokio::test]
async fn a_request_that_ends_in_two_places_is_refused_and_its_connection_closed() {
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ] {
        let request = format!(
            "POST /p/acme/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{fields}\r\n\
             0\r\n\r\nGET /p/acme/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let raw = scene.raw(request.as_bytes()).await;
        assert_eq!(raw.status(), 400, "{fields}");
        assert_eq!(raw.text().matches("HTTP/1.1").count(), 1, "{}", raw.text());
        assert!(scene.vendor.asked().is_empty(), "{fields}");
    }
    scene.app.stop().await;
}
