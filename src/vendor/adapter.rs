//! The adapter: makes, finds, probes and ends keys at one vendor.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answer::{failure, json, succeeded};
use super::call::{Call, Proof};
use super::inject::fields;
use super::login::Logins;
use super::made::IdFrom;
use super::manifest::Manifest;
use super::pages::Pages;
use super::tables::{As, Shape};
use super::template::Values;
use super::{Alive, CreateAsk, Created, Existence, FailureClass, Found, Gone, RootSecret, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::egress::{Egress, Outgoing};
use crate::base::id::base32_lower;
use crate::base::random::Random;
use crate::base::secret::SecretText;

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
pub struct Declared {
    pub(super) manifest: Arc<Manifest>,
    pub(super) logins: Logins,
}

impl Adapter {
    /// The adapter for a manifest. `logins` is shared by all that use the same root credentials.
    #[must_use]
    pub fn of(manifest: &Arc<Manifest>, logins: &Logins) -> Self {
        Self::Declared(Declared {
            manifest: Arc::clone(manifest),
            logins: logins.clone(),
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        let Self::Declared(declared) = self;
        &declared.manifest
    }

    /// Whether the vendor shows its keys.
    #[must_use]
    pub fn can_list(&self) -> bool {
        self.manifest().list.is_some()
    }

    /// Whether keys can be ended before their time.
    #[must_use]
    pub fn can_revoke(&self) -> bool {
        self.manifest().revoke.is_some()
    }

    /// A name, or what names begin with, as the vendor takes it.
    #[must_use]
    pub fn shaped(&self, name: &str) -> String {
        let Self::Declared(declared) = self;
        declared.shape(name)
    }

    /// Makes a key. Never repeats. `heard` is given the digest of a good answer, and the vendor's id of the key where
    /// the answer has it, before anything else is made of it.
    ///
    /// # Errors
    /// [`VendorFailure`], whose `created` says whether a key was left behind.
    pub async fn create(
        &self,
        egress: &Egress,
        root: &RootSecret,
        ask: &CreateAsk,
        random: &dyn Random,
        heard: impl AsyncFnOnce(Digest, Option<String>),
    ) -> Result<Created, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.create(egress, root, ask, random, heard).await
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

    /// The ids of all keys, whatever they are called, over all pages.
    ///
    /// # Errors
    /// As [`Adapter::find`].
    pub async fn list_ids(&self, egress: &Egress, root: &RootSecret) -> Result<Vec<String>, VendorFailure> {
        let Self::Declared(declared) = self;
        let all = declared.pages(egress, root, |_| true).await?;
        Ok(all.into_iter().map(|found| found.vendor_key_id).collect())
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
        let login = declared.login(egress, root).await?;
        let mut pages = Pages::first(declared, root, login)?;
        pages.read(egress).await.map(drop)
    }
}

impl Declared {
    /// The name as the vendor takes it.
    pub(super) fn shape(&self, name: &str) -> String {
        self.manifest.shaped(name)
    }

    async fn revoke(
        &self,
        egress: &Egress,
        root: &RootSecret,
        vendor_key_id: &str,
        secret: Option<&SecretText>,
    ) -> Result<Gone, VendorFailure> {
        let table = self.manifest.revoke.as_ref().ok_or_else(|| self.cannot("end keys"))?;
        let listed = match secret {
            None => self.listed_secret(egress, root, vendor_key_id).await?,
            Some(_) => None,
        };
        let secret = secret.or(listed.as_ref());
        let parts = secret.map(fields).unwrap_or_default();
        let mut values = root.values().with("id", vendor_key_id);
        if let Some(secret) = secret {
            values = secrets(values, secret, &parts);
        }
        for step in &table.first {
            match self.step(egress, root, step, &values, secret).await {
                Err(failure) if !failure.status.is_some_and(|status| table.gone.contains(&status)) => {
                    return Err(failure);
                }
                _ => {}
            }
        }
        let login = self.login(egress, root).await?;
        let proof = self.proof(table.as_, secret, login.as_deref())?;
        let outgoing = self.request(&Call::from(table), root, proof, &values)?;
        let incoming = self.send(egress, root, table.as_, outgoing).await.map_err(other)?;
        let body = json(&incoming);
        // A key that ends itself and is refused is dead already.
        let refused = table.as_ == As::Credential && incoming.status == 401;
        if table.gone.contains(&incoming.status) || refused {
            return Ok(Gone::AlreadyGone);
        }
        if table.ok.contains(&incoming.status) && succeeded(&self.manifest, body.as_ref()) {
            return Ok(Gone::Revoked);
        }
        Err(other(failure(&self.manifest, &incoming, body.as_ref())))
    }

    /// The key itself where it is its own id, from the list: what ends a key whose value was lost. Never kept.
    async fn listed_secret(
        &self,
        egress: &Egress,
        root: &RootSecret,
        vendor_key_id: &str,
    ) -> Result<Option<SecretText>, VendorFailure> {
        let itself = self.manifest.create.as_ref().map(|create| create.id_from) == Some(IdFrom::Secret);
        if !itself || self.manifest.list.is_none() {
            return Ok(None);
        }
        let login = self.login(egress, root).await?;
        let mut pages = Pages::first(self, root, login)?.seeking(vendor_key_id);
        for _ in 0..MAX_PAGES {
            pages.read(egress).await?;
            if pages.sought.is_some() || pages.next.is_none() {
                break;
            }
        }
        Ok(pages.sought)
    }

    async fn probe(&self, egress: &Egress, root: &RootSecret, secret: &SecretText) -> Result<Alive, VendorFailure> {
        let Some(table) = &self.manifest.probe else {
            return Ok(Alive::Unknown);
        };
        let parts = fields(secret);
        let values = secrets(root.values(), secret, &parts);
        let login = match table.as_ {
            As::Root => self.login(egress, root).await?,
            As::Credential => None,
        };
        let proof = self.proof(table.as_, Some(secret), login.as_deref())?;
        let outgoing = self.request(&Call::from(table), root, proof, &values)?;
        let incoming = self.send(egress, root, table.as_, outgoing).await.map_err(other)?;
        let body = json(&incoming);
        Ok(if table.dead.contains(&incoming.status) {
            Alive::Dead
        } else if table.ok.contains(&incoming.status) && succeeded(&self.manifest, body.as_ref()) {
            Alive::Alive
        } else {
            Alive::Unknown
        })
    }

    pub(super) fn proof<'s>(
        &self,
        who: As,
        secret: Option<&'s SecretText>,
        login: Option<&'s SecretText>,
    ) -> Result<Proof<'s>, VendorFailure> {
        match (who, secret) {
            (As::Root, _) => Ok(Proof::Root(login)),
            (As::Credential, Some(secret)) => Ok(Proof::Credential(secret)),
            (As::Credential, None) => Err(VendorFailure::refused(format!(
                "{} wants the key itself",
                self.manifest.title()
            ))),
        }
    }

    pub(super) fn request(
        &self,
        call: &Call<'_>,
        root: &RootSecret,
        proof: Proof<'_>,
        values: &Values<'_>,
    ) -> Result<Outgoing, VendorFailure> {
        Ok(call.request(&self.manifest, root, proof, call.url(root, values)?, values)?)
    }

    pub(super) fn cannot(&self, what: &str) -> VendorFailure {
        VendorFailure::refused(format!("dekeys cannot {what} at {}", self.manifest.title()))
    }

    /// Reads all pages and keeps the keys whose name is wanted. A list that moved while it was read is read again.
    pub(super) async fn pages(
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
        let login = self.login(egress, root).await?;
        let mut pages = Pages::first(self, root, login)?;
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

    pub(super) fn incomplete(&self, class: FailureClass, why: &str) -> VendorFailure {
        VendorFailure {
            class,
            ..VendorFailure::refused(format!("the list of {} {why}", self.manifest.title()))
        }
    }
}

/// A failure of a call that makes nothing.
pub(super) fn other(mut failure: VendorFailure) -> VendorFailure {
    failure.created = Existence::No;
    failure
}

/// The variables `secret` and `secret.…`.
pub(super) fn secrets<'a>(
    values: Values<'a>,
    secret: &'a SecretText,
    parts: &'a BTreeMap<String, SecretText>,
) -> Values<'a> {
    let whole = values.secret("secret", secret);
    parts.iter().fold(whole, |values, (name, part)| {
        values.secret(&format!("secret.{name}"), part)
    })
}

impl Manifest {
    /// A name as the vendor takes it. Too long a name keeps its beginning, which all names of an instance share, and a
    /// digest of the whole.
    #[must_use]
    pub fn shaped(&self, name: &str) -> String {
        match &self.create {
            Some(table) => shape(&table.name, name),
            None => name.to_owned(),
        }
    }
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
