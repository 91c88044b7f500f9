//! The cases of `own/proxy_vendor.jsonl` that need a handshake to misbehave in: a certificate for another name, a
//! downgrade, HTTP/2 that goes away in the middle; and a facilitator of payments with such a certificate. The server is the
//! binary, which trusts the test's own authority.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use dekeys::client::Request;
use dekeys::config::Rail;
use dekeys::setup::stage::{PAY_TO, PRIM};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::vendor::{ROOT, manifest, users};
use crate::support::chain::Chain;
use crate::support::process::Process;
use crate::support::purse::{Wallet, terms};
use crate::support::{READ, TestApp, policy, priced, send, until};

/// How a vendor answers a connection.
#[derive(Clone)]
enum Manner {
    /// As it should, over TLS.
    Well,
    /// With a server's greeting of TLS 1.0.
    Downgraded,
    /// In plain HTTP.
    Plain,
    /// HTTP/2 that goes away once it was asked something, while this says so; then as it should.
    GoesAway(Arc<AtomicBool>),
}

/// What reached the vendor in the clear.
type Seen = Arc<Mutex<Vec<u8>>>;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        self.speaking(name, &["h2", "http/1.1"])
    }

    fn speaking(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn router() -> Router {
    let made = async |body: axum::Json<serde_json::Value>| {
        let key = json!({
            "id": "id_1", "name": body["name"], "key": "casekey-Zq8xQw3x00000000", "expires_at": body["expires_at"],
        });
        (StatusCode::CREATED, axum::Json(key))
    };
    Router::new()
        .route("/keys", get(async || axum::Json(json!({ "data": [] }))).post(made))
        .route("/keys/{id}", delete(async || StatusCode::NO_CONTENT))
        .route("/key", get(async || axum::Json(json!({}))))
}

/// A vendor; its address, and what it saw that was not encrypted.
async fn vendor(acceptor: TlsAcceptor, manner: Manner) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let keeping = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(
                stream,
                acceptor.clone(),
                manner.clone(),
                Arc::clone(&keeping),
            ));
        }
    });
    (format!("https://{address}"), seen)
}

async fn connection(mut stream: tokio::net::TcpStream, acceptor: TlsAcceptor, manner: Manner, seen: Seen) {
    let clear: Option<&[u8]> = match &manner {
        // A record with a ServerHello of version 3.1, and nothing that was asked for.
        Manner::Downgraded => Some(&[0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1]),
        Manner::Plain => Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        _ => None,
    };
    if let Some(clear) = clear {
        let mut bytes = vec![0u8; 4096];
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        seen.lock().unwrap().extend_from_slice(&bytes[..read]);
        let _sent = stream.write_all(clear).await;
        let _sent = stream.write_all(&[0x2A; 32]).await;
        let _sent = stream.write_all(&[0, 0, 0x2F, 0]).await;
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            seen.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
        return;
    }
    // A client that does not like the certificate ends it here.
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    if let Manner::GoesAway(away) = &manner
        && away.load(Ordering::SeqCst)
    {
        // SETTINGS; once the request is there GOAWAY, the last stream looked at being none.
        let _sent = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        let mut bytes = vec![0u8; 64 * 1024];
        let mut read = 0;
        while read < 200 {
            match stream.read(&mut bytes).await {
                Ok(more @ 1..) => read += more,
                _ => return,
            }
        }
        let _sent = stream
            .write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .await;
        let _flushed = stream.flush().await;
        return;
    }
    let service = hyper_util::service::TowerToHyperService::new(router());
    let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
    let _ended = builder
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_does_not_prove_its_name_gets_nothing() {
    let authority = Authority::new();
    let away = Arc::new(AtomicBool::new(true));
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    let mut saw = Vec::new();
    for (id, name, manner) in [
        ("tls-well", "127.0.0.1", Manner::Well),
        ("tls-other-name", "vendor.test", Manner::Well),
        ("tls-downgraded", "127.0.0.1", Manner::Downgraded),
        ("tls-plain", "127.0.0.1", Manner::Plain),
        ("tls-goes-away", "127.0.0.1", Manner::GoesAway(Arc::clone(&away))),
    ] {
        let (base, seen) = vendor(authority.acceptor(name), manner).await;
        let body = json!({ "fields": { "key": ROOT }, "base_url": base, "manifest": manifest(id) });
        let request = Request::put(&["v1", "vendors", id, "root-credential"]).json(&body);
        send(&app.operator(), request).await.good();
        app.stage.put_in_force(&users(id)).await.unwrap();
        saw.push((id, seen));
    }
    let trusted = app.stage.data_dir.join("authority.pem");
    std::fs::write(&trusted, authority.0.pem()).unwrap();
    let process = Process::of(app, &[("SSL_CERT_FILE", trusted.to_str().unwrap())]).await;
    let agent = process.client(Some(&process.cast.agent));
    let states = async |id: &str| -> Vec<String> {
        let list = Request::get(&["v1", "credentials"]).query("limit", Some(100));
        let list = send(&process.operator(), list).await.good();
        let of = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["vendor"] == id);
        of.map(|one| one["state"].as_str().unwrap().to_owned()).collect()
    };
    for (id, seen) in &saw {
        let good = *id == "tls-well";
        let tested = send(&process.operator(), Request::post(&["v1", "vendors", id, "test"])).await;
        assert_eq!(tested.json["ok"], good, "{id} {}", tested.json);
        let body = json!({ "reference": format!("dk://{id}/messages:write"), "ttl": "10m" });
        let bought = send(&agent, Request::post(&["v1", "grants"]).json(&body)).await;
        let expected: &[u16] = if good { &[201] } else { &[502, 503] };
        assert!(expected.contains(&bought.status), "{id} {}", bought.json);
        away.store(false, Ordering::SeqCst);
        let last = if good { "active" } else { "failed" };
        until(&format!("the end of {id}"), async || {
            let states = states(id).await;
            (states == [last]).then_some(())
        })
        .await;
        away.store(true, Ordering::SeqCst);
        let clear = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
        assert!(!clear.contains(ROOT) && !clear.contains("/keys"), "{id}: {clear}");
    }
    assert!(!process.logs().contains(ROOT) && !process.logs().contains("casekey-"));
}

/// What is said behind TLS is handed on in the clear to `to`. Answers the address.
async fn relay(acceptor: TlsAcceptor, to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut behind = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                }
            });
        }
    });
    format!("https://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_facilitator_that_does_not_prove_its_name_is_shown_no_payment() {
    let authority = Authority::new();
    for (name, proved) in [("facilitator.test", false), ("127.0.0.1", true)] {
        let chain = Chain::start().await;
        let behind = chain.url.trim_start_matches("http://").to_owned();
        let url = relay(authority.speaking(name, &["http/1.1"]), behind).await;
        let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
            config.payment.rail = Rail::Http;
            config.payment.facilitator_url = Some(format!("{url}/x402").parse().unwrap());
            config.payment.rpc_url = Some(format!("{}/rpc", chain.url).parse().unwrap());
        })
        .await;
        let trusted = app.stage.data_dir.join("authority.pem");
        std::fs::write(&trusted, authority.0.pem()).unwrap();
        let process = Process::of(app, &[("SSL_CERT_FILE", trusted.to_str().unwrap())]).await;
        let body = json!({ "reference": READ, "ttl": "10m", "public_key": process.cast.agent.public() });
        let buy = || Request::post(&["v1", "grants"]).json(&body);
        let asked = send(&process.anyone(), buy()).await;
        let header = Wallet::new().sign(&terms(&asked));
        let bought = send(&process.anyone(), buy().header("payment-signature", &header)).await;
        if proved {
            assert_eq!((bought.status, chain.settles(), chain.paid(PAY_TO)), (201, 1, 1));
        } else {
            bought.is(503, "payment_unavailable");
            assert_eq!((chain.shown(), chain.settles()), (false, 0));
        }
    }
}
