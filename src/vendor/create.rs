//! Making a key at a vendor: one call, what its answer means, and the calls that belong to it. Nothing is repeated.

use std::time::Duration;

use serde_json::Value;

use super::adapter::{Declared, other, secrets};
use super::answer::{failure, is_something, json, succeeded, unreadable};
use super::call::{Call, Proof, no_texts};
use super::check::is_empty;
use super::expiry;
use super::inject::{fields, is_usable, key_is_id};
use super::jwt::Signer;
use super::made::{self, IdFrom, Poll, Step};
use super::tables::{As, CreateTable, Encoding, Idempotency, Verb};
use super::template::{Tree, Values, Wiped};
use super::{CreateAsk, Created, Existence, FailureClass, RootSecret, VendorError, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::egress::{Egress, Incoming};
use crate::base::money::Currency;
use crate::base::random::Random;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::Scope;

impl Declared {
    pub(super) async fn create(
        &self,
        egress: &Egress,
        root: &RootSecret,
        ask: &CreateAsk,
        random: &dyn Random,
        heard: impl AsyncFnOnce(Digest, Option<String>),
    ) -> Result<Created, VendorFailure> {
        let table = self.manifest.create.as_ref().ok_or_else(|| self.cannot("make keys"))?;
        if let Some(signer) = &table.sign {
            let created = self.signed(root, table, signer, ask)?;
            heard(created.answer, Some(created.vendor_key_id.clone())).await;
            return Ok(created);
        }
        let drawn = table.generate.as_ref().map(|generate| generate.draw(random));
        let (mut values, expires) = self.create_values(table, root, ask)?;
        if let Some(drawn) = &drawn {
            values = values.secret("generated", drawn);
        }
        self.paced(root).await?;
        let login = self.login(egress, root).await?;
        let proof = Proof::Root(login.as_deref());
        let mut outgoing = self.request(&Call::from(table), root, proof, &values)?;
        if let Idempotency::Header { name, .. } = &table.idempotency {
            let value = ask.idempotency_key.parse().ok();
            let pair = name.parse::<http::HeaderName>().ok().zip(value);
            let (name, value) = pair.ok_or_else(|| VendorFailure::refused("the idempotency key cannot be sent"))?;
            outgoing.headers.insert(name, value);
        }
        let incoming = self.send(egress, root, As::Root, outgoing).await?;
        let early = early_id(table, json(&incoming).as_ref(), &self.shape(&ask.name));
        if (200..300).contains(&incoming.status) {
            heard(Digest::of(&incoming.body), early.clone()).await;
        }
        let made = self.made(egress, root, table, &incoming, early, (ask, &values)).await?;
        let created = Created {
            vendor_expires: made.vendor_expires.or(expires),
            ..made
        };
        self.after(egress, root, table, values, &created).await?;
        Ok(created)
    }

    /// A key that is a token signed here: the vendor hears of it when it is used.
    fn signed(
        &self,
        root: &RootSecret,
        table: &CreateTable,
        signer: &Signer,
        ask: &CreateAsk,
    ) -> Result<Created, VendorFailure> {
        let (values, vendor_expires) = self.create_values(table, root, ask)?;
        let values = values.with("now", ask.now.as_millis().div_euclid(1000));
        let body = table.body.as_ref().ok_or_else(|| self.cannot("make keys"))?;
        let values = signer.with_fingerprint(values, body);
        let claims = Wiped(body.render(&values).map_err(VendorError::from)?.unwrap_or_default());
        let secret = signer.token(&values, &claims.0)?;
        if !is_usable(&secret) {
            return Err(VendorFailure::refused("the signed key is too long to be kept"));
        }
        let vendor_key_id = match table.id_from {
            IdFrom::Name => self.shape(&ask.name),
            _ => key_is_id(&secret),
        };
        // Nobody answered; the digest of what was signed stands for it.
        let answer = Digest::of(claims.0.to_string().as_bytes());
        Ok(Created {
            secret,
            vendor_key_id,
            vendor_expires,
            answer,
        })
    }

    /// The calls that follow a creation. A key whose rights are not all set is no key: it is ended.
    async fn after(
        &self,
        egress: &Egress,
        root: &RootSecret,
        table: &CreateTable,
        values: Values<'_>,
        created: &Created,
    ) -> Result<(), VendorFailure> {
        if table.then.is_empty() {
            return Ok(());
        }
        let parts = fields(&created.secret);
        let named = values.with("id", created.vendor_key_id.as_str());
        let named = secrets(named, &created.secret, &parts);
        for step in &table.then {
            let left = |mut failure: VendorFailure| {
                failure.created = Existence::Yes(created.vendor_key_id.clone());
                failure
            };
            self.step(egress, root, step, &named, Some(&created.secret))
                .await
                .map_err(left)?;
        }
        Ok(())
    }

    /// One further call; its answer is only judged.
    pub(super) async fn step(
        &self,
        egress: &Egress,
        root: &RootSecret,
        step: &Step,
        values: &Values<'_>,
        secret: Option<&SecretText>,
    ) -> Result<(), VendorFailure> {
        let login = self.login(egress, root).await?;
        let proof = self.proof(step.as_, secret, login.as_deref())?;
        let outgoing = self.request(&Call::from(step), root, proof, values)?;
        let incoming = self.send(egress, root, step.as_, outgoing).await.map_err(other)?;
        let body = json(&incoming);
        if step.ok.contains(&incoming.status) && succeeded(&self.manifest, body.as_ref()) {
            return Ok(());
        }
        Err(other(failure(&self.manifest, &incoming, body.as_ref())))
    }

    /// Reads the answer to a creation. The digest of the raw body and the id were told to the caller before, so that
    /// whatever is wrong further on the key can be ended.
    async fn made(
        &self,
        egress: &Egress,
        root: &RootSecret,
        table: &CreateTable,
        incoming: &Incoming,
        early: Option<String>,
        (ask, values): (&CreateAsk, &Values<'_>),
    ) -> Result<Created, VendorFailure> {
        let first = json(incoming);
        if !table.ok.contains(&incoming.status) || !succeeded(&self.manifest, first.as_ref()) {
            let mut failure = failure(&self.manifest, incoming, first.as_ref());
            if let Some(id) = early.filter(|_| (200..300).contains(&incoming.status)) {
                failure.created = Existence::Yes(id);
            }
            return Err(failure);
        }
        let left = early.map_or(Existence::Maybe, Existence::Yes);
        let unread = |left: &Existence| unreadable(&self.manifest, incoming.status, left.clone());
        let body = match &table.poll {
            None => first,
            Some(poll) => Some(self.polled(egress, root, poll, first.as_ref(), &left).await?),
        };
        // A vendor that takes our secret need not answer anything.
        let body = body.or_else(|| table.generate.is_some().then(|| Wiped(Value::Null)));
        let body = body.ok_or_else(|| unread(&left))?;
        // One that cannot be kept or put into a request is as good as none.
        let secret = made::secret(table, &body.0, values).filter(is_usable);
        let secret = secret.ok_or_else(|| unread(&left))?;
        let vendor_key_id = match (left, table.id_from) {
            (Existence::Yes(id), _) => id,
            (_, IdFrom::Secret) => key_is_id(&secret),
            (left, IdFrom::List) => self
                .listed(egress, root, &ask.name)
                .await
                .ok_or_else(|| unread(&left))?,
            (left, _) => table
                .id
                .as_ref()
                .and_then(|id| id.text(&body.0))
                .ok_or_else(|| unread(&left))?,
        };
        let unit = table.expires_unit.unwrap_or(self.manifest.expiry.unit);
        let said = table.expires.as_ref().and_then(|pointer| pointer.get(&body.0));
        Ok(Created {
            secret,
            vendor_key_id,
            vendor_expires: said.and_then(|value| expiry::read(unit, value, ask.now)),
            answer: Digest::of(&incoming.body),
        })
    }

    /// The id of a key that was just made, by its name; `None` unless exactly one key has it.
    async fn listed(&self, egress: &Egress, root: &RootSecret, name: &str) -> Option<String> {
        let wanted = self.shape(name);
        let found = self.pages(egress, root, |found| found == wanted).await.ok()?;
        match found.as_slice() {
            [only] => Some(only.vendor_key_id.clone()),
            _ => None,
        }
    }

    /// Asks until a promised answer is there.
    async fn polled(
        &self,
        egress: &Egress,
        root: &RootSecret,
        poll: &Poll,
        first: Option<&Wiped>,
        left: &Existence,
    ) -> Result<Wiped, VendorFailure> {
        let later = |mut failure: VendorFailure| {
            failure.created = left.clone();
            failure
        };
        let promised = first.and_then(|body| poll.from.text(&body.0));
        let promised = promised.ok_or_else(|| unreadable(&self.manifest, 202, left.clone()))?;
        // Google's promises are paths; the last segment names them.
        let promised = promised.rsplit('/').next().unwrap_or_default();
        let values = root.values().with("poll", promised);
        let call = Call {
            table: "create.poll",
            verb: Verb::Get,
            path: &poll.path,
            query: no_texts(),
            headers: no_texts(),
            encoding: Encoding::Json,
            body: None,
        };
        for _ in 0..poll.tries {
            let login = self.login(egress, root).await.map_err(later)?;
            let outgoing = self
                .request(&call, root, Proof::Root(login.as_deref()), &values)
                .map_err(later)?;
            let incoming = self.send(egress, root, As::Root, outgoing).await.map_err(later)?;
            let body = json(&incoming);
            if !(200..300).contains(&incoming.status) || !succeeded(&self.manifest, body.as_ref()) {
                return Err(later(failure(&self.manifest, &incoming, body.as_ref())));
            }
            if let Some(body) = body.filter(|body| poll.done.get(&body.0).is_some_and(is_something)) {
                return Ok(body);
            }
            tokio::time::sleep(Duration::from_millis(poll.every_ms)).await;
        }
        Err(later(self.incomplete(FailureClass::Retryable, "is still being made")))
    }

    pub(super) fn create_values<'r>(
        &self,
        table: &CreateTable,
        root: &'r RootSecret,
        ask: &CreateAsk,
    ) -> Result<(Values<'r>, Option<Timestamp>), VendorFailure> {
        let words = self.scope_words(&ask.scopes, &root.values())?;
        let single = if let [word] = words.as_slice() {
            Some(word.clone())
        } else {
            None
        };
        let expires = self.expiry(ask)?;
        let sent = expiry::sent(self.manifest.expiry.unit, ask.now, expires);
        let known = sent
            .as_ref()
            .and_then(|value| expiry::read(self.manifest.expiry.unit, value, ask.now));
        let values = root
            .values()
            .with("name", self.shape(&ask.name))
            .with("idempotency_key", ask.idempotency_key.as_str())
            .maybe("expires", sent)
            .maybe("scopes", (!words.is_empty()).then_some(Value::Array(words)))
            .maybe("scope", single)
            .maybe("budget.usd", self.budget(table, ask)?);
        Ok((values, known))
    }

    /// The vendor's words for the scopes; a list stands for several, and a table may name parameters.
    fn scope_words(&self, scopes: &[Scope], values: &Values<'_>) -> Result<Vec<Value>, VendorFailure> {
        let mut words = Vec::new();
        for scope in scopes {
            match self.manifest.scopes.get(scope) {
                None => {
                    return Err(VendorFailure::refused(format!(
                        "`{scope}` is not a scope of {}",
                        self.manifest.title()
                    )));
                }
                Some(Value::Array(several)) => words.extend(several.iter().cloned()),
                Some(word) if is_empty(word) => {}
                Some(word @ Value::Object(_)) => {
                    let filled = Tree::parse(word.clone()).and_then(|tree| tree.render(values));
                    words.extend(filled.map_err(VendorError::from)?);
                }
                Some(word) => words.push(word.clone()),
            }
        }
        if scopes.is_empty() {
            return Err(VendorFailure::refused("a key is made for at least one scope"));
        }
        Ok(words)
    }

    fn expiry(&self, ask: &CreateAsk) -> Result<Timestamp, VendorFailure> {
        let table = &self.manifest.expiry;
        let longest = table.max_s.map_or(i64::MAX, |max_s| max_s);
        if ask.expires <= ask.now || ask.expires.since(ask.now).as_secs() > longest {
            return Err(VendorFailure::refused(
                "the key would end in the past or live longer than the vendor allows",
            ));
        }
        let earliest = ask.now.plus(Ttl::from_secs(table.min_s.unwrap_or(0)));
        Ok(ask.expires.max(earliest))
    }

    /// A limit that cannot be set must not be taken for one that holds.
    fn budget(&self, table: &CreateTable, ask: &CreateAsk) -> Result<Option<Value>, VendorFailure> {
        let Some(cap) = ask.cost_cap else { return Ok(None) };
        if !Call::from(table).uses("budget.usd") || cap.currency() != Currency::Usd {
            return Err(VendorFailure::refused(format!(
                "{} cannot limit what a key costs in this currency",
                self.manifest.title()
            )));
        }
        let (whole, fraction) = (cap.atomic() / 1_000_000, cap.atomic() % 1_000_000);
        let number: Option<serde_json::Number> = format!("{whole}.{fraction:06}")
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64);
        Ok(number.map(Value::Number))
    }
}

/// The id in the answer to a creation, or the name where that is the id.
fn early_id(table: &CreateTable, body: Option<&Wiped>, name: &str) -> Option<String> {
    match table.id_from {
        IdFrom::Answer => table.id.as_ref()?.text(&body?.0),
        IdFrom::Name => Some(name.to_owned()),
        IdFrom::List | IdFrom::Secret => None,
    }
}
