//! The whole life of a key at every vendor that dekeys knows, and at invented ones that need what few vendors need.

use std::sync::Arc;

use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{SystemClock, Ttl};
use dekeys::mock::{Fault, MockOptions, MockVendor};
use dekeys::vendor::{
    Adapter, Alive, Created, Existence, FailureClass, Logins, Manifest, RootSecret, fields, pack_root, shipped,
};

use super::ask;

struct Vendor {
    mock: MockVendor,
    root: RootSecret,
    egress: Egress,
    adapter: Adapter,
    manifest: Arc<Manifest>,
}

async fn start(text: &str, file: &str) -> Vendor {
    let manifest = Arc::new(Manifest::parse(text, file).unwrap_or_else(|errors| panic!("{errors}")));
    let facts = manifest.facts();
    let params: Vec<(String, String)> = facts
        .params
        .iter()
        .map(|field| (field.name.clone(), field.sample.clone()))
        .collect();
    let options = MockOptions {
        params: params.clone(),
        ..MockOptions::default()
    };
    let mock = MockVendor::start(&manifest, options)
        .await
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let secrets = mock.root_fields().iter();
    let secrets = secrets.map(|(name, value)| (name.clone(), SecretText::new(value.clone())));
    let packed = pack_root(&manifest, Some(mock.url()), &params, secrets.collect());
    let root = RootSecret::unpack(packed.unwrap_or_else(|error| panic!("{file}: {error}"))).unwrap();
    Vendor {
        mock,
        root,
        egress: Egress::new(Reach::Loopback).unwrap(),
        adapter: Adapter::of(&manifest, &Logins::new(Arc::new(SystemClock::default()))),
        manifest,
    }
}

/// Makes a key, uses it, finds it, ends it. What the manifest cannot do is left out.
async fn live(vendor: &Vendor) -> Created {
    let name = vendor.manifest.name().to_string();
    let scope = vendor.manifest.facts().scopes[0].clone();
    let mut wanted = ask("dk-abcdefgh-0123456789-1", Ttl::from_mins(5));
    wanted.scopes = vec![scope];
    let made = vendor
        .adapter
        .create(&vendor.egress, &vendor.root, &wanted, &OsRandom, async |_, _| {});
    let made = made.await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let at_vendor = usize::from(!vendor.manifest.facts().signed_here);
    assert_eq!(vendor.mock.live_keys().len(), at_vendor, "{name}");
    let alive = vendor
        .adapter
        .probe(&vendor.egress, &vendor.root, &made.secret)
        .await
        .unwrap();
    assert_ne!(alive, Alive::Dead, "{name}");
    if vendor.adapter.can_list() {
        let found = vendor.adapter.find(&vendor.egress, &vendor.root, &wanted.name).await;
        let ids: Vec<String> = found.unwrap().into_iter().map(|found| found.vendor_key_id).collect();
        assert_eq!(ids, std::slice::from_ref(&made.vendor_key_id), "{name}");
    }
    if vendor.adapter.manifest().can_revoke() {
        let ended = vendor
            .adapter
            .revoke(&vendor.egress, &vendor.root, &made.vendor_key_id, Some(&made.secret));
        ended.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(vendor.mock.live_keys().len(), 0, "{name}");
        let after = vendor
            .adapter
            .probe(&vendor.egress, &vendor.root, &made.secret)
            .await
            .unwrap();
        assert_ne!(after, Alive::Alive, "{name}: the key lives on");
    }
    made
}

#[tokio::test]
async fn every_manifest_that_makes_keys_leads_one_from_its_birth_to_its_end() {
    let mut lived = 0;
    for (name, text) in shipped() {
        let vendor = start(text, &format!("{name}.toml")).await;
        if vendor.manifest.facts().is_static {
            continue;
        }
        live(&vendor).await;
        lived += 1;
    }
    assert!(lived >= 2, "only {lived} manifests make keys");
}

const HEAD: &str = r#"
schema = 1
[vendor]
id = "odd"
title = "Odd"
class = 3
isolates = "key"
evidence = "draft"
resale = "unknown"
[params]
account = { title = "Account", charset = "a-z0-9" }
[scopes]
"all:use" = {}
[proxy]
hosts = ["api.odd.example"]
"#;

const ROOT: &str = r#"
[root]
fields = { key = { title = "Key" } }
auth = { style = "bearer", value = "${root.key}" }
[http]
base = "https://api.odd.example/v1"
hosts = ["api.odd.example", "login.odd.example"]
"#;

fn odd(inject: &str, root: &str, calls: &str) -> String {
    format!("{HEAD}{inject}\n{root}\n{calls}")
}

const HEADER: &str = r#"inject = [{ in = "header", name = "Authorization", format = "Bearer {secret}" }]"#;

const PROBE: &str = "[probe]\nmethod = \"GET\"\npath = \"/me\"\n";

#[tokio::test]
async fn a_login_comes_first_and_its_token_serves_until_it_ends() {
    let root = ROOT.replace(
        r#"auth = { style = "bearer", value = "${root.key}" }"#,
        r#"auth = { style = "login", url = "https://login.odd.example/oauth/token", encoding = "form", body = { grant_type = "client_credentials", audience = "${params.account}" }, basic = { user = "dekeys", password = "${root.key}" }, token = "/access_token", expires_in = "/expires_in" }"#,
    );
    let calls = r#"
[create]
method = "POST"
path = "/keys"
body = { name = "${name}" }
ok = [201]
secret = "/key"
id = "/id"
[list]
method = "GET"
path = "/keys"
items = "/data"
id = "/id"
name = "/name"
[revoke]
method = "DELETE"
path = "https://login.odd.example/keys/${id}"
ok = [204]
"#;
    let vendor = start(&odd(HEADER, &root, &format!("{calls}{PROBE}")), "odd.toml").await;
    live(&vendor).await;
    let logins = vendor
        .mock
        .calls()
        .into_iter()
        .filter(|call| call.op == "login")
        .count();
    assert_eq!(logins, 1);
    vendor.mock.fault(Fault {
        op: "list".to_owned(),
        status: Some(401),
        count: Some(1),
        ..Fault::default()
    });
    let list = async || vendor.adapter.list(&vendor.egress, &vendor.root, "dk-").await;
    assert!(list().await.is_err(), "the vendor ended the token");
    assert!(list().await.is_ok(), "another one is asked for");
    let logins = vendor
        .mock
        .calls()
        .into_iter()
        .filter(|call| call.op == "login")
        .count();
    assert_eq!(logins, 2);
}

#[test]
fn a_promise_may_not_outlast_the_creation_it_belongs_to() {
    let calls = "[create]\nmethod = \"POST\"\npath = \"/keys\"\nbody = { name = \"${name}\" }\nok = [202]\nsecret = \"/key\"\nid = \"/id\"\n\
                 poll = { path = \"/operations/${poll}\", from = \"/operation\", done = \"/done\", every_ms = 5000 }\n";
    let text = odd(HEADER, ROOT, calls).replace("class = 3", "class = 5");
    let errors = Manifest::parse(&text, "odd.toml").unwrap_err();
    assert_eq!(errors.findings[0].pointer, "/create/poll", "{errors}");
}

#[tokio::test]
async fn graphql_has_all_calls_at_one_address_and_errors_in_good_answers() {
    let root = ROOT.replace(
        r#"auth = { style = "bearer", value = "${root.key}" }"#,
        r#"auth = { style = "query", params = { token = "${root.key}" } }"#,
    );
    let calls = r#"
[create]
method = "POST"
path = "/graphql"
body = { query = "mutation make", variables = { name = "${name}", days = "${expires}" } }
ok = [200]
secret = "/data/make/token"
id = "/data/make/id"
[expiry]
unit = "days_ceil"
[revoke]
method = "POST"
path = "/graphql"
body = { query = "mutation end", variables = { id = "${id}" } }
ok = [200]
[errors]
fail_if = ["/errors/0"]
"#;
    let text = odd(HEADER, &root, &format!("{calls}{PROBE}")).replace("class = 3", "class = 5");
    let made = live(&start(&text, "odd.toml").await).await;
    assert!(made.vendor_expires.is_some());
}

#[tokio::test]
async fn a_key_of_several_fields_is_kept_and_used_as_one() {
    let inject = r#"inject = [{ in = "basic", user = "{user}", password = "{secret}" }]"#;
    let calls = r#"
[create]
method = "PUT"
path = "/users/${name}"
body = { password = "${generated}" }
ok = [201]
id_from = "name"
fields = { user = "${name}", secret = "${generated}" }
generate = { charset = "a-zA-Z0-9", length = 32 }
then = [{ method = "PUT", path = "/rights/${id}", body = { read = ".*" }, ok = [200, 201] }]
[list]
method = "GET"
path = "/users"
items = ""
id = "/name"
name = "/name"
[revoke]
method = "DELETE"
path = "/users/${id}"
ok = [204]
first = [{ method = "DELETE", path = "/rights/${id}", ok = [200, 204] }]
"#;
    let vendor = start(&odd(inject, ROOT, &format!("{calls}{PROBE}")), "odd.toml").await;
    let made = live(&vendor).await;
    let parts = fields(&made.secret);
    assert_eq!(parts["user"].expose(), made.vendor_key_id);
    assert_eq!(parts["secret"].expose().len(), 32);
    let steps = vendor.mock.calls().into_iter().filter(|call| call.op == "step").count();
    assert_eq!(steps, 2);
}

#[tokio::test]
async fn a_key_that_is_its_own_id_is_never_shown_as_one() {
    let calls = r#"
[create]
method = "POST"
path = "/keys"
body = { label = "${name}" }
ok = [200]
secret = "/key"
id_from = "secret"
[list]
method = "GET"
path = "/keys"
items = "/keys"
id = "/key"
name = "/label"
[revoke]
method = "POST"
path = "/keys/end"
body = { key = "${secret}" }
ok = [200]
"#;
    let vendor = start(&odd(HEADER, ROOT, &format!("{calls}{PROBE}")), "odd.toml").await;
    let made = live(&vendor).await;
    assert!(made.vendor_key_id.starts_with("digest-"));
    assert!(!made.vendor_key_id.contains(made.secret.expose()));
}

#[tokio::test]
async fn ids_from_the_list_and_promises_that_are_kept_later() {
    let calls = r#"
[create]
method = "POST"
path = "/keys"
body = { name = "${name}" }
ok = [202]
secret = "/response/key"
id_from = "list"
poll = { path = "/operations/${poll}", from = "/operation", done = "/done", every_ms = 5 }
[list]
method = "GET"
path = "/keys"
items = "/data"
id = "/id"
name = "/name"
[revoke]
method = "DELETE"
path = "/keys/${id}"
ok = [202]
"#;
    let vendor = start(&odd(HEADER, ROOT, &format!("{calls}{PROBE}")), "odd.toml").await;
    live(&vendor).await;
    let polls = vendor.mock.calls().into_iter().filter(|call| call.op == "poll").count();
    assert_eq!(polls, 1);
}

#[tokio::test]
async fn no_more_keys_are_made_in_a_minute_than_the_vendor_lets_be_made() {
    let text = super::changed(&[("per_minute = 60000", "per_minute = 2")]);
    let vendor = start(&text, "demo.toml").await;
    let make = async |name: &str| {
        let wanted = ask(name, Ttl::from_mins(5));
        let (egress, root) = (&vendor.egress, &vendor.root);
        let made = vendor
            .adapter
            .create(egress, root, &wanted, &OsRandom, super::unheard)
            .await;
        made.map(|made| made.vendor_key_id)
    };
    assert!(make("dk-abcdefgh-0123456789-1").await.is_ok() && make("dk-abcdefgh-0123456789-2").await.is_ok());
    let refused = make("dk-abcdefgh-0123456789-3").await.unwrap_err();
    assert_eq!((refused.class, refused.status), (FailureClass::RateLimited, None));
    assert_eq!(refused.created, Existence::No);
    let wait = refused.retry_after.unwrap();
    assert!(wait > Ttl::from_secs(5) && wait <= Ttl::from_secs(60), "{wait}");
    let creations = vendor.mock.calls().into_iter().filter(|call| call.op == "create");
    assert_eq!(creations.count(), 2, "the third was never sent");
    let listed = vendor.adapter.list(&vendor.egress, &vendor.root, "dk-").await.unwrap();
    assert_eq!(listed.len(), 2, "other calls go on");
}
