//! The log as those who follow it are told: pages backwards, and a stream that goes on after any event.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::App;
use super::caller::Context;
use super::error::Error;
use super::event::{EventNotice, Sight};
use crate::base::id::EventId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::EventTypes;
use crate::store::events::{EventFilter, EventRow};

/// Rows read at a time.
const BATCH: i64 = 500;

/// Batches one page may take: whoever sees little of a long log gets a short page and where to go on.
const BATCHES: usize = 20;

/// How long news are gathered before they are read: a busy log is not read once for each event.
const GATHER: Duration = Duration::from_millis(20);

/// Which events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowAsk {
    /// Types, separated by commas: `lease.created`, `lease.*`; all if absent.
    pub types: Option<String>,
    /// Only what happened since: a time (RFC 3339), or a span before now such as `1h`.
    pub since: Option<String>,
    /// Only about this id.
    pub object: Option<String>,
    /// 1 to 100; 20 if absent. Not for a stream.
    pub limit: Option<i64>,
    /// The id of the event after which to go on: backwards in a list, forwards in a stream.
    pub starting_after: Option<String>,
}

/// A page of events, newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    /// Always `list`.
    pub object: String,
    /// The events.
    pub data: Vec<EventNotice>,
    /// Whether older ones follow.
    pub has_more: bool,
    /// Where they are. A page may be short, or empty, and yet have a next one.
    pub next: Option<String>,
}

/// What is wanted, understood.
#[derive(Clone)]
struct Wanted {
    sight: Sight,
    types: EventTypes,
    object: Option<String>,
    since: Option<Timestamp>,
}

impl Wanted {
    fn of(app: &App, context: &Context, ask: &FollowAsk) -> Result<Self, Error> {
        let types = match &ask.types {
            None => EventTypes::all(),
            Some(text) => text.parse().map_err(|error| Error::invalid("/types", error))?,
        };
        Ok(Self {
            sight: Sight::of(context)?,
            types,
            object: ask.object.clone(),
            since: ask.since.as_deref().map(|text| since(app, text)).transpose()?,
        })
    }

    fn filter(&self) -> EventFilter {
        EventFilter {
            kind_prefix: self.types.prefix().map(str::to_owned),
            object: self.object.clone(),
            ..EventFilter::default()
        }
    }

    /// What the caller is told of a row, if anything.
    async fn told(&self, app: &App, row: &EventRow) -> Result<Option<EventNotice>, Error> {
        if self.since.is_some_and(|since| row.at < since) {
            return Ok(None);
        }
        let told = self.sight.told(app, row).await?;
        Ok(told.filter(|notice| self.types.contains(&notice.kind)))
    }
}

fn since(app: &App, text: &str) -> Result<Timestamp, Error> {
    let span = || text.parse::<Ttl>().ok().map(|span| app.now().minus(span));
    Timestamp::parse_rfc3339(text).or_else(span).ok_or_else(|| {
        Error::invalid(
            "/since",
            "a time such as `2026-11-20T20:31:07Z`, or a span such as `1h`",
        )
    })
}

/// The place of an event in the log.
async fn place(app: &App, id: &str) -> Result<i64, Error> {
    let id: EventId = id.parse().map_err(|error| Error::invalid("/starting_after", error))?;
    let mut tx = app.store.read().await?;
    Ok(tx.event(id).await?.ok_or(Error::EventGone)?.n)
}

/// Events, newest first.
///
/// # Errors
/// [`Error::SignatureRequired`]; [`Error::EventGone`] when the page before ended with an event that is not here.
pub async fn list(app: &App, context: &Context, ask: &FollowAsk) -> Result<EventList, Error> {
    let wanted = Wanted::of(app, context, ask)?;
    let limit = ask.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid("/limit", "limit is 1 to 100"));
    }
    let limit = usize::try_from(limit).unwrap_or(100);
    let mut filter = wanted.filter();
    if let Some(id) = &ask.starting_after {
        filter.before_n = Some(place(app, id).await?);
    }
    if let Some(since) = wanted.since {
        let mut tx = app.store.read().await?;
        filter.from_n = Some(tx.events_since(since).await?);
    }
    let mut data = Vec::new();
    for _ in 0..BATCHES {
        let mut tx = app.store.read().await?;
        let rows = tx.events(&filter, BATCH).await?;
        tx.end().await?;
        for row in &rows {
            if data.len() == limit {
                // There is at least this one more to look at.
                return page(ask, data, filter.before_n, app).await;
            }
            data.extend(wanted.told(app, row).await?);
            filter.before_n = Some(row.n);
        }
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) < BATCH {
            return page(ask, data, None, app).await;
        }
    }
    page(ask, data, filter.before_n, app).await
}

/// A page, and the way to the next one after the event at place `end`.
async fn page(ask: &FollowAsk, data: Vec<EventNotice>, end: Option<i64>, app: &App) -> Result<EventList, Error> {
    let mut next = None;
    if let Some(end) = end {
        let mut tx = app.store.read().await?;
        let last = tx.chain(end, 1).await?;
        next = last.first().map(|row| next_page(ask, row.id));
    }
    Ok(EventList {
        object: "list".to_owned(),
        data,
        has_more: next.is_some(),
        next,
    })
}

fn next_page(ask: &FollowAsk, after: EventId) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    };
    put("types", ask.types.as_deref());
    put("since", ask.since.as_deref());
    put("object", ask.object.as_deref());
    put("limit", ask.limit.map(|limit| limit.to_string()).as_deref());
    put("starting_after", Some(&after.to_string()));
    format!("/v1/events?{}", query.finish())
}

/// A follower of the log: each event that the caller may see and wants, in the order of the log, from a place on.
pub struct Follower {
    app: App,
    wanted: Wanted,
    cursor: i64,
    ready: VecDeque<EventNotice>,
    news: watch::Receiver<i64>,
    end: CancellationToken,
    ended: bool,
}

/// Follows the log after the event with the id `last`, or `starting_after`; else from `since` on; else from now on.
///
/// # Errors
/// [`Error::SignatureRequired`]; [`Error::EventGone`] when that event is not in the log.
pub async fn follow(app: &App, context: &Context, ask: &FollowAsk, last: Option<&str>) -> Result<Follower, Error> {
    if ask.limit.is_some() {
        return Err(Error::invalid("/limit", "a stream has no limit"));
    }
    let mut wanted = Wanted::of(app, context, ask)?;
    let last = last.filter(|id| !id.is_empty()).or(ask.starting_after.as_deref());
    let cursor = if let Some(id) = last {
        // Whoever comes back has had what is older.
        wanted.since = None;
        place(app, id).await?
    } else {
        let mut tx = app.store.read().await?;
        match wanted.since {
            Some(since) => tx.events_since(since).await?.saturating_sub(1),
            None => tx.chain_head().await?.0,
        }
    };
    Ok(Follower {
        app: app.clone(),
        wanted,
        cursor,
        ready: VecDeque::new(),
        news: app.store.news(),
        end: app.flows().token(),
        ended: false,
    })
}

impl Follower {
    /// The next event; waits for it. `None` when the server ends or the vault is sealed, after all that was committed
    /// before; and when the log cannot be read: the caller comes back.
    pub async fn next(&mut self) -> Option<EventNotice> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                return Some(notice);
            }
            // First the mark, then the look: what is committed in between changes the mark.
            self.news.mark_unchanged();
            let at_end = match self.read().await {
                Ok(at_end) => at_end,
                Err(error) => {
                    tracing::debug!(%error, "a follower of the log cannot go on");
                    return None;
                }
            };
            if at_end && self.ready.is_empty() {
                if self.ended {
                    return None;
                }
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.end.cancelled() => self.ended = true,
            changed = self.news.changed() => {
                self.ended |= changed.is_err();
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Reads a batch after the cursor; whether that was all there is.
    async fn read(&mut self) -> Result<bool, Error> {
        let filter = EventFilter {
            after_n: Some(self.cursor),
            ..self.wanted.filter()
        };
        let mut tx = self.app.store.read().await?;
        let rows = tx.events(&filter, BATCH).await?;
        let (head, _) = tx.chain_head().await?;
        tx.end().await?;
        for row in &rows {
            self.ready.extend(self.wanted.told(&self.app, row).await?);
            self.cursor = row.n;
        }
        let at_end = i64::try_from(rows.len()).unwrap_or(i64::MAX) < BATCH;
        if at_end {
            self.cursor = self.cursor.max(head);
        }
        Ok(at_end)
    }
}
