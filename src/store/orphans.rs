//! Orphans, when each root credential's keys are compared with the vendor's list, and the making of keys that have no
//! names.

use super::set::Set;
use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx, dialect};
use crate::base::id::{CredentialId, OrphanId, RootId};
use crate::base::time::Timestamp;
use crate::model::credential::CredentialState;
use crate::model::orphan::{Orphan, OrphanState, Reason};
use crate::model::scope::Name;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, vendor, root, vendor_key_id, name, credential, reason, state, attempt, next_at, last_error, \
             found, seen FROM orphans ",
            $tail
        )
    };
}

/// Which orphans to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrphanFilter {
    /// At this vendor.
    pub vendor: Option<Name>,
    /// In this state; `None`: those that are open.
    pub state: Option<OrphanState>,
}

/// A credential that a listed key may belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The credential.
    pub id: CredentialId,
    /// Where it stands.
    pub state: CredentialState,
    /// Its name at the vendor.
    pub name: String,
    /// The vendor's id of its key, if it is known.
    pub vendor_key_id: Option<String>,
    /// The root credential it is ended with.
    pub root: RootId,
    /// Whether this incarnation of the instance meant to make it.
    pub own: bool,
}

/// How the last comparison of a root credential's keys with the vendor's list ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reap {
    /// The root credential.
    pub root: RootId,
    /// Its vendor.
    pub vendor: Name,
    /// When the next one is due.
    pub next_at: Timestamp,
    /// When the vendor's list was last read whole.
    pub passed: Option<Timestamp>,
    /// How many keys of this instance it held.
    pub keys: i64,
    /// Why the last one failed, if it did.
    pub trouble: Option<String>,
}

/// A key without a name that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    /// Its credential.
    pub credential: CredentialId,
    /// The ids that the vendor listed before; `None` as long as it was not asked, and so not for the key either.
    pub listed: Option<Vec<String>>,
    /// When it began.
    pub opened: Timestamp,
}

impl Tx {
    /// Keeps an orphan; one that is known already is only seen again. What counted as gone and is listed again is taken
    /// up anew: always when nobody ended it, since a list may lag, and once more when the vendor said that it was ended,
    /// since some vendors go on listing dead keys. Answers whether there is news.
    pub async fn keep_orphan(&mut self, orphan: &Orphan) -> Result<bool, StoreError> {
        let known = self
            .ask(
                "UPDATE orphans SET seen = $3 WHERE vendor = $1 AND vendor_key_id = $2 \
                 AND NOT (state = 'gone' AND (attempt = 0 OR reason <> 'still_listed'))",
            )
            .bind(&orphan.vendor)
            .bind(&orphan.vendor_key_id)
            .bind(orphan.seen)
            .run()
            .await?;
        if known > 0 {
            return Ok(false);
        }
        let back = self
            .ask(
                "UPDATE orphans SET reason = CASE WHEN attempt = 0 THEN $3 ELSE 'still_listed' END, state = $4, \
                 attempt = 0, next_at = $5, seen = $6 WHERE vendor = $1 AND vendor_key_id = $2",
            )
            .bind(&orphan.vendor)
            .bind(&orphan.vendor_key_id)
            .bind(orphan.reason.as_str())
            .bind(orphan.state.as_str())
            .bind(orphan.next_at)
            .bind(orphan.seen)
            .run()
            .await?;
        if back > 0 {
            return Ok(true);
        }
        self.ask(
            "INSERT INTO orphans (id, vendor, root, vendor_key_id, name, credential, reason, state, attempt, next_at, \
             last_error, found, seen) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(orphan.id)
        .bind(&orphan.vendor)
        .bind(orphan.root)
        .bind(&orphan.vendor_key_id)
        .bind(&orphan.name)
        .bind(orphan.credential)
        .bind(orphan.reason.as_str())
        .bind(orphan.state.as_str())
        .bind(orphan.attempt)
        .bind(orphan.next_at)
        .bind(orphan.last_error.as_deref())
        .bind(orphan.found)
        .bind(orphan.seen)
        .run()
        .await?;
        Ok(true)
    }

    /// Replaces an orphan's state and tries.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when the state may not follow.
    pub async fn update_orphan(&mut self, orphan: &Orphan) -> Result<(), StoreError> {
        let before = self.orphan(orphan.id).await?.ok_or(StoreError::Absent("orphan"))?;
        if !before.state.may_become(orphan.state) {
            return Err(StoreError::Transition {
                what: "orphan",
                from: before.state.as_str(),
                to: orphan.state.as_str(),
            });
        }
        self.ask("UPDATE orphans SET state = $2, attempt = $3, next_at = $4, last_error = $5, seen = $6 WHERE id = $1")
            .bind(orphan.id)
            .bind(orphan.state.as_str())
            .bind(orphan.attempt)
            .bind(orphan.next_at)
            .bind(orphan.last_error.as_deref())
            .bind(orphan.seen)
            .run_on("orphan")
            .await
    }

    /// Takes the comparisons that are due, so that no other instance does; the next of each is due at `next`. Makes
    /// rows for root credentials that have none: those in use, and those with keys that may live. One of a replaced
    /// root credential without keys is dropped.
    pub async fn take_reaps(&mut self, now: Timestamp, next: Timestamp) -> Result<Vec<(RootId, Name)>, StoreError> {
        self.ask(
            "INSERT INTO reaps (root, vendor, next_at, passed, keys, trouble) \
             SELECT r.id, r.vendor, $1, NULL, 0, NULL FROM roots AS r WHERE (r.current = 1 OR EXISTS (SELECT 1 \
             FROM credentials AS c WHERE c.root = r.id AND c.next_at IS NOT NULL)) \
             AND NOT EXISTS (SELECT 1 FROM reaps AS p WHERE p.root = r.id)",
        )
        .bind(now)
        .run()
        .await?;
        self.ask(
            "DELETE FROM reaps WHERE next_at <= $1 AND NOT EXISTS (SELECT 1 FROM roots AS r WHERE r.id = reaps.root \
             AND (r.current = 1 OR EXISTS (SELECT 1 FROM credentials AS c WHERE c.root = r.id AND c.next_at IS NOT NULL)))",
        )
        .bind(now)
        .run()
        .await?;
        self.ask("UPDATE reaps SET next_at = $2 WHERE next_at <= $1 RETURNING root, vendor")
            .bind(now)
            .bind(next)
            .all()
            .await
    }

    /// Has all comparisons made anew, now.
    pub async fn reap_anew(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.ask("UPDATE reaps SET next_at = $1")
            .bind(now)
            .run()
            .await
            .map(drop)
    }

    /// Keeps how a comparison ended. `None` for `passed` keeps when one last went well.
    pub async fn keep_reap(
        &mut self,
        root: RootId,
        next: Timestamp,
        passed: Option<(Timestamp, i64)>,
        trouble: Option<&str>,
    ) -> Result<(), StoreError> {
        self.ask(
            "UPDATE reaps SET next_at = $2, passed = coalesce($3, passed), keys = coalesce($4, keys), trouble = $5 \
             WHERE root = $1",
        )
        .bind(root)
        .bind(next)
        .bind(passed.map(|(at, _)| at))
        .bind(passed.map(|(_, keys)| keys))
        .bind(trouble)
        .run()
        .await
        .map(drop)
    }

    /// Begins to make a key without a name; `false` while another one of the same root credential is being made.
    pub async fn begin_making(
        &mut self,
        root: RootId,
        credential: CredentialId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let begun = self
            .ask(
                "INSERT INTO makings (root, credential, listed, opened) VALUES ($1, $2, '', $3) \
                 ON CONFLICT (root) DO NOTHING",
            )
            .bind(root)
            .bind(credential)
            .bind(now)
            .run()
            .await?;
        Ok(begun > 0)
    }

    /// Keeps what the vendor listed before the key is asked for.
    pub async fn list_making(&mut self, credential: CredentialId, listed: &[String]) -> Result<(), StoreError> {
        self.ask("UPDATE makings SET listed = $2 WHERE credential = $1")
            .bind(credential)
            .bind_json(listed)
            .run_on("making")
            .await
    }

    /// It is known what came of it.
    pub async fn end_making(&mut self, credential: CredentialId) -> Result<(), StoreError> {
        self.ask("DELETE FROM makings WHERE credential = $1")
            .bind(credential)
            .run()
            .await
            .map(drop)
    }

    /// Takes over all keys that another incarnation meant to make: from now on they are this one's to end. Answers how
    /// many they are. Only for whoever has compared them with the vendors' lists.
    pub async fn adopt_credentials(&mut self) -> Result<u64, StoreError> {
        self.ask(
            "UPDATE credentials SET incarnation = (SELECT incarnation FROM chain) \
             WHERE incarnation <> (SELECT incarnation FROM chain)",
        )
        .run()
        .await
    }
}

impl ReadTx {
    /// By id.
    pub async fn orphan(&mut self, id: OrphanId) -> Result<Option<Orphan>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// Those that match, newest first.
    pub async fn orphans(&mut self, filter: &OrphanFilter, page: &Page) -> Result<Vec<Orphan>, StoreError> {
        let open = match filter.state {
            None => select!("WHERE state IN ('revoking', 'reported')"),
            Some(_) => select!("WHERE 1 = 1"),
        };
        self.ask(open)
            .filter(" AND vendor = ", filter.vendor.as_ref())
            .filter(" AND state = ", filter.state.map(OrphanState::as_str))
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// Those of a root credential that are not gone, oldest first.
    pub async fn orphans_of_root(&mut self, root: RootId) -> Result<Vec<Orphan>, StoreError> {
        self.ask(select!("WHERE root = $1 AND state <> 'gone' ORDER BY id"))
            .bind(root)
            .all()
            .await
    }

    /// Those of a credential, oldest first.
    pub async fn orphans_of(&mut self, credential: CredentialId) -> Result<Vec<Orphan>, StoreError> {
        self.ask(select!("WHERE credential = $1 ORDER BY id"))
            .bind(credential)
            .all()
            .await
    }

    /// Those to be ended now, most overdue first.
    pub async fn orphans_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Orphan>, StoreError> {
        self.ask(select!(
            "WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// How many are open, by vendor and state.
    pub async fn open_orphans(&mut self) -> Result<Vec<(Name, OrphanState, i64)>, StoreError> {
        self.ask(
            "SELECT vendor, state, count(*) FROM orphans WHERE state IN ('revoking', 'reported') \
             GROUP BY vendor, state ORDER BY vendor, state",
        )
        .all()
        .await
    }

    /// The credentials at a vendor with one of these names, or one of these ids there.
    pub async fn claimants(
        &mut self,
        vendor: &Name,
        names: &[String],
        keys: &[String],
    ) -> Result<Vec<Claimant>, StoreError> {
        self.ask_each(dialect::CLAIMANTS)
            .bind_set(&Set::of(names))
            .bind_set(&Set::of(keys))
            .bind(vendor)
            .all()
            .await
    }

    /// The root credentials that dekeys has, had or is having made, by id: their names at vendors are its own, too.
    pub async fn root_ids(&mut self) -> Result<Vec<String>, StoreError> {
        self.ask("SELECT id FROM roots UNION SELECT new_key FROM rotations WHERE kind = 'root'")
            .all()
            .await
    }

    /// All comparisons, by vendor.
    pub async fn reaps(&mut self) -> Result<Vec<Reap>, StoreError> {
        self.ask("SELECT root, vendor, next_at, passed, keys, trouble FROM reaps ORDER BY vendor, root")
            .all()
            .await
    }

    /// The key without a name that is being made with a root credential.
    pub async fn making(&mut self, root: RootId) -> Result<Option<Making>, StoreError> {
        self.ask("SELECT credential, listed, opened FROM makings WHERE root = $1")
            .bind(root)
            .one()
            .await
    }
}

impl Record for Orphan {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            vendor: cells.parse()?,
            root: cells.parse()?,
            vendor_key_id: cells.text()?,
            name: cells.text()?,
            credential: cells.maybe_parse()?,
            reason: cells.word(Reason::parse)?,
            state: cells.word(OrphanState::parse)?,
            attempt: cells.int()?,
            next_at: cells.maybe_time()?,
            last_error: cells.maybe_text()?,
            found: cells.time()?,
            seen: cells.time()?,
        })
    }
}

impl Record for Claimant {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            state: cells.word(CredentialState::parse)?,
            name: cells.text()?,
            vendor_key_id: cells.maybe_text()?,
            root: cells.parse()?,
            own: cells.flag()?,
        })
    }
}

impl Record for Reap {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            root: cells.parse()?,
            vendor: cells.parse()?,
            next_at: cells.time()?,
            passed: cells.maybe_time()?,
            keys: cells.int()?,
            trouble: cells.maybe_text()?,
        })
    }
}

impl Record for Making {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        let credential = cells.parse()?;
        let text = cells.text()?;
        let listed = if text.is_empty() {
            None
        } else {
            Some(serde_json::from_str(&text).map_err(|_| cells.corrupt())?)
        };
        Ok(Self {
            credential,
            listed,
            opened: cells.time()?,
        })
    }
}

impl Record for (Name, OrphanState, i64) {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok((cells.parse()?, cells.word(OrphanState::parse)?, cells.int()?))
    }
}
