//! Lists that come in pages. Bodies of lists may hold keys: only ids and names are read, and the rest is wiped.
//!
//! Not seen: keys that end between two pages of a list that is read by page number; others are seen and the list is
//! read again.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::LINK;
use serde_json::Value;
use url::Url;

use super::adapter::{Declared, other};
use super::answer::{failure, json, succeeded, unreadable};
use super::call::{Call, Proof};
use super::inject::key_is_id;
use super::made::IdFrom;
use super::tables::{As, ListTable, Page};
use super::template::Wiped;
use super::{Existence, Found, RootSecret, VendorFailure};
use crate::base::egress::{Egress, Incoming};
use crate::base::secret::SecretText;

/// A list being read, page by page.
pub(super) struct Pages<'a> {
    adapter: &'a Declared,
    root: &'a RootSecret,
    login: Option<Arc<SecretText>>,
    table: &'a ListTable,
    first: Url,
    /// The page to read next; `None` at the end.
    pub(super) next: Option<Url>,
    page: u64,
    /// Where the present page begins, for lists that are read by offset.
    offset: usize,
    seen: HashSet<String>,
    /// The digest of a key that is its own id, and the key once it was seen.
    wanted: Option<String>,
    pub(super) sought: Option<SecretText>,
}

impl<'a> Pages<'a> {
    /// A list from its beginning.
    pub(super) fn first(
        adapter: &'a Declared,
        root: &'a RootSecret,
        login: Option<Arc<SecretText>>,
    ) -> Result<Self, VendorFailure> {
        let table = adapter
            .manifest
            .list
            .as_ref()
            .ok_or_else(|| adapter.cannot("list keys"))?;
        let first = Call::from(table).url(root, &root.values())?;
        Ok(Self {
            adapter,
            root,
            login,
            table,
            next: Some(first_url(&table.page, first.clone())),
            first,
            page: 0,
            offset: 0,
            seen: HashSet::new(),
            wanted: None,
            sought: None,
        })
    }

    /// Keeps the one key whose digest this is, when it comes by.
    pub(super) fn seeking(mut self, vendor_key_id: &str) -> Self {
        self.wanted = Some(vendor_key_id.to_owned());
        self
    }

    /// Reads the next page and gives the keys not seen before; afterwards `next` is `None` at the end. Gives `None`
    /// when keys moved, so that some may have been passed over.
    pub(super) async fn read(&mut self, egress: &Egress) -> Result<Option<Vec<Found>>, VendorFailure> {
        let manifest = &self.adapter.manifest;
        let Some(url) = self.next.take() else {
            return Ok(Some(Vec::new()));
        };
        let call = Call::from(self.table);
        let outgoing = call.request(
            manifest,
            self.root,
            Proof::Root(self.login.as_deref()),
            url.clone(),
            &self.root.values(),
        )?;
        let incoming = self
            .adapter
            .send(egress, self.root, As::Root, outgoing)
            .await
            .map_err(other)?;
        let body = json(&incoming);
        if !self.table.ok.contains(&incoming.status) || !succeeded(manifest, body.as_ref()) {
            return Err(other(failure(manifest, &incoming, body.as_ref())));
        }
        let unreadable = || unreadable(manifest, incoming.status, Existence::No);
        let body = body.ok_or_else(unreadable)?;
        let items = self
            .table
            .items
            .get(&body.0)
            .and_then(Value::as_array)
            .ok_or_else(unreadable)?;
        let found: Vec<Found> = items
            .iter()
            .map(|item| self.item(item))
            .collect::<Option<_>>()
            .ok_or_else(unreadable)?;
        if self.wanted.is_some() {
            let own = items
                .iter()
                .filter_map(|item| self.table.id.text(item))
                .map(SecretText::new);
            self.sought = own.into_iter().find(|key| Some(key_is_id(key)) == self.wanted);
        }
        if self.moved(&found) {
            return Ok(None);
        }
        let count = found.len();
        let mut fresh = found;
        fresh.retain(|found| self.seen.insert(found.vendor_key_id.clone()));
        self.page += 1;
        // Pages by offset overlap by one key, by which a move is seen.
        self.offset = self.offset.saturating_add(count).saturating_sub(1);
        // A page without a key that is new is the last one, whatever it says: some vendors ignore the parameter.
        if !fresh.is_empty() {
            self.next = self.following(&url, &incoming, &body);
        }
        Ok(Some(fresh))
    }

    /// A page by offset begins with a key of the page before, unless keys before it ended meanwhile: then the rest
    /// moved up, and some were passed over.
    fn moved(&self, found: &[Found]) -> bool {
        let by_offset = matches!(self.table.page, Page::Offset { .. }) && self.page > 0;
        by_offset
            && found
                .first()
                .is_none_or(|first| !self.seen.contains(&first.vendor_key_id))
    }

    /// Id and name of one item; a key without a name has an empty one.
    fn item(&self, item: &Value) -> Option<Found> {
        let id = self.table.id.text(item)?;
        let itself = self
            .adapter
            .manifest
            .create
            .as_ref()
            .is_some_and(|create| create.id_from == IdFrom::Secret);
        Some(Found {
            vendor_key_id: if itself { key_is_id(&SecretText::new(id)) } else { id },
            name: self.table.name.text(item).unwrap_or_default(),
        })
    }

    fn following(&self, url: &Url, incoming: &Incoming, body: &Wiped) -> Option<Url> {
        match &self.table.page {
            Page::None => None,
            Page::Number { param, first, .. } => Some(with(url, param, &(first + self.page).to_string())),
            Page::Offset { param, .. } => Some(with(url, param, &self.offset.to_string())),
            Page::Cursor { param, from, more, .. } => {
                let ended = more
                    .as_ref()
                    .is_some_and(|more| more.get(&body.0) != Some(&Value::Bool(true)));
                let mark = last_item(from.as_str(), &body.0).filter(|_| !ended)?;
                Some(with(url, param, &mark))
            }
            Page::Url { from } => self.first.join(&from.text(&body.0)?).ok(),
            Page::LinkHeader {} => {
                let links = incoming
                    .headers
                    .get_all(LINK)
                    .iter()
                    .filter_map(|value| value.to_str().ok());
                let next = links.flat_map(|links| links.split(',')).find_map(next_link)?;
                self.first.join(&next).ok()
            }
        }
    }
}

/// The value at a pointer, where a step `-1` is the last item of a list.
fn last_item(pointer: &str, body: &Value) -> Option<String> {
    let mut value = body;
    for step in pointer.split('/').skip(1) {
        value = match (step, value) {
            ("-1", Value::Array(items)) => items.last()?,
            _ => value.pointer(&format!("/{step}"))?,
        };
    }
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `<https://…>; rel="next"` (RFC 8288).
fn next_link(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        parameter.trim().split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split(' ').any(|rel| rel == "next")
        })
    };
    // GitHub's and Sentry's links name a next page that is empty; Sentry says so.
    let empty = parameters.contains("results=\"false\"");
    (parameters.split(';').any(is_next) && !empty).then(|| target.to_owned())
}

pub(super) fn first_url(page: &Page, url: Url) -> Url {
    match page {
        Page::None | Page::Url { .. } | Page::LinkHeader {} => url,
        Page::Number {
            param,
            first,
            size,
            size_param,
        } => sized(&with(&url, param, &first.to_string()), *size, size_param.as_deref()),
        Page::Offset { size, size_param, .. } | Page::Cursor { size, size_param, .. } => {
            sized(&url, *size, size_param.as_deref())
        }
    }
}

fn sized(url: &Url, size: Option<u64>, param: Option<&str>) -> Url {
    match size.zip(param) {
        Some((size, param)) => with(url, param, &size.to_string()),
        None => url.clone(),
    }
}

/// The address with one query parameter set.
fn with(url: &Url, param: &str, value: &str) -> Url {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != param)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let mut url = url.clone();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair(param, value);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_cursors_are_read() {
        assert_eq!(next_link(r#" </k?p=2>; rel="next""#).as_deref(), Some("/k?p=2"));
        assert_eq!(next_link(r#"</k?p=1>; rel="prev""#), None);
        assert_eq!(next_link(r#"</k>; rel="next"; results="false""#), None);
        let body = serde_json::json!({ "data": [{ "id": "a" }, { "id": "b" }], "end": "" });
        assert_eq!(last_item("/data/-1/id", &body).as_deref(), Some("b"));
        assert_eq!(last_item("/end", &body), None);
    }
}
