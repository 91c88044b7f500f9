//! What a manifest must keep beyond its form: hosts that cannot be widened, variables that exist, keys that can be
//! ended.

mod signing;

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, Method};
use url::Url;

use super::call::Call;
use super::findings::{Reader, suggestion};
use super::inject::placeholders;
use super::login::Login;
use super::made::{IdFrom, Poll};
use super::manifest::Manifest;
use super::native;
use super::tables::{As, Auth, CreateTable, Evidence, ExpiryUnit, Idempotency, Slot};
use super::template::{self, Text, Tree};

/// Notes everything that is inconsistent.
pub(super) fn all(manifest: &Manifest, reader: &mut Reader<'_>) {
    vendor(manifest, reader);
    repeats(manifest, reader);
    hosts(manifest, reader);
    root(manifest, reader);
    calls(manifest, reader);
    create(manifest, reader);
    revoke(manifest, reader);
    super::rotate::check(manifest, reader);
    proxy(manifest, reader);
    mock(manifest, reader);
}

fn vendor(manifest: &Manifest, reader: &mut Reader<'_>) {
    let vendor = &manifest.vendor;
    if !(1..=5).contains(&vendor.class) {
        reader.wrong("/vendor/class", "the class is a number from 1 to 5", None);
    }
    let sourced = vendor.evidence_source.is_some() && vendor.evidence_date.is_some();
    if vendor.evidence != Evidence::Draft && !sourced {
        let message = "evidence above `draft` needs `evidence_source` and `evidence_date`";
        reader.wrong("/vendor/evidence", message, None);
    }
    if manifest.limits.per_minute == Some(0) {
        reader.wrong(
            "/limits/per_minute",
            "a vendor that lets no key be made has no `[create]`",
            None,
        );
    }
    if manifest.scopes.is_empty() {
        reader.wrong("/scopes", "at least one scope must be offered", None);
    }
    for (scope, word) in &manifest.scopes {
        let at = format!("/scopes/{scope}");
        match word.is_object().then(|| Tree::parse(word.clone())) {
            Some(Ok(tree)) => tree
                .texts()
                .iter()
                .for_each(|(_, text)| variables(reader, &at, text, &names(manifest, &["params"]))),
            Some(Err(error)) => reader.wrong(&at, error.to_string(), None),
            None => {}
        }
    }
    let absent = manifest.list.is_none() || manifest.revoke.is_none();
    if manifest.create.is_some() && absent && vendor.class < 4 {
        let fix = "add them, or say `class = 5`".to_owned();
        reader.wrong(
            "/vendor/class",
            "classes 1 to 3 need both `[list]` and `[revoke]`",
            Some(fix),
        );
    }
}

/// Class 1 promises that the same request, sent again, makes no second key.
fn repeats(manifest: &Manifest, reader: &mut Reader<'_>) {
    let Some(create) = manifest.create.as_ref().filter(|_| manifest.vendor.class == 1) else {
        return;
    };
    let remembered = matches!(&create.idempotency, Idempotency::Header { window_s: Some(window), .. } if *window >= 60);
    if !remembered {
        let message =
            "class 1 needs `idempotency = { mode = \"header\", name, window_s }`, and a window of a minute or more";
        reader.wrong("/create/idempotency", message, None);
    }
    if create.generate.is_some() {
        let message = "a request with a secret of ours cannot be repeated: another would be drawn";
        reader.wrong("/create/generate", message, Some("say `class = 2`".to_owned()));
    }
}

fn hosts(manifest: &Manifest, reader: &mut Reader<'_>) {
    let http = &manifest.http;
    if http.hosts.is_empty() {
        reader.wrong("/http/hosts", "at least one host must be named", None);
    }
    for (index, host) in http.hosts.iter().enumerate() {
        let path = format!("/http/hosts/{index}");
        variables(reader, &path, host, &names(manifest, &["params"]));
        if !is_host(&sample(host)) {
            let message = format!(
                "`{}` is not an exact host, such as `api.vendor.com` or `api.vendor.com:8443`",
                host.source()
            );
            reader.wrong(&path, message, None);
        }
    }
    variables(reader, "/http/base", &http.base, &names(manifest, &["params"]));
    let base = Url::parse(&sample(&http.base)).ok();
    let https = base
        .as_ref()
        .is_some_and(|url| url.scheme() == "https" || native::speaks(url.scheme()));
    let plain = base
        .as_ref()
        .is_some_and(|url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
    if !https || !plain || http.base.source().ends_with('/') {
        let message =
            "the base is an address of `https`, `postgresql` or `redis`, without query, user name or `/` at its end";
        reader.wrong("/http/base", message, None);
    }
    let authority = http
        .base
        .source()
        .split_once("://")
        .and_then(|(_, rest)| rest.split('/').next());
    if !http.hosts.iter().any(|host| Some(host.source()) == authority) {
        reader.wrong("/http/base", "the base's host is not among `hosts`", None);
    }
    headers(reader, "/http/headers", &http.headers, &names(manifest, &["params"]));
}

/// A text with every variable replaced by a harmless word, to see whether the rest has its form.
fn sample(text: &Text) -> String {
    use super::template::Piece;
    let word = |piece: &Piece| match piece {
        Piece::Fixed(fixed) => fixed.clone(),
        Piece::Variable(_) => "x".to_owned(),
    };
    text.pieces().iter().map(word).collect()
}

/// `host` or `host:port`, in the one spelling that URLs use.
pub(super) fn is_host(text: &str) -> bool {
    let url = format!("https://{text}/");
    let same = |url: &Url| url.as_str() == format!("https://{text}/");
    !text.is_empty()
        && !text.contains(['/', '@', '?', '#', '*', '\\', '%'])
        && Url::parse(&url).is_ok_and(|url| same(&url))
}

fn root(manifest: &Manifest, reader: &mut Reader<'_>) {
    let known = names(manifest, &["root"]);
    match &manifest.root.auth {
        Auth::Bearer { value } => variables(reader, "/root/auth/value", value, &known),
        Auth::Basic { user, password } => {
            variables(reader, "/root/auth/user", user, &names(manifest, &["root", "params"]));
            variables(reader, "/root/auth/password", password, &known);
        }
        Auth::Header { headers: named } => {
            headers(
                reader,
                "/root/auth/headers",
                named,
                &names(manifest, &["root", "params"]),
            );
        }
        Auth::Query { params } => {
            for (name, text) in params {
                variables(reader, &format!("/root/auth/params/{name}"), text, &known);
            }
        }
        Auth::Login(login) => check_login(manifest, reader, login),
        Auth::Jwt(shown) => {
            signing::assertion(manifest, reader, &shown.assertion);
            if !shown.format.contains("{token}") || !good_header(&shown.header) {
                let message = "the token needs a header that may be set and `{token}` in its format";
                reader.wrong("/root/auth/format", message, None);
            }
        }
        Auth::None {} => {}
    }
    if manifest.root.fields.is_empty() {
        reader.wrong("/root/fields", "a root credential has at least one field", None);
    }
}

fn check_login(manifest: &Manifest, reader: &mut Reader<'_>, login: &Login) {
    let mut known = names(manifest, &["root", "params"]);
    if let Some(signed) = &login.assertion {
        signing::assertion(manifest, reader, signed);
        known.push("assertion".to_owned());
    }
    let params = names(manifest, &["params"]);
    place(manifest, reader, "/root/auth/url", &login.url, &params);
    for (pointer, text) in login.body.iter().flat_map(Tree::texts) {
        variables(reader, &format!("/root/auth/body{pointer}"), text, &known);
    }
    headers(reader, "/root/auth/headers", &login.headers, &known);
    if let Some(pair) = &login.basic {
        variables(reader, "/root/auth/basic/user", &pair.user, &known);
        variables(reader, "/root/auth/basic/password", &pair.password, &known);
    }
    if !login.format.contains("{token}") || !good_header(&login.header) {
        let message = "the token needs a header that may be set and `{token}` in its format";
        reader.wrong("/root/auth/format", message, None);
    }
}

/// A path after the base, or an address on one of the hosts.
fn place(manifest: &Manifest, reader: &mut Reader<'_>, path: &str, text: &Text, known: &[String]) {
    variables(reader, path, text, known);
    let source = text.source();
    let stepping = source.split('/').any(template::steps);
    let elsewhere = source
        .strip_prefix("https://")
        .map(|rest| rest.split('/').next().unwrap_or_default());
    let known_host = elsewhere.is_none_or(|host| manifest.http.hosts.iter().any(|known| known.source() == host));
    if !known_host {
        let hosts = manifest.http.hosts.iter().map(Text::source);
        let fix = suggestion(elsewhere.unwrap_or_default(), hosts);
        reader.wrong(path, "the host of this address is not among `http.hosts`", fix);
    }
    let begins = source.starts_with('/') || elsewhere.is_some();
    if !begins || stepping || sample(text).contains(['?', '#', '\\', ' ']) {
        let message = "a path begins with `/` (or `https://` and one of the hosts) and has no query, no step up and no \
                       space";
        reader.wrong(path, message, None);
    }
}

fn calls(manifest: &Manifest, reader: &mut Reader<'_>) {
    let mut each = |call: Option<Call<'_>>, own: &[&str]| {
        if let Some(call) = call {
            check_call(manifest, reader, &call, own);
        }
    };
    let made = [
        "name",
        "expires",
        "scopes",
        "scope",
        "budget.usd",
        "idempotency_key",
        "generated",
        "now",
    ];
    let parts = parts(manifest);
    let one = |names: &[&'static str]| {
        names
            .iter()
            .copied()
            .chain(parts.iter().map(String::as_str))
            .collect::<Vec<_>>()
    };
    let calling = manifest.create.as_ref().filter(|create| create.sign.is_none());
    each(calling.map(Call::from), &made);
    each(manifest.list.as_ref().map(Call::from), &[]);
    each(manifest.revoke.as_ref().map(Call::from), &one(&["id", "secret"]));
    each(manifest.probe.as_ref().map(Call::from), &one(&["secret"]));
    let renewing = manifest.rotate.as_ref().and_then(|rotate| rotate.call.as_ref());
    each(
        renewing.map(Call::from),
        &one(&["id", "secret", "overlap", "overlap_ms"]),
    );
    let root = manifest.root.rotate.as_ref();
    each(root.and_then(|table| table.who.as_ref()).map(Call::from), &[]);
    each(
        root.map(|table| Call::from(&table.call)),
        &["id", "name", "overlap", "overlap_ms"],
    );
    each(root.and_then(|table| table.end.as_ref()).map(Call::from), &["id"]);
    let after = manifest.create.iter().flat_map(|create| &create.then);
    let before = manifest.revoke.iter().flat_map(|revoke| &revoke.first);
    for step in after {
        each(
            Some(Call::from(step)),
            &one(&["id", "secret", "name", "expires", "scopes", "scope"]),
        );
    }
    for step in before {
        each(Some(Call::from(step)), &one(&["id", "secret"]));
    }
    let empty_ok = [
        ("/create/ok", calling.map(|table| &table.ok)),
        ("/list/ok", manifest.list.as_ref().map(|table| &table.ok)),
        ("/revoke/ok", manifest.revoke.as_ref().map(|table| &table.ok)),
        ("/probe/ok", manifest.probe.as_ref().map(|table| &table.ok)),
        ("/rotate/call/ok", renewing.map(|table| &table.ok)),
    ];
    for (path, ok) in empty_ok {
        if ok.is_some_and(|ok| ok.is_empty() || ok.iter().any(|status| !(200..300).contains(status))) {
            reader.wrong(path, "`ok` lists statuses from 200 to 299", None);
        }
    }
}

fn check_call(manifest: &Manifest, reader: &mut Reader<'_>, call: &Call<'_>, own: &[&str]) {
    let table = call.table;
    let mut plain = names(manifest, &["params"]);
    plain.extend(own.iter().map(|name| (*name).to_owned()));
    let path = format!("/{table}/path");
    place(manifest, reader, &path, call.path, &plain);
    for (key, text) in call.query {
        variables(reader, &format!("/{table}/query/{key}"), text, &plain);
    }
    headers(reader, &format!("/{table}/headers"), call.headers, &plain);
    let mut in_body = plain;
    in_body.extend(names(manifest, &["root"]));
    for (pointer, text) in call.body.map(Tree::texts).unwrap_or_default() {
        variables(reader, &format!("/{table}/body{pointer}"), text, &in_body);
    }
}

fn create(manifest: &Manifest, reader: &mut Reader<'_>) {
    let Some(create) = &manifest.create else { return };
    let call = Call::from(create);
    key(create, reader);
    match &create.sign {
        Some(signed) => signing::create(manifest, reader, create, signed),
        None if create.path.source().is_empty() => reader.wrong("/create", "missing field `path`", None),
        None => {}
    }
    if !call.uses("name") && manifest.vendor.class < 3 {
        reader.wrong("/create", "classes 1 and 2 give each key its `${name}`", None);
    }
    let in_body = create.body.iter().flat_map(Tree::texts);
    let in_query = create
        .query
        .iter()
        .map(|(key, text)| (format!("/{key}"), text))
        .map(|(at, text)| (at, text, "query"));
    for (at, text, part) in in_body.map(|(at, text)| (at, text, "body")).chain(in_query) {
        if text.variables().any(|variable| variable.name == "name") && text.source() != "${name}" {
            let message = "`${name}` stands alone, so that the key is found by it again; `create.name` shapes it";
            reader.wrong(&format!("/create/{part}{at}"), message, None);
        }
    }
    match (manifest.expiry.unit, call.uses("expires")) {
        (ExpiryUnit::None, true) => reader.wrong("/expiry", "`${expires}` is used but no unit is given", None),
        (ExpiryUnit::None, false) | (_, true) => {}
        (_, false) => reader.wrong(
            "/expiry/unit",
            "a unit is given but `${expires}` is not used in `[create]`",
            None,
        ),
    }
    if create.name.max < 24 {
        reader.wrong("/create/name/max", "24 characters are needed to tell keys apart", None);
    }
    let used = ["scopes", "scope"].into_iter().any(|name| call.uses(name));
    if let Some((scope, _)) = manifest.scopes.iter().find(|(_, value)| !used && !is_empty(value)) {
        let message = "the vendor's word for a scope is given, but `[create]` uses neither `${scopes}` nor `${scope}`";
        reader.wrong(&format!("/scopes/{scope}"), message, None);
    }
}

/// Where a made key and its id come from: each from one place.
fn key(create: &CreateTable, reader: &mut Reader<'_>) {
    let from = [
        create.secret.is_some(),
        !create.fields.is_empty(),
        create.generate.is_some(),
        create.sign.is_some(),
    ];
    let drawn_field = create.generate.is_some() && !create.fields.is_empty() && create.secret.is_none();
    if from.iter().filter(|given| **given).count() != 1 && !drawn_field {
        let message = "the key comes from one of `secret`, `fields`, `generate` and `sign`";
        reader.wrong("/create/secret", message, None);
    }
    if create
        .generate
        .as_ref()
        .is_some_and(|generate| !(24..=128).contains(&generate.length))
    {
        reader.wrong(
            "/create/generate/length",
            "a secret of ours has 24 to 128 characters",
            None,
        );
    }
    if create.generate.is_some() != Call::from(create).uses("generated") {
        reader.wrong("/create/generate", "`generate` and `${generated}` go together", None);
    }
    let waits = |poll: &Poll| poll.every_ms.saturating_mul(u64::from(poll.tries));
    if create
        .poll
        .as_ref()
        .is_some_and(|poll| poll.every_ms == 0 || waits(poll) > 20_000)
    {
        let fix = Some("make `every_ms` times `tries` at most 20000".to_owned());
        let message = "a promise is waited for at most 20 seconds: a creation counts as abandoned after 30";
        reader.wrong("/create/poll", message, fix);
    }
    if (create.id_from == IdFrom::Answer) != create.id.is_some() {
        let fix = Some("give `id`, or say `id_from = \"list\"`, `\"name\"` or `\"secret\"`".to_owned());
        reader.wrong("/create/id", "the id of a key comes from one place", fix);
    }
}

/// The variables of a key of several fields.
fn parts(manifest: &Manifest) -> Vec<String> {
    let fields = manifest.create.iter().flat_map(|create| create.fields.keys());
    fields.map(|name| format!("secret.{name}")).collect()
}

/// `{}` and `null` stand for a scope the vendor has no word for.
pub(super) fn is_empty(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

fn revoke(manifest: &Manifest, reader: &mut Reader<'_>) {
    let Some(revoke) = &manifest.revoke else { return };
    let call = Call::from(revoke);
    let part = parts(manifest).iter().any(|part| call.uses(part));
    if revoke.as_ == As::Root && !call.uses("id") && !call.uses("secret") && !part {
        reader.wrong(
            "/revoke",
            "which key is to end must be said with `${id}` or `${secret}`",
            None,
        );
    }
}

fn proxy(manifest: &Manifest, reader: &mut Reader<'_>) {
    let known: BTreeSet<&str> = manifest.http.hosts.iter().map(Text::source).collect();
    for (index, host) in manifest.proxy.hosts.iter().enumerate() {
        if !known.contains(host.source()) {
            let fix = suggestion(host.source(), known.iter().copied());
            let message = format!(
                "a key would be sent to `{}`, which is not among `http.hosts`",
                host.source()
            );
            reader.wrong(&format!("/proxy/hosts/{index}"), message, fix);
        }
    }
    if manifest.proxy.hosts.is_empty() || manifest.proxy.inject.is_empty() {
        reader.wrong(
            "/proxy",
            "at least one host and one place for the key must be named",
            None,
        );
    }
    let known: BTreeSet<&str> = match &manifest.create {
        Some(create) if !create.fields.is_empty() => create.fields.keys().map(String::as_str).collect(),
        None if manifest.root.fields.len() > 1 => manifest.root.fields.keys().map(String::as_str).collect(),
        _ => BTreeSet::from(["secret"]),
    };
    let has = |format: &str| placeholders(format).any(|name| known.contains(name));
    let strange = |format: &str| placeholders(format).any(|name| !known.contains(name));
    for (index, slot) in manifest.proxy.inject.iter().enumerate() {
        let (carries, named) = match slot {
            Slot::Header { name, format } => (has(format) && !strange(format), good_header(name)),
            Slot::Query { name, format } => (has(format) && !strange(format), !name.is_empty()),
            Slot::Basic { user, password } => (
                (has(user) || has(password)) && !strange(user) && !strange(password),
                true,
            ),
        };
        if !carries || !named {
            let names = known
                .iter()
                .map(|name| format!("`{{{name}}}`"))
                .collect::<Vec<_>>()
                .join(" or ");
            let message = format!("a place for the key needs a name that may be set and {names} in its format");
            reader.wrong(&format!("/proxy/inject/{index}"), message, None);
        }
    }
    let rules = [("allow", &manifest.proxy.allow), ("deny", &manifest.proxy.deny)];
    for (list, index, rule) in rules.into_iter().flat_map(|(list, rules)| {
        let numbered = rules.iter().enumerate();
        numbered.map(move |(index, rule)| (list, index, rule))
    }) {
        let method = rule
            .method
            .as_deref()
            .is_none_or(|method| method == method.to_uppercase() && Method::from_bytes(method.as_bytes()).is_ok());
        if !rule.path.starts_with('/') || !method {
            let message = "a rule has a path that begins with `/` and a method in capitals";
            reader.wrong(&format!("/proxy/{list}/{index}"), message, None);
        }
        let unknown = rule
            .scope
            .as_ref()
            .filter(|scope| !manifest.scopes.contains_key(*scope));
        if let Some(scope) = unknown {
            let known = manifest.scopes.keys().map(crate::model::scope::Scope::as_str);
            let fix = suggestion(scope.as_str(), known);
            let message = format!("`{scope}` is not among the scopes");
            reader.wrong(&format!("/proxy/{list}/{index}/scope"), message, fix);
        }
    }
}

fn mock(manifest: &Manifest, reader: &mut Reader<'_>) {
    for (index, route) in manifest.mock.routes.iter().enumerate() {
        if let Some(scope) = route
            .scope
            .as_ref()
            .filter(|scope| !manifest.scopes.contains_key(*scope))
        {
            let fix = suggestion(
                scope.as_str(),
                manifest.scopes.keys().map(crate::model::scope::Scope::as_str),
            );
            reader.wrong(
                &format!("/mock/routes/{index}/scope"),
                format!("`{scope}` is not among the scopes"),
                fix,
            );
        }
    }
}

fn headers(reader: &mut Reader<'_>, path: &str, headers: &BTreeMap<String, Text>, known: &[String]) {
    for (name, text) in headers {
        let place = format!("{path}/{name}");
        if !good_header(name) {
            reader.wrong(&place, format!("`{name}` is not a header that may be set"), None);
        }
        if text.source().chars().any(char::is_control) {
            reader.wrong(
                &place,
                "a header's value holds no line break and no other control character",
                None,
            );
        }
        variables(reader, &place, text, known);
    }
}

/// Headers that say where a message ends or goes belong to the client.
fn good_header(name: &str) -> bool {
    let own = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
    ];
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !own.contains(&name.as_str()))
}

fn variables(reader: &mut Reader<'_>, path: &str, text: &Text, known: &[String]) {
    for variable in text.variables() {
        if !known.contains(&variable.name) {
            let fix = suggestion(&variable.name, known.iter().map(String::as_str));
            reader.wrong(path, format!("`${{{}}}` does not exist here", variable.name), fix);
        }
    }
}

/// The variables of the given families.
fn names(manifest: &Manifest, families: &[&str]) -> Vec<String> {
    let params = manifest.params.keys().map(|key| format!("params.{key}"));
    let root = manifest.root.fields.keys().map(|key| format!("root.{key}"));
    let belongs = |name: &String| families.iter().any(|family| name.starts_with(family));
    params.chain(root).filter(belongs).collect()
}
