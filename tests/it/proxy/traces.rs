//! A vendor hears of a trace only when the caller named one, and then of the caller's.

use super::scene::Scene;
use crate::support::process::Process;
use crate::support::session::plain_http;
use crate::traces::Collector;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_trace_goes_on_to_the_vendor_and_no_other() {
    for traced in [true, false] {
        let collector = Collector::default();
        let endpoint = collector.start().await;
        let scene = Scene::new().await;
        let token = scene.bearer().await;
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ];
        let variables = if traced { &variables[..] } else { &[] };
        let mut process = Process::of(scene.app, variables).await;
        let ask = async |headers: &[(&str, &str)]| {
            scene.vendor.forget();
            let url = format!("{}/p/acme/v1/messages", process.url);
            let request = plain_http().get(url).bearer_auth(&token);
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value));
            assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
            scene.vendor.asked().pop().unwrap()
        };
        let none = ask(&[]).await;
        assert_eq!(none.header("traceparent"), Vec::<String>::new(), "{}", none.head);
        assert_eq!(none.header("tracestate"), Vec::<String>::new());

        let theirs = format!("00-{TRACE}-{CALLER}-01");
        let named = ask(&[("traceparent", &theirs), ("tracestate", "them=1")]).await;
        let sent = named.header("traceparent");
        let parts: Vec<&str> = sent[0].split('-').collect();
        assert_eq!((sent.len(), parts[0], parts[1], parts[3]), (1, "00", TRACE, "01"));
        assert_eq!(parts[2] == CALLER, !traced, "{sent:?}");
        assert_eq!(named.header("tracestate"), ["them=1"]);

        // Where theirs is not sampled, nor is ours, and the vendor is told so.
        let quiet = ask(&[("traceparent", &format!("00-{TRACE}-{CALLER}-00"))]).await;
        assert!(quiet.header("traceparent")[0].ends_with("-00"));

        // What is no trace is theirs to send, and does not become one.
        let broken = ask(&[("traceparent", "00-nonsense")]).await;
        assert_eq!(broken.header("traceparent"), ["00-nonsense"]);

        let vendor_parent = parts[2].to_owned();
        assert!(process.terminate());
        if traced {
            let spans = collector.spans();
            let ours = spans
                .iter()
                .find(|span| span.id == vendor_parent)
                .expect("a span of ours");
            assert_eq!(
                (ours.trace.as_str(), ours.parent.as_str(), ours.kind),
                (TRACE, CALLER, 2)
            );
            assert_eq!(ours.name, "GET /p/{vendor}/{path}");
            let call = spans
                .iter()
                .find(|span| span.trace == TRACE && span.kind == 3)
                .expect("the call");
            let verb = spans.iter().find(|span| span.id == call.parent).expect("what made it");
            assert_eq!(
                (verb.name.as_str(), verb.parent.as_str()),
                ("forward", ours.id.as_str())
            );
            let theirs = spans.iter().filter(|span| span.trace == TRACE);
            assert!(theirs.into_iter().all(|span| !span.failed), "{spans:?}");
            assert!(
                spans.iter().any(|span| span.trace != TRACE && span.kind == 2),
                "one of its own"
            );
        }
    }
}
