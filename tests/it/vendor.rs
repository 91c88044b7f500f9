//! Vendors: the whole life of a key over a real mock server, and what manifests may and may not say.
#![cfg(test)]

mod conformance;
mod cost;
mod life;
mod lint;
mod openrouter;
mod postgres;
mod rabbitmq;
mod redis;
mod signed;
mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;

use dekeys::base::canonical::Digest;
use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{SystemClock, Ttl};
use dekeys::mock::{Fault, MockError, MockOptions, MockVendor};
use dekeys::vendor::{
    Adapter, Alive, CreateAsk, Created, Existence, FailureClass, Gone, Logins, Manifest, RootSecret, VendorError,
    VendorFailure, injection, pack_root, shipped,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

/// Nobody puts on record what is heard of a creation.
async fn unheard(_answer: Digest, _id: Option<String>) {}

fn adapter(manifest: &Manifest) -> Adapter {
    let clock = Arc::new(SystemClock::default());
    Adapter::of(&Arc::new(manifest.clone()), &Logins::new(clock))
}

fn text(name: &str) -> &'static str {
    shipped()
        .into_iter()
        .find(|(known, _)| known.as_str() == name)
        .unwrap()
        .1
}

fn manifest(name: &str) -> Manifest {
    Manifest::parse(text(name), &format!("{name}.toml")).unwrap()
}

/// The demo manifest with some lines changed.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text("demo").to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "the demo manifest has no `{old}`");
        text.replace(old, new)
    })
}

fn parsed(changes: &[(&str, &str)]) -> Manifest {
    Manifest::parse(&changed(changes), "demo.toml").unwrap()
}

fn fields(mock: &MockVendor) -> Vec<(String, SecretText)> {
    let fields = mock.root_fields().iter();
    fields
        .map(|(name, value)| (name.clone(), SecretText::new(value.clone())))
        .collect()
}

fn ask(name: &str, lives: Ttl) -> CreateAsk {
    let now = SystemClock::wall();
    CreateAsk {
        name: name.to_owned(),
        scopes: vec!["echo:read".parse().unwrap()],
        now,
        expires: now.plus(lives),
        cost_cap: None,
        idempotency_key: format!("op-{name}"),
    }
}

/// A mock vendor, the adapter for it and its root credential.
struct Bench {
    mock: MockVendor,
    adapter: Adapter,
    egress: Egress,
    root: RootSecret,
}

impl Bench {
    async fn new(manifest: &Manifest) -> Self {
        let mock = MockVendor::start(manifest, MockOptions::default()).await.unwrap();
        let packed = pack_root(manifest, Some(mock.url()), &[], fields(&mock)).unwrap();
        Self {
            adapter: adapter(manifest),
            egress: Egress::new(Reach::Loopback).unwrap(),
            root: RootSecret::unpack(packed).unwrap(),
            mock,
        }
    }

    async fn create(&self, name: &str) -> Result<Created, VendorFailure> {
        self.adapter
            .create(
                &self.egress,
                &self.root,
                &ask(name, Ttl::from_mins(5)),
                &OsRandom,
                unheard,
            )
            .await
    }

    async fn probe(&self, secret: &SecretText) -> Alive {
        self.adapter.probe(&self.egress, &self.root, secret).await.unwrap()
    }

    async fn revoke(&self, id: &str) -> Result<Gone, VendorFailure> {
        self.adapter.revoke(&self.egress, &self.root, id, None).await
    }

    async fn find(&self, name: &str) -> Vec<String> {
        let found = self.adapter.find(&self.egress, &self.root, name).await.unwrap();
        found.into_iter().map(|found| found.vendor_key_id).collect()
    }

    /// The route that a key is for, called as its holder would.
    async fn echo(&self, method: http::Method, secret: &SecretText) -> (u16, Value) {
        let how = injection(self.adapter.manifest(), Some(self.mock.url()), &[]).unwrap();
        let how = serde_json::to_value(how).unwrap();
        let url = format!("{}echo", how["base_url"].as_str().unwrap());
        let mut outgoing = dekeys::base::egress::Outgoing::new(method, url.parse().unwrap());
        let value = how["format"].as_str().unwrap().replace("{secret}", secret.expose());
        let header: http::HeaderName = how["header"].as_str().unwrap().parse().unwrap();
        outgoing.headers.insert(header, value.parse().unwrap());
        let incoming = self.egress.send(outgoing).await.unwrap();
        (
            incoming.status,
            serde_json::from_slice(&incoming.body).unwrap_or_default(),
        )
    }
}

fn fault(op: &str) -> Fault {
    Fault {
        op: op.to_owned(),
        count: Some(1),
        ..Fault::default()
    }
}

#[tokio::test]
async fn a_key_is_made_used_ended_and_dead() {
    for name in ["demo", "openrouter"] {
        let manifest = manifest(name);
        let bench = Bench::new(&manifest).await;
        bench.adapter.test_root(&bench.egress, &bench.root).await.unwrap();
        let mut asked = ask("dk-one", Ttl::from_mins(5));
        asked.scopes = manifest.facts().scopes.into_iter().take(1).collect();
        asked.cost_cap = Some("0.25 USD".parse().unwrap());
        let made = bench
            .adapter
            .create(&bench.egress, &bench.root, &asked, &OsRandom, unheard)
            .await
            .unwrap();
        let ends = made.vendor_expires.unwrap();
        assert!(
            ends >= asked.expires && ends < asked.expires.plus(Ttl::from_secs(2)),
            "{name}: {ends}"
        );
        assert_eq!(bench.mock.live_keys()[0].secret, made.secret.expose());
        assert_eq!(bench.find("dk-one").await, std::slice::from_ref(&made.vendor_key_id));
        assert_eq!(bench.probe(&made.secret).await, Alive::Alive);
        assert_eq!(bench.revoke(&made.vendor_key_id).await, Ok(Gone::Revoked));
        assert_eq!(bench.probe(&made.secret).await, Alive::Dead);
        assert_eq!(bench.revoke(&made.vendor_key_id).await, Ok(Gone::AlreadyGone));
        assert_eq!((bench.find("dk-one").await.len(), bench.mock.live_keys().len()), (0, 0));
    }
}

#[tokio::test]
async fn the_demo_vendor_answers_its_route_by_scope_until_the_key_ends() {
    let bench = Bench::new(&manifest("demo")).await;
    let made = bench.create("dk-echo").await.unwrap();
    assert_eq!(
        bench.echo(http::Method::GET, &made.secret).await,
        (200, json!({ "hello": "agent" }))
    );
    assert_eq!(
        bench.echo(http::Method::POST, &made.secret).await.0,
        403,
        "the key may only read"
    );
    bench.revoke(&made.vendor_key_id).await.unwrap();
    assert_eq!(bench.echo(http::Method::GET, &made.secret).await.0, 401);
}

#[tokio::test]
async fn a_vendor_ends_keys_by_itself() {
    // A key that the vendor is told to end a second ago: the clock need not be waited for.
    let manifest = parsed(&[
        ("unit = \"rfc3339_utc\"", "unit = \"seconds\""),
        ("expires = \"/expires_at\"", ""),
    ]);
    let bench = Bench::new(&manifest).await;
    let mut asked = ask("dk-short", Ttl::from_millis(1));
    asked.now = asked.now.minus(Ttl::from_mins(5));
    asked.expires = asked.now.plus(Ttl::from_millis(1));
    let late = parsed(&[]);
    let late = Bench::new(&late).await;
    let made = late
        .adapter
        .create(&late.egress, &late.root, &asked, &OsRandom, unheard)
        .await
        .unwrap();
    assert_eq!(late.probe(&made.secret).await, Alive::Dead, "it ended four minutes ago");
    assert_eq!(late.mock.keys()[0].state, "expired");
    assert_eq!(late.revoke(&made.vendor_key_id).await, Ok(Gone::AlreadyGone));
    // In seconds the vendor counts from its own clock.
    let made = bench
        .adapter
        .create(&bench.egress, &bench.root, &asked, &OsRandom, unheard)
        .await
        .unwrap();
    assert_eq!(made.vendor_expires, Some(asked.now.plus(Ttl::from_secs(1))));
    assert_eq!(bench.probe(&made.secret).await, Alive::Alive);
}

#[tokio::test]
async fn names_are_found_over_all_pages_whatever_the_style() {
    let styles = [
        "{ style = \"offset\", param = \"offset\" }",
        "{ style = \"offset\", param = \"offset\", size = 30, size_param = \"limit\" }",
        "{ style = \"page\", param = \"page\" }",
        "{ style = \"page\", param = \"p\", first = 0, size = 50, size_param = \"per\" }",
        "{ style = \"cursor\", param = \"after\", from = \"/data/-1/id\", more = \"/has_more\" }",
        "{ style = \"cursor\", param = \"after\", from = \"/next\" }",
        "{ style = \"url\", from = \"/links/next\" }",
        "{ style = \"link_header\" }",
        "{ style = \"none\" }",
    ];
    let old = "{ style = \"offset\", param = \"offset\", size = 100, size_param = \"limit\" }";
    for style in styles {
        let bench = Bench::new(&parsed(&[(old, style)])).await;
        for number in 0..250 {
            bench.create(&format!("dk-inst-{number}")).await.unwrap();
        }
        let keys = bench.mock.keys();
        for number in [0, 99, 100, 249] {
            assert_eq!(
                bench.find(&format!("dk-inst-{number}")).await,
                [keys[number].id.clone()],
                "{style}"
            );
        }
        assert_eq!(
            bench.find("dk-inst-25").await.len(),
            1,
            "{style}: a name is not a prefix"
        );
        let all = bench
            .adapter
            .list(&bench.egress, &bench.root, "dk-inst-")
            .await
            .unwrap();
        let ids: BTreeSet<_> = all.iter().map(|found| found.vendor_key_id.as_str()).collect();
        assert_eq!((all.len(), ids.len()), (250, 250), "{style}");
    }
}

#[tokio::test]
async fn a_lost_reply_is_maybe_and_the_key_is_found_by_its_name() {
    let bench = Bench::new(&manifest("demo")).await;
    bench.mock.fault(Fault {
        drop_reply: true,
        ..fault("create")
    });
    let failure = bench.create("dk-lost").await.err().unwrap();
    assert_eq!(
        (failure.class, &failure.created),
        (FailureClass::Retryable, &Existence::Maybe),
        "{failure}"
    );
    let found = bench.find("dk-lost").await;
    assert_eq!(found, [bench.mock.live_keys()[0].id.clone()]);
    assert_eq!(bench.revoke(&found[0]).await, Ok(Gone::Revoked));
    assert_eq!(
        bench.mock.calls().iter().filter(|call| call.op == "create").count(),
        1,
        "never repeated"
    );
}

#[tokio::test]
async fn an_unreadable_reply_is_maybe_and_one_without_the_key_gives_its_id() {
    let bench = Bench::new(&manifest("demo")).await;
    bench.mock.fault(Fault {
        garble: true,
        ..fault("create")
    });
    let failure = bench.create("dk-garbled").await.err().unwrap();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Unknown, Existence::Maybe)
    );

    let keyless = Bench::new(&parsed(&[("secret = \"/key\"", "secret = \"/elsewhere/key\"")])).await;
    // The adapter reads the secret where this vendor does not put it.
    let adapter = adapter(&manifest("demo"));
    let failure = adapter
        .create(
            &keyless.egress,
            &keyless.root,
            &ask("dk-x", Ttl::from_mins(1)),
            &OsRandom,
            unheard,
        )
        .await
        .err()
        .unwrap();
    let id = keyless.mock.live_keys()[0].id.clone();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Unknown, Existence::Yes(id))
    );
}

#[tokio::test]
async fn refusals_say_that_nothing_was_made_and_server_errors_do_not() {
    let bench = Bench::new(&manifest("demo")).await;
    for (status, works, class, created) in [
        (401, false, FailureClass::Auth, Existence::No),
        (422, false, FailureClass::Permanent, Existence::No),
        (429, false, FailureClass::RateLimited, Existence::Maybe),
        (503, true, FailureClass::Retryable, Existence::Maybe),
        (302, false, FailureClass::Unknown, Existence::Maybe),
    ] {
        bench.mock.fault(Fault {
            status: Some(status),
            works,
            ..fault("create")
        });
        let failure = bench.create("dk-f").await.err().unwrap();
        assert_eq!(
            (failure.class, failure.created, failure.status),
            (class, created, Some(status)),
            "{status}"
        );
    }
    assert_eq!(bench.find("dk-f").await.len(), 1, "the 503 had made its key");
    bench.mock.fault(Fault {
        status: Some(500),
        ..fault("list")
    });
    let failure = bench
        .adapter
        .find(&bench.egress, &bench.root, "dk-f")
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Retryable, Existence::No)
    );
    bench.mock.fault(Fault {
        status: Some(500),
        ..fault("revoke")
    });
    let id = bench.find("dk-f").await.remove(0);
    assert_eq!(bench.revoke(&id).await.unwrap_err().class, FailureClass::Retryable);
    bench.mock.fault(Fault {
        status: Some(500),
        ..fault("probe")
    });
    assert_eq!(
        bench.probe(&SecretText::new("demo-key-x".to_owned())).await,
        Alive::Unknown
    );
}

#[tokio::test]
async fn an_unreachable_vendor_made_nothing() {
    let manifest = manifest("demo");
    let bench = Bench::new(&manifest).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone: Url = format!("http://{free}").parse().unwrap();
    let root = RootSecret::unpack(pack_root(&manifest, Some(&gone), &[], fields(&bench.mock)).unwrap()).unwrap();
    let failure = bench
        .adapter
        .create(
            &bench.egress,
            &root,
            &ask("dk-n", Ttl::from_mins(1)),
            &OsRandom,
            unheard,
        )
        .await
        .err()
        .unwrap();
    assert_eq!(
        (failure.class, failure.created),
        (FailureClass::Retryable, Existence::No)
    );
}

#[tokio::test]
async fn what_cannot_be_promised_is_refused_before_anything_is_sent() {
    let bench = Bench::new(&parsed(&[(", limit_usd = \"${budget.usd?}\"", "")])).await;
    let good = ask("dk-r", Ttl::from_mins(1));
    let asks = [
        CreateAsk {
            scopes: vec!["echo:admin".parse().unwrap()],
            ..good.clone()
        },
        CreateAsk {
            scopes: Vec::new(),
            ..good.clone()
        },
        CreateAsk {
            cost_cap: Some("1.00 USD".parse().unwrap()),
            ..good.clone()
        },
        CreateAsk {
            expires: good.now,
            ..good.clone()
        },
        CreateAsk {
            expires: good.now.plus(Ttl::from_secs(86_401)),
            ..good.clone()
        },
    ];
    for asked in asks {
        let failure = bench
            .adapter
            .create(&bench.egress, &bench.root, &asked, &OsRandom, unheard)
            .await
            .err()
            .unwrap();
        assert_eq!(
            (failure.class, failure.created),
            (FailureClass::Refused, Existence::No),
            "{asked:?}"
        );
    }
    assert_eq!(bench.mock.calls(), []);
}

#[tokio::test]
async fn a_root_credential_goes_nowhere_else() {
    let demo = manifest("demo");
    let bench = Bench::new(&demo).await;
    let thief = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Other hosts, another way of proof, and another vendor's manifest are all refused for the sealed credential.
    let changes: [&[(&str, &str)]; 3] = [
        &[("demo-vendor.invalid", "thief.invalid")],
        &[(
            "auth = { style = \"bearer\", value = \"${root.key}\" }",
            "auth = { style = \"header\", headers = { \"x-key\" = \"${root.key}\" } }",
        )],
        &[("id = \"demo\"", "id = \"other\"")],
    ];
    for change in changes {
        let adapter = adapter(&parsed(change));
        let failure = adapter
            .create(
                &bench.egress,
                &bench.root,
                &ask("dk-t", Ttl::from_mins(1)),
                &OsRandom,
                unheard,
            )
            .await
            .err()
            .unwrap();
        assert_eq!(
            (failure.class, failure.created),
            (FailureClass::Refused, Existence::No),
            "{change:?}"
        );
        assert_eq!(
            adapter.test_root(&bench.egress, &bench.root).await.unwrap_err().class,
            FailureClass::Refused
        );
    }
    assert_eq!(bench.mock.calls(), []);
    // A list that sends dekeys to another place for its next page gets no key there.
    let old = "{ style = \"offset\", param = \"offset\", size = 100, size_param = \"limit\" }";
    let next = format!("http://{}/keys", thief.local_addr().unwrap());
    let body = json!({ "data": [{ "id": "1", "name": "n" }], "next": next }).to_string();
    let lying = answering(vec![(200, body)]).await;
    let manifest = parsed(&[(old, "{ style = \"url\", from = \"/next\" }")]);
    let packed = pack_root(&manifest, Some(&lying.url), &[], fields(&bench.mock)).unwrap();
    let root = RootSecret::unpack(packed).unwrap();
    let failure = adapter(&manifest).find(&bench.egress, &root, "n").await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
    assert_eq!(lying.seen().len(), 1);
}

#[test]
fn root_credentials_are_checked_when_entered() {
    let manifest = manifest("openrouter");
    let key = |text: &str| vec![("key".to_owned(), SecretText::new(text.to_owned()))];
    let pack = |base: Option<&str>, params: &[(&str, &str)], fields| {
        let base = base.map(|base| Url::parse(base).unwrap());
        let params: Vec<_> = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        pack_root(&manifest, base.as_ref(), &params, fields)
    };
    let packed = pack(None, &[], key("sk-or-1")).unwrap_or_else(|error| panic!("{error}"));
    let destination = RootSecret::unpack(packed).ok().unwrap().destination().clone();
    assert_eq!(destination.origins, ["https://openrouter.ai:443"]);
    assert_eq!(destination.base.as_str(), "https://openrouter.ai/api/v1");
    let moved = pack(Some("http://127.0.0.1:9"), &[], key("sk-or-1")).ok().unwrap();
    let destination = RootSecret::unpack(moved).ok().unwrap().destination().clone();
    assert_eq!(destination.origins, ["http://127.0.0.1:9"]);
    assert_eq!(destination.base.as_str(), "http://127.0.0.1:9/api/v1");
    let error = |result: Result<_, VendorError>| result.err().unwrap();
    assert!(matches!(
        error(pack(None, &[], key("sk-ant-1"))),
        VendorError::FieldForm { .. }
    ));
    assert!(matches!(
        error(pack(None, &[], Vec::new())),
        VendorError::MissingField(_)
    ));
    assert!(matches!(
        error(pack(None, &[("x", "y")], key("sk-or-1"))),
        VendorError::UnknownParam(_)
    ));
    assert!(matches!(
        error(pack(None, &[("workspace", "a/../b")], key("sk-or-1"))),
        VendorError::ParamForm(_)
    ));
    assert!(matches!(
        error(pack(Some("http://127.0.0.1:9/path"), &[], key("sk-or-1"))),
        VendorError::Base
    ));
    assert!(RootSecret::unpack(SecretText::new("{}".to_owned()).into_bytes()).is_err());
}

#[test]
fn hosts_that_get_a_key_are_never_more_than_the_enforced_ones() {
    for (name, text) in shipped() {
        let facts = Manifest::parse(text, name.as_str()).unwrap().facts();
        assert_eq!(facts.name, name);
        let enforced: BTreeSet<_> = facts.hosts.iter().collect();
        assert!(!facts.injection_hosts.is_empty());
        assert!(
            facts.injection_hosts.iter().all(|host| enforced.contains(host)),
            "{name}"
        );
    }
    // And no manifest can be read that says otherwise.
    for hosts in [
        "[\"www.demo-vendor.invalid\"]",
        "[\"demo-vendor.invalid\", \"evil.test\"]",
        "[\"*.invalid\"]",
    ] {
        let text = changed(&[(
            "[proxy]\nhosts = [\"demo-vendor.invalid\"]",
            &format!("[proxy]\nhosts = {hosts}"),
        )]);
        let errors = Manifest::parse(&text, "demo.toml").unwrap_err();
        assert!(
            errors
                .findings
                .iter()
                .any(|finding| finding.pointer.starts_with("/proxy/hosts/")),
            "{errors}"
        );
    }
}

#[test]
fn everything_wrong_with_a_manifest_is_shown_at_once_with_its_place() {
    let text = changed(&[
        ("title = \"Demo vendor\"", "titel = \"Demo vendor\""),
        ("path = \"/keys/${id}\"\nok", "pth = \"/keys/${id}\"\nokk"),
        ("resale = \"allowed\"", "resale = \"alowed\""),
        ("per_minute = 60000", "per_minute = \"many\"\nper_day = 3"),
        ("[rotate]", "[rotat]"),
    ]);
    let errors = Manifest::parse(&text, "demo.toml").unwrap_err();
    let lines: Vec<&str> = text.lines().collect();
    let shown: Vec<_> = errors
        .findings
        .iter()
        .map(|finding| (finding.pointer.as_str(), finding.fix.as_deref()))
        .collect();
    for expected in [
        ("/vendor/titel", Some("did you mean `title`?")),
        ("/vendor/resale", Some("did you mean `allowed`?")),
        ("/revoke/pth", Some("did you mean `path`?")),
        ("/revoke/okk", Some("did you mean `ok`?")),
        ("/rotat", Some("did you mean `rotate`?")),
        ("/limits/per_minute", None),
    ] {
        assert!(shown.contains(&expected), "{expected:?} is not among {shown:?}");
    }
    for finding in &errors.findings {
        let key = finding.pointer.rsplit('/').next().unwrap();
        let line = lines[finding.line - 1];
        let rest: String = line.chars().skip(finding.column - 1).collect();
        assert!(line.contains(key) && !rest.is_empty(), "{finding:?} points at {line:?}");
    }
    let words = errors.to_string();
    assert!(
        words.contains("demo.toml:") && !words.contains("u32") && !words.contains("struct"),
        "{words}"
    );
}

#[test]
fn manifests_that_are_unsafe_or_cannot_work_are_refused() {
    let cases = [
        ("schema = 1", "schema = 2", "/schema"),
        ("class = 2", "class = 6", "/vendor/class"),
        ("evidence_date = \"2026-11-20\"\n", "", "/vendor/evidence"),
        (
            "base = \"https://demo-vendor.invalid\"",
            "base = \"http://demo-vendor.invalid\"",
            "/http/base",
        ),
        (
            "base = \"https://demo-vendor.invalid\"",
            "base = \"https://evil.test\"",
            "/http/base",
        ),
        (
            "base = \"https://demo-vendor.invalid\"",
            "base = \"https://demo-vendor.invalid.evil.test\"",
            "/http/base",
        ),
        (
            "base = \"https://demo-vendor.invalid\"",
            "base = \"https://demo-vendor.invalid@evil.test\"",
            "/http/base",
        ),
        (
            "[http]",
            "[params]\nhost = {}\n[http]\nheaders = { Host = \"x\" }",
            "/http/headers/Host",
        ),
        ("path = \"/keys/${id}\"", "path = \"/keys/${secrt}\"", "/revoke/path"),
        ("path = \"/keys/${id}\"", "path = \"/keys/../${id}\"", "/revoke/path"),
        ("path = \"/keys/${id}\"", "path = \"/keys/${root.key}\"", "/revoke/path"),
        ("path = \"/keys/${id}\"", "path = \"/keys?id=${id}\"", "/revoke/path"),
        ("path = \"/keys/${id}\"", "path = \"/keys/all\"", "/revoke"),
        ("name = \"${name}\"", "name = \"x-${name}\"", "/create/body/name"),
        ("name = \"${name}\"", "name = \"fixed\"", "/create"),
        (", expires_at = \"${expires}\"", "", "/expiry/unit"),
        ("unit = \"rfc3339_utc\"", "unit = \"none\"", "/expiry"),
        ("scopes = \"${scopes}\", ", "", "/scopes/echo:read"),
        ("ok = [201]", "ok = [404]", "/create/ok"),
        ("ok = [201]", "ok = []", "/create/ok"),
        ("id = \"/id\"\nexpires", "id = \"id\"\nexpires", "/create/id"),
        (
            "format = \"Bearer {secret}\"",
            "format = \"Bearer x\"",
            "/proxy/inject/0",
        ),
        ("value = \"${root.key}\"", "value = \"${root.kye}\"", "/root/auth/value"),
        (
            "scope = \"echo:write\"",
            "scope = \"echo:wirte\"",
            "/mock/routes/1/scope",
        ),
        ("[list]\nmethod", "[list]\nname = \"/x\"\nmethod", "/list"),
    ];
    for (old, new, pointer) in cases {
        let errors = Manifest::parse(&changed(&[(old, new)]), "demo.toml").err();
        let errors = errors.unwrap_or_else(|| panic!("`{new}` is taken"));
        let found = errors
            .findings
            .iter()
            .any(|finding| finding.pointer.starts_with(pointer))
            || new.contains("[list]\nname");
        assert!(found, "`{new}`: {errors}");
    }
    let without_revoke = text("demo").replace(
        "[revoke]\nmethod = \"DELETE\"\npath = \"/keys/${id}\"\nok = [204]\n",
        "",
    );
    let errors = Manifest::parse(&without_revoke, "demo.toml").unwrap_err();
    assert_eq!(errors.findings[0].pointer, "/vendor/class", "{errors}");
}

#[tokio::test]
async fn a_mock_says_which_field_it_misses() {
    let start = async |text: String| {
        let manifest = Manifest::parse(&text, "demo.toml").unwrap();
        match MockVendor::start(&manifest, MockOptions::default()).await {
            Err(MockError::Missing { field }) => field,
            Err(other) => panic!("{other}"),
            Ok(_) => "nothing",
        }
    };
    assert_eq!(start(changed(&[])).await, "nothing");
    assert_eq!(
        start(changed(&[("name = \"${name}\", ", ""), ("class = 2", "class = 3")])).await,
        "nothing",
        "keys without names are played, too"
    );
}

#[tokio::test]
async fn a_mock_checks_the_root_credential_and_keeps_its_truth_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest("demo");
    let file = folder.path().join("truth.jsonl");
    let options = MockOptions {
        truth_file: Some(file.clone()),
        root_fields: vec![("key".to_owned(), "demo-root-mine".to_owned())],
        ..MockOptions::default()
    };
    let mock = MockVendor::start(&manifest, options).await.unwrap();
    let egress = Egress::new(Reach::Loopback).unwrap();
    let adapter = adapter(&manifest);
    let root = |key: &str| {
        let fields = vec![("key".to_owned(), SecretText::new(key.to_owned()))];
        RootSecret::unpack(pack_root(&manifest, Some(mock.url()), &[], fields).unwrap()).unwrap()
    };
    let failure = adapter.test_root(&egress, &root("demo-root-wrong")).await.unwrap_err();
    assert_eq!((failure.class, failure.status), (FailureClass::Auth, Some(401)));
    let good = root("demo-root-mine");
    let made = adapter
        .create(&egress, &good, &ask("dk-truth", Ttl::from_mins(1)), &OsRandom, unheard)
        .await
        .unwrap();
    adapter.revoke(&egress, &good, &made.vendor_key_id, None).await.unwrap();
    drop(mock);
    let text = std::fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["name"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("created", "dk-truth"), ("revoked", "dk-truth")]);
    assert!(!text.contains(made.secret.expose()), "the file holds no key");
}

#[tokio::test]
async fn faults_and_truth_are_reached_over_http() {
    let bench = Bench::new(&manifest("demo")).await;
    let call = async |method: http::Method, path: &str, body: Value| {
        let mut outgoing = dekeys::base::egress::Outgoing::new(method, bench.mock.url().join(path).unwrap());
        if !body.is_null() {
            outgoing.body = body.to_string().into_bytes();
        }
        let incoming = bench.egress.send(outgoing).await.unwrap();
        (
            incoming.status,
            serde_json::from_slice::<Value>(&incoming.body).unwrap(),
        )
    };
    let two = json!({ "op": "create", "status": 500, "count": 2 });
    assert_eq!(call(http::Method::POST, "/__mock/faults", two).await.0, 201);
    assert_eq!(
        call(http::Method::POST, "/__mock/faults", json!({ "opp": "create" }))
            .await
            .0,
        400
    );
    let statuses = [
        bench.create("a").await.err(),
        bench.create("b").await.err(),
        bench.create("c").await.err(),
    ];
    assert_eq!(
        statuses.map(|failure| failure.and_then(|failure| failure.status)),
        [Some(500), Some(500), None]
    );
    let (_, keys) = call(http::Method::GET, "/__mock/keys", Value::Null).await;
    assert_eq!(
        (&keys["data"][0]["name"], &keys["data"][0]["state"]),
        (&json!("c"), &json!("live"))
    );
    let (_, calls) = call(http::Method::GET, "/__mock/calls", Value::Null).await;
    assert_eq!(calls["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn roots_and_keys_are_presented_in_every_style() {
    let bearer = "auth = { style = \"bearer\", value = \"${root.key}\" }";
    let inject = "{ in = \"header\", name = \"Authorization\", format = \"Bearer {secret}\" }";
    let styles = [
        (
            "auth = { style = \"basic\", user = \"admin\", password = \"${root.key}\" }",
            "{ in = \"basic\", user = \"{secret}\", password = \"\" }",
        ),
        (
            "auth = { style = \"header\", headers = { \"X-Api-Key\" = \"${root.key}\", \"X-App\" = \"a\" } }",
            "{ in = \"header\", name = \"X-Token\", format = \"Token {secret}\" }",
        ),
        (bearer, "{ in = \"query\", name = \"api_key\", format = \"{secret}\" }"),
    ];
    for (auth, slot) in styles {
        let bench = Bench::new(&parsed(&[(bearer, auth), (inject, slot)])).await;
        let made = bench.create("dk-style").await.unwrap();
        assert_eq!(bench.probe(&made.secret).await, Alive::Alive, "{auth} {slot}");
        assert_eq!(bench.revoke(&made.vendor_key_id).await, Ok(Gone::Revoked));
        assert_eq!(bench.probe(&made.secret).await, Alive::Dead, "{auth} {slot}");
    }
}

#[tokio::test]
async fn a_key_can_end_itself_and_bodies_can_be_forms() {
    let manifest = parsed(&[
        (
            "path = \"/keys/${id}\"\nok = [204]",
            "path = \"/key\"\nok = [204]\nas = \"credential\"",
        ),
        ("path = \"/keys\"\nbody", "path = \"/keys\"\nencoding = \"form\"\nbody"),
    ]);
    let bench = Bench::new(&manifest).await;
    let made = bench.create("dk form & co").await.unwrap();
    assert_eq!(
        bench.mock.live_keys()[0].name,
        "dk-form---co",
        "shaped, then sent as a form"
    );
    assert_eq!(
        bench.mock.live_keys()[0].scopes,
        json!("[\"read\"]"),
        "a list in a form is JSON text"
    );
    let refused = bench.revoke(&made.vendor_key_id).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused, "the key itself is needed");
    let ended = async || {
        bench
            .adapter
            .revoke(&bench.egress, &bench.root, &made.vendor_key_id, Some(&made.secret))
            .await
    };
    assert_eq!(ended().await, Ok(Gone::Revoked));
    assert_eq!(ended().await, Ok(Gone::AlreadyGone));
}

#[tokio::test]
async fn a_vendor_that_says_200_and_means_no() {
    let errors = "[errors]\nsuccess = { pointer = \"/ok\", equals = true }\nrules = [{ body_pointer = \"/error\", contains = \"too many\", class = \"quota\", created = \"no\" }]";
    let manifest = parsed(&[("[errors]", errors)]);
    let bench = Bench::new(&manifest).await;
    let made = bench.create("dk-ok").await.unwrap();
    assert_eq!(bench.probe(&made.secret).await, Alive::Alive);
    let says = |body: Value| (201, body.to_string());
    let lying = answering(vec![
        says(json!({ "ok": false, "error": "too many keys" })),
        says(json!({ "ok": false, "error": "?" })),
        says(json!({ "ok": false, "id": "k1" })),
    ])
    .await;
    let root = RootSecret::unpack(pack_root(&manifest, Some(&lying.url), &[], fields(&bench.mock)).unwrap()).unwrap();
    let fail = async || {
        bench
            .adapter
            .create(&bench.egress, &root, &ask("dk", Ttl::from_mins(1)), &OsRandom, unheard)
            .await
            .err()
            .unwrap()
    };
    let failures = [fail().await, fail().await, fail().await];
    assert_eq!(
        (failures[0].class, &failures[0].created),
        (FailureClass::Quota, &Existence::No)
    );
    assert_eq!(failures[1].created, Existence::Maybe);
    assert_eq!(failures[2].created, Existence::Yes("k1".to_owned()));
}

#[tokio::test]
async fn keys_that_end_while_a_list_is_read_hide_no_other() {
    let manifest = manifest("openrouter");
    let page = |ids: &[&str]| {
        let keys: Vec<Value> = ids
            .iter()
            .map(|id| json!({ "hash": id, "name": format!("dk-{id}") }))
            .collect();
        (200, json!({ "data": keys }).to_string())
    };
    // After the first page `a` ends, and `c` moves to where `b` was: read on from there, `c` would be passed over.
    let pages = vec![
        page(&["a", "b"]),
        page(&["c", "d"]),
        page(&["b", "c"]),
        page(&["c", "d"]),
        page(&["d"]),
    ];
    let server = answering(pages).await;
    let fields = vec![("key".to_owned(), SecretText::new("sk-or-1".to_owned()))];
    let root = RootSecret::unpack(pack_root(&manifest, Some(&server.url), &[], fields).unwrap()).unwrap();
    let egress = Egress::new(Reach::Loopback).unwrap();
    let found = adapter(&manifest).list(&egress, &root, "dk-").await.unwrap();
    let ids: Vec<_> = found.iter().map(|found| found.vendor_key_id.as_str()).collect();
    assert_eq!(ids, ["b", "c", "d"]);
    let offsets: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.query.rsplit_once("offset=").map(|(_, n)| n.to_owned()))
        .collect();
    assert_eq!(
        offsets,
        [
            None,
            Some("1".to_owned()),
            None,
            Some("1".to_owned()),
            Some("2".to_owned())
        ]
    );
}

/// A server that gives prepared answers, the last one for ever, and keeps what it was asked.
struct Answering {
    url: Url,
    seen: Arc<std::sync::Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    query: String,
    authorization: String,
    body: String,
}

impl Answering {
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answering(answers: Vec<(u16, String)>) -> Answering {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = read_request(&mut stream).await;
            let number = kept.lock().unwrap().len();
            kept.lock().unwrap().push(asked);
            let (status, body) = answers.get(number).or_else(|| answers.last()).unwrap();
            let reply = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    Answering { url, seen }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Seen {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "the request ends early");
            continue;
        };
        let header = |name: &str| {
            let line = head
                .lines()
                .find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
            line.and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        if body.len() >= header("content-length").parse::<usize>().unwrap_or(0) {
            let mut first = head.lines().next().unwrap().split(' ');
            let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap());
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            return Seen {
                method,
                path: path.to_owned(),
                query: query.to_owned(),
                authorization: header("authorization"),
                body: body.to_owned(),
            };
        }
    }
}
