//! Lists of rows that carry a mark: the authentic ones are listed; one that is not is raised, left out and counted, and
//! keeps nothing from the others.

use super::enroll::{List, PageAsk};
use super::error::Error;
use crate::store::Page;

/// A page of a list on its way, over as many pages of the store as it takes.
pub(super) struct Gather<V> {
    limit: i64,
    next: Option<Page>,
    data: Vec<V>,
    omitted: usize,
}

impl<V> Gather<V> {
    /// For the page that is asked for.
    ///
    /// # Errors
    /// As [`PageAsk::limit`].
    pub(super) fn page(ask: &PageAsk) -> Result<Self, Error> {
        Ok(Self {
            next: Some(ask.page()?),
            ..Self::all(ask.limit()?)
        })
    }

    /// For a list that is read at once, without pages.
    pub(super) const fn whole() -> Self {
        Self::all(i64::MAX)
    }

    const fn all(limit: i64) -> Self {
        Self {
            limit,
            next: None,
            data: Vec::new(),
            omitted: 0,
        }
    }

    /// What to read next from the store; `None` when there is enough or no more.
    pub(super) fn next(&mut self) -> Option<Page> {
        let enough = usize::try_from(self.limit).is_ok_and(|limit| self.data.len() > limit);
        self.next.take().filter(|_| !enough)
    }

    /// These rows were read for `page`: after the last of them it goes on.
    pub(super) fn read<T>(&mut self, page: &Page, rows: &[T], id: impl Fn(&T) -> String) {
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= page.limit);
        self.next = rows.last().filter(|_| full).map(|row| Page {
            limit: page.limit,
            after: Some(id(row)),
        });
    }

    /// Takes an entry, or counts it as left out when it or what it leads to is not authentic.
    ///
    /// # Errors
    /// Any other error.
    pub(super) fn add(&mut self, entry: Result<V, Error>) -> Result<(), Error> {
        match entry {
            Ok(entry) => self.data.push(entry),
            Err(Error::Forged(_)) => self.omitted += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The list.
    pub(super) fn list(self) -> List<V> {
        List {
            omitted: self.omitted,
            ..List::page(self.data, self.limit)
        }
    }
}
