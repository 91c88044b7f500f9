//! The adapter: makes, finds, probes and ends keys at one vendor.

use std::sync::Arc;

use serde_json::Value;

use super::answer::{failure, json, no_answer, succeeded, unreadable};
use super::call::{Call, Proof};
use super::check::is_empty;
use super::expiry;
use super::manifest::Manifest;
use super::pages::Pages;
use super::tables::{As, CreateTable, Idempotency, Shape};
use super::template::Values;
use super::{Alive, CreateAsk, Created, Existence, FailureClass, Found, Gone, RootSecret, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::egress::{Egress, Incoming, Outgoing};
use crate::base::id::base32_lower;
use crate::base::money::Currency;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::Scope;

/// The most pages of one list that are read. With 100 keys a page this is far beyond any vendor's cap.
const MAX_PAGES: usize = 1000;
/// How often a list is begun anew because keys moved between its pages.
const MAX_PASSES: usize = 4;

/// The adapter of one vendor. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// Runs a manifest.
    Declared(Declared),
}

/// Runs a manifest.
#[derive(Debug, Clone)]
pub struct Declared(pub(super) Arc<Manifest>);

impl Adapter {
    /// The adapter for a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self::Declared(Declared(Arc::new(manifest.clone())))
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        let Self::Declared(declared) = self;
        &declared.0
    }

    /// Makes a key. Never repeats.
    ///
    /// # Errors
    /// [`VendorFailure`], whose `created` says whether a key was left behind.
    pub async fn create(&self, egress: &Egress, root: &RootSecret, ask: &CreateAsk) -> Result<Created, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.create(egress, root, ask).await
    }

    /// All keys whose name is the one that `name` became when it was made, over all pages. Keeps ids and names only.
    ///
    /// # Errors
    /// [`VendorFailure`]; an incomplete list is an error, never a shorter one.
    pub async fn find(&self, egress: &Egress, root: &RootSecret, name: &str) -> Result<Vec<Found>, VendorFailure> {
        let Self::Declared(declared) = self;
        let wanted = declared.shape(name);
        declared.pages(egress, root, |found| found == wanted).await
    }

    /// All keys whose name begins with what `prefix` became when they were made, over all pages.
    ///
    /// # Errors
    /// As [`Adapter::find`].
    pub async fn list(&self, egress: &Egress, root: &RootSecret, prefix: &str) -> Result<Vec<Found>, VendorFailure> {
        let Self::Declared(declared) = self;
        let wanted = declared.shape(prefix);
        declared.pages(egress, root, |found| found.starts_with(&wanted)).await
    }

    /// Ends a key. `secret` is needed where the vendor asks for the key itself.
    ///
    /// # Errors
    /// [`VendorFailure`].
    pub async fn revoke(
        &self,
        egress: &Egress,
        root: &RootSecret,
        vendor_key_id: &str,
        secret: Option<&SecretText>,
    ) -> Result<Gone, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.revoke(egress, root, vendor_key_id, secret).await
    }

    /// Whether the vendor takes a key.
    ///
    /// # Errors
    /// [`VendorFailure`] when there is no answer.
    pub async fn probe(&self, egress: &Egress, root: &RootSecret, secret: &SecretText) -> Result<Alive, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.probe(egress, root, secret).await
    }

    /// Whether the root credential works: reads one page of the list.
    ///
    /// # Errors
    /// [`VendorFailure`], also where the vendor has no list.
    pub async fn test_root(&self, egress: &Egress, root: &RootSecret) -> Result<(), VendorFailure> {
        let Self::Declared(declared) = self;
        let mut pages = Pages::first(declared, root)?;
        pages.read(egress).await.map(drop)
    }
}

impl Declared {
    async fn create(&self, egress: &Egress, root: &RootSecret, ask: &CreateAsk) -> Result<Created, VendorFailure> {
        let table = self.0.create.as_ref().ok_or_else(|| self.cannot("make keys"))?;
        let (values, expires) = self.create_values(table, root, ask)?;
        let mut outgoing = self.request(&Call::from(table), root, Proof::Root, &values)?;
        if let Idempotency::Header { name } = &table.idempotency {
            let value = ask.idempotency_key.parse().ok();
            let pair = name.parse::<http::HeaderName>().ok().zip(value);
            let (name, value) = pair.ok_or_else(|| VendorFailure::refused("the idempotency key cannot be sent"))?;
            outgoing.headers.insert(name, value);
        }
        let incoming = egress.send(outgoing).await.map_err(|error| no_answer(&self.0, error))?;
        self.made(table, &incoming, ask.now, expires)
    }

    /// Reads the answer to a creation: the digest of the raw body and the id come before everything else, so that
    /// whatever is wrong further on the key can be ended.
    fn made(
        &self,
        table: &CreateTable,
        incoming: &Incoming,
        now: Timestamp,
        expires: Option<Timestamp>,
    ) -> Result<Created, VendorFailure> {
        let answer = Digest::of(&incoming.body);
        let body = json(incoming);
        let id = body.as_ref().and_then(|body| table.id.text(&body.0));
        if !table.ok.contains(&incoming.status) || !succeeded(&self.0, body.as_ref()) {
            let mut failure = failure(&self.0, incoming, body.as_ref());
            if let Some(id) = id.filter(|_| (200..300).contains(&incoming.status)) {
                failure.created = Existence::Yes(id);
            }
            return Err(failure);
        }
        let Some(vendor_key_id) = id else {
            return Err(unreadable(&self.0, incoming.status, Existence::Maybe));
        };
        let secret = body.as_ref().and_then(|body| table.secret.text(&body.0));
        let Some(secret) = secret.map(SecretText::new) else {
            return Err(unreadable(&self.0, incoming.status, Existence::Yes(vendor_key_id)));
        };
        let unit = table.expires_unit.unwrap_or(self.0.expiry.unit);
        let place = table.expires.as_ref().zip(body.as_ref());
        let said = place.and_then(|(pointer, body)| expiry::read(unit, pointer.get(&body.0)?, now));
        Ok(Created {
            secret,
            vendor_key_id,
            vendor_expires: said.or(expires),
            answer,
        })
    }

    fn create_values<'r>(
        &self,
        table: &CreateTable,
        root: &'r RootSecret,
        ask: &CreateAsk,
    ) -> Result<(Values<'r>, Option<Timestamp>), VendorFailure> {
        let words = self.scope_words(&ask.scopes)?;
        let single = if let [word] = words.as_slice() {
            Some(word.clone())
        } else {
            None
        };
        let expires = self.expiry(ask)?;
        let sent = expiry::sent(self.0.expiry.unit, ask.now, expires);
        let known = sent
            .as_ref()
            .and_then(|value| expiry::read(self.0.expiry.unit, value, ask.now));
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

    /// The vendor's words for the scopes; a list stands for several.
    fn scope_words(&self, scopes: &[Scope]) -> Result<Vec<Value>, VendorFailure> {
        let mut words = Vec::new();
        for scope in scopes {
            match self.0.scopes.get(scope) {
                None => {
                    return Err(VendorFailure::refused(format!(
                        "`{scope}` is not a scope of {}",
                        self.0.title()
                    )));
                }
                Some(Value::Array(several)) => words.extend(several.iter().cloned()),
                Some(word) if is_empty(word) => {}
                Some(word) => words.push(word.clone()),
            }
        }
        if scopes.is_empty() {
            return Err(VendorFailure::refused("a key is made for at least one scope"));
        }
        Ok(words)
    }

    fn expiry(&self, ask: &CreateAsk) -> Result<Timestamp, VendorFailure> {
        let table = &self.0.expiry;
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
                self.0.title()
            )));
        }
        let (whole, fraction) = (cap.atomic() / 1_000_000, cap.atomic() % 1_000_000);
        let number: Option<serde_json::Number> = format!("{whole}.{fraction:06}")
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64);
        Ok(number.map(Value::Number))
    }

    /// The name as the vendor takes it. Too long a name keeps its beginning, which all names of an instance share,
    /// and a digest of the whole.
    fn shape(&self, name: &str) -> String {
        match &self.0.create {
            Some(table) => shape(&table.name, name),
            None => name.to_owned(),
        }
    }

    async fn revoke(
        &self,
        egress: &Egress,
        root: &RootSecret,
        vendor_key_id: &str,
        secret: Option<&SecretText>,
    ) -> Result<Gone, VendorFailure> {
        let table = self.0.revoke.as_ref().ok_or_else(|| self.cannot("end keys"))?;
        let mut values = root.values().with("id", vendor_key_id);
        if let Some(secret) = secret {
            values = values.secret("secret", secret);
        }
        let proof = self.proof(table.as_, secret)?;
        let outgoing = self.request(&Call::from(table), root, proof, &values)?;
        let incoming = egress
            .send(outgoing)
            .await
            .map_err(|error| other(no_answer(&self.0, error)))?;
        let body = json(&incoming);
        // A key that ends itself and is refused is dead already.
        let refused = table.as_ == As::Credential && incoming.status == 401;
        if table.gone.contains(&incoming.status) || refused {
            return Ok(Gone::AlreadyGone);
        }
        if table.ok.contains(&incoming.status) && succeeded(&self.0, body.as_ref()) {
            return Ok(Gone::Revoked);
        }
        Err(other(failure(&self.0, &incoming, body.as_ref())))
    }

    async fn probe(&self, egress: &Egress, root: &RootSecret, secret: &SecretText) -> Result<Alive, VendorFailure> {
        let Some(table) = &self.0.probe else {
            return Ok(Alive::Unknown);
        };
        let values = root.values().secret("secret", secret);
        let proof = self.proof(table.as_, Some(secret))?;
        let outgoing = self.request(&Call::from(table), root, proof, &values)?;
        let incoming = egress
            .send(outgoing)
            .await
            .map_err(|error| other(no_answer(&self.0, error)))?;
        let body = json(&incoming);
        Ok(if table.dead.contains(&incoming.status) {
            Alive::Dead
        } else if table.ok.contains(&incoming.status) && succeeded(&self.0, body.as_ref()) {
            Alive::Alive
        } else {
            Alive::Unknown
        })
    }

    fn proof<'s>(&self, who: As, secret: Option<&'s SecretText>) -> Result<Proof<'s>, VendorFailure> {
        match (who, secret) {
            (As::Root, _) => Ok(Proof::Root),
            (As::Credential, Some(secret)) => Ok(Proof::Credential(secret)),
            (As::Credential, None) => Err(VendorFailure::refused(format!(
                "{} wants the key itself",
                self.0.title()
            ))),
        }
    }

    fn request(
        &self,
        call: &Call<'_>,
        root: &RootSecret,
        proof: Proof<'_>,
        values: &Values<'_>,
    ) -> Result<Outgoing, VendorFailure> {
        Ok(call.request(&self.0, root, proof, call.url(root, values)?, values)?)
    }

    pub(super) fn cannot(&self, what: &str) -> VendorFailure {
        VendorFailure::refused(format!("dekeys cannot {what} at {}", self.0.title()))
    }

    /// Reads all pages and keeps the keys whose name is wanted. A list that moved while it was read is read again.
    async fn pages(
        &self,
        egress: &Egress,
        root: &RootSecret,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Found>, VendorFailure> {
        for _ in 0..MAX_PASSES {
            if let Some(kept) = self.pass(egress, root, &wanted).await? {
                return Ok(kept);
            }
        }
        Err(self.incomplete(FailureClass::Retryable, "changes too fast to be read whole"))
    }

    /// Reads all pages once; `None` when keys moved between pages.
    async fn pass(
        &self,
        egress: &Egress,
        root: &RootSecret,
        wanted: &impl Fn(&str) -> bool,
    ) -> Result<Option<Vec<Found>>, VendorFailure> {
        let mut pages = Pages::first(self, root)?;
        let mut kept = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(found) = pages.read(egress).await? else {
                return Ok(None);
            };
            kept.extend(found.into_iter().filter(|found| wanted(&found.name)));
            if pages.next.is_none() {
                return Ok(Some(kept));
            }
        }
        Err(self.incomplete(FailureClass::Unknown, "has more pages than dekeys reads"))
    }

    fn incomplete(&self, class: FailureClass, why: &str) -> VendorFailure {
        VendorFailure {
            class,
            ..VendorFailure::refused(format!("the list of {} {why}", self.0.title()))
        }
    }
}

/// A failure of a call that makes nothing.
pub(super) fn other(mut failure: VendorFailure) -> VendorFailure {
    failure.created = Existence::No;
    failure
}

fn shape(table: &Shape, name: &str) -> String {
    let fallback = ['-', '_', '.']
        .into_iter()
        .find(|letter| table.charset.contains(*letter));
    let letter = |letter: char| {
        if table.charset.contains(letter) {
            Some(letter)
        } else {
            fallback
        }
    };
    let shaped: String = name.chars().filter_map(letter).collect();
    if shaped.chars().count() <= table.max {
        return shaped;
    }
    let digest = base32_lower(Digest::of(name.as_bytes()).as_bytes());
    let digest: String = digest
        .chars()
        .filter_map(letter)
        .take(table.max.saturating_sub(12).min(32))
        .collect();
    shaped.chars().take(12).collect::<String>() + &digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shaped_and_stay_apart() {
        let table = Shape {
            charset: "a-z0-9_".to_owned().try_into().unwrap(),
            max: 24,
        };
        let (one, other) = (
            "dk-abcdefgh-aaaaaaaaaaaaaaaaaaaaaaaaaa-1",
            "dk-abcdefgh-aaaaaaaaaaaaaaaaaaaaaaaaaa-2",
        );
        assert_eq!(shape(&table, "dk-abcdefgh-"), "dk_abcdefgh_");
        assert!(shape(&table, one).starts_with("dk_abcdefgh_") && shape(&table, one).len() == 24);
        assert_ne!(shape(&table, one), shape(&table, other));
        assert_eq!(shape(&Shape::default(), one), one);
    }
}
