//! What is known of the revocation feed (`GET /v1/revocations`): which tokens, grants and leases ended early, and how old
//! that knowledge is. Needs no network: pages are given to it as they come, and believed by their signature alone.

use std::collections::HashMap;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};

use crate::audit::{LogPublic, StatementError, open_statement};
use crate::base::id::{IncarnationId, InstanceId, LeaseId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::revocation::{Ended, RevocationPage, RevocationStatement, STATEMENT_TYPE};
use crate::token::Inspection;

/// Clocks of the server and here may differ so much. A statement from further ahead says nothing about its age.
const CLOCKS_DIFFER: Ttl = Ttl::from_secs(30);

/// A page that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The statement is none, or not by the instance's log.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The statement is about other bytes.
    #[error("the page is not the one its statement is about")]
    Digest,
    /// Not a page of the feed.
    #[error("this is not a page of the revocation feed")]
    Page,
    /// A page of another instance.
    #[error("the page is of another instance")]
    Foreign,
    /// Between what was read and this page something is missing.
    #[error("the page does not follow what was read before")]
    Gap,
}

/// What a page led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All that is on record is known, as of the page's time.
    UpToDate,
    /// Another page is there already.
    More,
    /// The database is another one than before: what was known is kept, and everything is read again.
    Anew,
}

/// The feed as far as it was read.
#[derive(Debug, Clone)]
pub struct Feed {
    instance: InstanceId,
    log: LogPublic,
    /// The key before, which signs for a while beside the new one.
    log_before: Option<LogPublic>,
    incarnation: Option<IncarnationId>,
    after: i64,
    /// The digest of the last page, if asking for `after` again would give it again.
    last: Option<String>,
    ended: HashMap<(Ended, String), Timestamp>,
    as_of: Option<Timestamp>,
}

impl Feed {
    /// Nothing read yet.
    #[must_use]
    pub fn new(instance: InstanceId, log: LogPublic) -> Self {
        Self {
            instance,
            log,
            log_before: None,
            incarnation: None,
            after: 0,
            last: None,
            ended: HashMap::new(),
            as_of: None,
        }
    }

    /// Believes another key of the same log from now on, and the one before too until the next change.
    pub(super) fn follow_log(&mut self, log: LogPublic) {
        self.log_before = Some(std::mem::replace(&mut self.log, log));
    }

    /// Where to read on: the parameter `after`.
    #[must_use]
    pub const fn after(&self) -> i64 {
        self.after
    }

    /// What to send as `If-None-Match`.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        self.last.as_ref().map(|digest| format!("\"{digest}\""))
    }

    /// How old the knowledge is; `None` while it is not complete, or its time cannot be right.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Ttl> {
        let as_of = self.as_of.filter(|at| *at <= now.plus(CLOCKS_DIFFER))?;
        Some(now.since(as_of))
    }

    /// How many ends are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Takes a page: its bytes as they came, and the statement beside them.
    ///
    /// # Errors
    /// [`FeedError`]; then nothing changed.
    pub fn take(&mut self, unverified_page: &[u8], unverified_statement: &str) -> Result<Taken, FeedError> {
        let statement = self.open(unverified_statement)?;
        if BASE64URL_NOPAD.encode(&Sha256::digest(unverified_page)) != statement.digest {
            return Err(FeedError::Digest);
        }
        let page: RevocationPage = serde_json::from_slice(unverified_page).map_err(|_| FeedError::Page)?;
        if page.instance != self.instance {
            return Err(FeedError::Foreign);
        }
        if self.incarnation.is_some_and(|known| known != page.incarnation) {
            self.incarnation = Some(page.incarnation);
            (self.after, self.last, self.as_of) = (0, None, None);
            return Ok(Taken::Anew);
        }
        if page.after > self.after {
            return Err(FeedError::Gap);
        }
        let now = Timestamp::from_millis(statement.now);
        self.incarnation = Some(page.incarnation);
        // Rather twice than not at all: an older page adds nothing and takes nothing away.
        self.last = (page.after == page.next && page.after == self.after).then_some(statement.digest);
        self.after = self.after.max(page.next);
        self.ended.retain(|_, until| *until > now);
        let data = page.data.into_iter();
        self.ended
            .extend(data.map(|ended| ((ended.kind, ended.id), ended.until)));
        if page.has_more {
            return Ok(Taken::More);
        }
        if page.next >= self.after {
            self.as_of = self.as_of.max(Some(now));
        }
        Ok(Taken::UpToDate)
    }

    /// Takes the answer that nothing changed (304): the statement says when that was true.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn still(&mut self, unverified_statement: &str) -> Result<(), FeedError> {
        let statement = self.open(unverified_statement)?;
        if self.last.as_deref() != Some(statement.digest.as_str()) {
            return Err(FeedError::Digest);
        }
        self.as_of = self.as_of.max(Some(Timestamp::from_millis(statement.now)));
        Ok(())
    }

    fn open(&self, unverified_statement: &str) -> Result<RevocationStatement, FeedError> {
        let open = |log| open_statement::<RevocationStatement>(unverified_statement, STATEMENT_TYPE, log);
        let statement = match (open(&self.log), &self.log_before) {
            (Err(StatementError::Signature), Some(before)) => open(before)?,
            (opened, _) => opened?,
        };
        if statement.iss == self.instance {
            Ok(statement)
        } else {
            Err(FeedError::Foreign)
        }
    }

    /// Whether a token was ended: itself, one it was narrowed from, or its grant.
    #[must_use]
    pub fn has_ended(&self, token: &Inspection) -> bool {
        let grant = self.knows(Ended::Grant, token.grant.to_string());
        grant
            || token
                .blocks
                .iter()
                .any(|block| self.knows(Ended::Token, block.revocation_id.clone()))
    }

    /// Whether a lease was ended early.
    #[must_use]
    pub fn has_ended_lease(&self, lease: LeaseId) -> bool {
        self.knows(Ended::Lease, lease.to_string())
    }

    fn knows(&self, kind: Ended, id: String) -> bool {
        self.ended.contains_key(&(kind, id))
    }
}
