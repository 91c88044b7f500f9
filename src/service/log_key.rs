//! The key that signs the log, and the one before. For a while after a change both sign each checkpoint, and what is
//! checked against published keys at once (the revocation feed) is still signed by the one before, so that nobody who
//! fetched the keys before the change is left behind. What the old key signed is checked by it for ever.

use super::checkpoint::signed_by;
use super::error::Error;
use super::init::signing_place;
use super::keys::reopen;
use super::{App, Opened};
use crate::audit::{self, LogKey, LogPublic, LogTerm};
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::Event;
use crate::store::instance::SigningKeyRow;
use crate::store::{ReadTx, Tx};

/// How long both sign: longer than anybody keeps published keys without asking again.
const BOTH_SIGN: Ttl = Ttl::from_mins(15);

/// How long a log key is used before it is changed without being asked: a year.
const LIFE: Ttl = Ttl::from_mins(365 * 24 * 60);

/// Whether the log key is so old that it is changed.
pub(super) fn is_due(rows: &[SigningKeyRow], now: Timestamp) -> bool {
    rows.last().is_some_and(|row| now.since(row.created) > LIFE)
}

/// A fresh key signs the log from now on; the one so far names it.
pub(super) async fn rotate(app: &App, mut tx: Tx, event: impl Fn(&str, i64) -> Event) -> Result<(), Error> {
    let now = app.now();
    let opened = app.opened()?;
    let rows = tx.signing_keys("log").await?;
    let signs = rows.last().ok_or(Error::NotFound("log key"))?;
    if signs.public != opened.log_public.to_string() {
        // Another instance was quicker.
        return Err(Error::Busy);
    }
    let latest = tx.latest_checkpoint().await?;
    if latest.is_some_and(|(_, text)| signed_by(&text, &opened.log_public).is_none()) {
        // The key before this one signed it alone. After another change no start would believe that one any more, and
        // until the next checkpoint there is nothing else.
        return Err(Error::Busy);
    }
    let (number, retired) = (signs.number.saturating_add(1), signs.number);
    let secret = LogKey::generate(app.random.as_ref());
    let key = LogKey::new(&app.instance.id.to_string(), &secret).map_err(Error::internal)?;
    let sealed = app
        .vault
        .seal_value(&signing_place(app.instance.id, "log", number), &secret)?;
    let public = key.public().to_string();
    tx.retire_signing_key("log", retired, now).await?;
    tx.insert_signing_key("log", number, &public, &sealed, now).await?;
    let endorsed = audit::endorse(&opened.log, key.public(), now);
    tx.endorse_signing_key("log", number, &endorsed).await?;
    let mut event = event("log", number);
    if let Some(fields) = event.data.as_object_mut() {
        fields.insert("public_key".to_owned(), public.into());
        fields.insert("endorsed".to_owned(), endorsed.into());
    }
    let _none = tx.commit(&[event], &[]).await?;
    reopen(app).await
}

/// Each key with its time.
pub(super) fn terms(logs: &[(SigningKeyRow, LogKey)]) -> Vec<LogTerm> {
    let term = |(row, key): &(SigningKeyRow, LogKey)| LogTerm {
        public_key: key.public().clone(),
        from: row.created,
        until: row.retired,
        endorsed: row.endorsed.clone(),
    };
    logs.iter().map(term).collect()
}

/// The key before, while it still signs: for a while, and until one checkpoint is signed by both, however long the
/// vault was sealed in between.
pub(super) async fn before(
    app: &App,
    tx: &mut ReadTx,
    mut logs: Vec<(SigningKeyRow, LogKey)>,
    current: &LogPublic,
) -> Result<Option<(LogKey, Timestamp)>, Error> {
    let Some((row, key)) = logs.pop() else {
        return Ok(None);
    };
    let retired = row.retired.unwrap_or(row.created);
    let waits = match tx.latest_checkpoint().await? {
        Some((_, text)) => signed_by(&text, current).is_none(),
        None => false,
    };
    Ok((waits || app.now() < retired.plus(BOTH_SIGN)).then_some((key, retired)))
}

impl Opened {
    /// The key that signs beside the current one at this moment. `latest` is the text of the latest checkpoint: the
    /// first one after a change is always signed by both.
    pub(super) fn also_signs(&self, latest: Option<&str>, now: Timestamp) -> Option<&LogKey> {
        let (key, retired) = self.log_before.as_ref()?;
        let waits = latest.is_some_and(|text| signed_by(text, &self.log_public).is_none());
        (waits || now < retired.plus(BOTH_SIGN)).then_some(key)
    }

    /// The key for what is checked against published keys at once.
    pub(super) fn published_key(&self, now: Timestamp) -> &LogKey {
        match &self.log_before {
            Some((key, retired)) if now < retired.plus(BOTH_SIGN) => key,
            _ => &self.log,
        }
    }

    /// The public halves that the latest checkpoint may be signed by.
    pub(super) fn log_publics(&self) -> Vec<&LogPublic> {
        let before = self.log_before.iter().map(|(key, _)| key.public());
        std::iter::once(&self.log_public).chain(before).collect()
    }
}
