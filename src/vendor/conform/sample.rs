//! Every request that a manifest makes, from sample inputs.

use std::sync::Arc;

use http::HeaderMap;

use super::super::adapter::Declared;
use super::super::call::{Call, Proof, no_texts};
use super::super::inject::{authorize_login, fields, pack_root};
use super::super::login::Logins;
use super::super::made::Source;
use super::super::manifest::Manifest;
use super::super::tables::{As, Auth, Encoding, Verb};
use super::super::template::Values;
use super::super::{CreateAsk, RootSecret, VendorFailure};
use super::Case;
use crate::base::secret::SecretText;
use crate::base::time::{SystemClock, Timestamp, Ttl};

/// Everything that stands in for what only a real life brings.
struct Sample {
    adapter: Declared,
    root: RootSecret,
    secret: SecretText,
    login: SecretText,
    ask: CreateAsk,
}

/// The requests, each with the places that are read from its answer.
pub(super) fn cases(manifest: &Manifest) -> Result<Vec<Case>, VendorFailure> {
    let sample = Sample::of(manifest)?;
    let mut cases = Vec::new();
    create(manifest, &sample, &mut cases)?;
    list(manifest, &sample, &mut cases)?;
    revoke(manifest, &sample, &mut cases)?;
    if let Some(table) = &manifest.probe {
        let parts = fields(&sample.secret);
        let values = super::super::adapter::secrets(sample.root.values(), &sample.secret, &parts);
        cases.push(sample.case("probe", &Call::from(table), table.as_, &values)?);
    }
    login(manifest, &sample, &mut cases)?;
    Ok(cases)
}

impl Sample {
    fn of(manifest: &Manifest) -> Result<Self, VendorFailure> {
        let facts = manifest.facts();
        let params: Vec<_> = facts
            .params
            .iter()
            .map(|field| (field.name.clone(), field.sample.clone()))
            .collect();
        let root_fields = facts
            .root_fields
            .iter()
            .map(|field| {
                let key = manifest.example_key(&field.name);
                let text = key.unwrap_or_else(|| format!("{}sample", field.prefix));
                (field.name.clone(), SecretText::new(text))
            })
            .collect();
        let now = Timestamp::from_secs(1_795_204_800);
        let part = |source: &Source| match source {
            Source::Answer(_) | Source::Text(_) => "sample".to_owned(),
        };
        let parts = manifest.create.iter().flat_map(|create| &create.fields);
        let parts: serde_json::Map<_, _> = parts
            .map(|(name, source)| (name.clone(), part(source).into()))
            .collect();
        let secret = if parts.is_empty() {
            format!("{}sample", manifest.mock.secret_prefix)
        } else {
            serde_json::Value::Object(parts).to_string()
        };
        Ok(Self {
            adapter: Declared {
                manifest: Arc::new(manifest.clone()),
                logins: Logins::new(Arc::new(SystemClock::default())),
            },
            root: RootSecret::unpack(pack_root(manifest, None, &params, root_fields)?)?,
            secret: SecretText::new(secret),
            login: SecretText::new("login-sample".to_owned()),
            ask: CreateAsk {
                name: "dk-abcdefgh-aaaaaaaaaaaaaaaaaaaaaaaaaa-1".to_owned(),
                scopes: facts.scopes.into_iter().take(1).collect(),
                now,
                expires: now.plus(Ttl::from_mins(60)),
                cost_cap: facts.has_cap.then(|| "0.25 USD".parse().ok()).flatten(),
                idempotency_key: "0198c6f0-0000-7000-8000-000000000000".to_owned(),
            },
        })
    }

    fn case(&self, name: &str, call: &Call<'_>, who: As, values: &Values<'_>) -> Result<Case, VendorFailure> {
        let proof = match who {
            As::Root => Proof::Root(Some(&self.login)),
            As::Credential => Proof::Credential(&self.secret),
        };
        Ok(Case {
            name: name.to_owned(),
            outgoing: self.adapter.request(call, &self.root, proof, values)?,
            reads: Vec::new(),
        })
    }
}

fn create(manifest: &Manifest, sample: &Sample, cases: &mut Vec<Case>) -> Result<(), VendorFailure> {
    let Some(table) = manifest.create.as_ref().filter(|table| table.sign.is_none()) else {
        return Ok(());
    };
    let drawn = SecretText::new("x".repeat(table.generate.as_ref().map_or(0, |generate| generate.length)));
    let (values, _) = sample.adapter.create_values(table, &sample.root, &sample.ask)?;
    let values = values.secret("generated", &drawn);
    let mut case = sample.case("create", &Call::from(table), As::Root, &values)?;
    let own = [
        ("secret", &table.secret),
        ("id", &table.id),
        ("expires", &table.expires),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, pointer)| Some((name.to_owned(), pointer.as_ref()?.as_str().to_owned())));
    let several = table.fields.iter().filter_map(|(name, source)| match source {
        Source::Answer(pointer) => Some((format!("fields/{name}"), pointer.as_str().to_owned())),
        Source::Text(_) => None,
    });
    // What a promise brings stands in another operation's answer, which documents leave open.
    if let Some(poll) = &table.poll {
        case.reads.push(("poll/from".to_owned(), poll.from.as_str().to_owned()));
        let promised = sample.root.values().with("poll", "sample");
        let call = Call {
            table: "create.poll",
            verb: Verb::Get,
            path: &poll.path,
            query: no_texts(),
            headers: no_texts(),
            encoding: Encoding::Json,
            body: None,
        };
        let mut later = sample.case("create.poll", &call, As::Root, &promised)?;
        later.reads.extend(own.chain(several));
        cases.push(later);
    } else {
        case.reads.extend(own.chain(several));
    }
    cases.push(case);
    let parts = fields(&sample.secret);
    let (values, _) = sample.adapter.create_values(table, &sample.root, &sample.ask)?;
    let values = super::super::adapter::secrets(values.with("id", "sample-id"), &sample.secret, &parts);
    for (number, step) in table.then.iter().enumerate() {
        cases.push(sample.case(&format!("create.then/{number}"), &Call::from(step), step.as_, &values)?);
    }
    Ok(())
}

fn list(manifest: &Manifest, sample: &Sample, cases: &mut Vec<Case>) -> Result<(), VendorFailure> {
    let Some(table) = &manifest.list else { return Ok(()) };
    let mut case = sample.case("list", &Call::from(table), As::Root, &sample.root.values())?;
    case.outgoing.url = super::super::pages::first_url(&table.page, case.outgoing.url.clone());
    let item = |pointer: &str| format!("{}/0{pointer}", table.items.as_str());
    case.reads.push(("items".to_owned(), table.items.as_str().to_owned()));
    case.reads.push(("id".to_owned(), item(table.id.as_str())));
    case.reads.push(("name".to_owned(), item(table.name.as_str())));
    cases.push(case);
    Ok(())
}

fn revoke(manifest: &Manifest, sample: &Sample, cases: &mut Vec<Case>) -> Result<(), VendorFailure> {
    let Some(table) = &manifest.revoke else { return Ok(()) };
    let parts = fields(&sample.secret);
    let values = sample.root.values().with("id", "sample-id");
    let values = super::super::adapter::secrets(values, &sample.secret, &parts);
    for (number, step) in table.first.iter().enumerate() {
        cases.push(sample.case(&format!("revoke.first/{number}"), &Call::from(step), step.as_, &values)?);
    }
    cases.push(sample.case("revoke", &Call::from(table), table.as_, &values)?);
    Ok(())
}

/// A login on another host is usually in no document of the vendor's; it is looked at where the base's host has it.
fn login(manifest: &Manifest, sample: &Sample, cases: &mut Vec<Case>) -> Result<(), VendorFailure> {
    let Auth::Login(table) = &manifest.root.auth else {
        return Ok(());
    };
    let call = Call {
        table: "root.auth",
        verb: Verb::Post,
        path: &table.url,
        query: no_texts(),
        headers: &table.headers,
        encoding: table.encoding,
        body: table.body.as_ref(),
    };
    let values = sample.root.values().secret("assertion", &sample.login);
    let url = call.url(&sample.root, &values)?;
    if url.host() != sample.root.destination().base.host() {
        return Ok(());
    }
    let mut outgoing = call.unproven(manifest, url.clone(), &values)?;
    let mut headers = HeaderMap::new();
    authorize_login(manifest, &sample.root, table, &url, &mut headers)?;
    outgoing.headers.extend(headers);
    cases.push(Case {
        name: "login".to_owned(),
        outgoing,
        reads: vec![("token".to_owned(), table.token.as_str().to_owned())],
    });
    Ok(())
}
