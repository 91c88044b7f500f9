//! The background workers: what time and trouble make necessary. Each step is a verb; this file says when.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::base::id::WebhookId;
use crate::base::time::Ttl;
use crate::model::scope::Name;
use crate::service::error::Error;
use crate::service::{
    App, backup, checkpoint, deliver, end, expire, incarnation, keys, reap, reconcile, recover, reseal, schedule,
    unseal,
};

/// How often waiting events are numbered and signed.
const CHECKPOINT: Duration = Duration::from_millis(500);

/// How often the log is looked at for what other instances did.
const FOLLOW: Duration = Duration::from_millis(250);

/// How long news of the log are gathered before webhooks are looked at.
const GATHER: Duration = Duration::from_millis(50);

/// How long deliveries that are over are kept.
const DELIVERIES: Ttl = Ttl::from_mins(30 * 24 * 60);

/// How often it is looked whether a vendor's list is to be compared with what is on record.
const REAP: Duration = Duration::from_secs(1);

/// How often timers are looked at; work that arrives wakes at once.
const TICK: Duration = Duration::from_millis(500);

/// How often what nobody needs any more is swept.
const SWEEP: Duration = Duration::from_mins(1);

/// How often changes of dekeys' own keys are looked for.
const KEYS: Duration = Duration::from_secs(2);

/// How often keys that are due for their rotation are looked for.
const SCHEDULE: Duration = Duration::from_secs(2);

/// How often it is looked whether a backup is due.
const BACKUPS: Duration = Duration::from_secs(5);

/// Looks between two passes that seal anew when no key was changed: an hour.
const RESEAL_EVERY: u32 = 1800;

/// Between two batches that are sealed anew.
const PAUSE: Duration = Duration::from_millis(20);
/// How often trouble that lasts is looked for.
const LOOK_OUT: Duration = Duration::from_secs(2);

/// How often what was timed is put into its buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Longer than the keys of the largest grant take: whoever made it is gone.
const LONGEST_MAKING: Ttl = Ttl::from_mins(5);

/// Rows taken at a time.
const BATCH: i64 = 256;

/// Steps under way at once.
const AT_ONCE: usize = 128;

/// Runs all workers until `stop` is done.
pub async fn run(app: App, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = number(&app) => {}
        () = tend(&app) => {}
        () = compare(&app) => {}
        () = sweep(&app) => {}
        () = keys(&app) => {}
        () = schedule(&app) => {}
        () = upkeep(&app) => {}
        () = alarm(&app) => {}
        () = follow(&app) => {}
        () = webhooks(&app) => {}
        () = backups(&app) => {}
    }
}

/// Sends to webhooks. Each has a lane of its own: one that is slow or dead holds up no other.
async fn webhooks(app: &App) {
    let mut lanes = Steps::default();
    let seen: Arc<Mutex<HashMap<WebhookId, i64>>> = Arc::default();
    let mut news = app.store.news();
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _changed = news.changed() => {}
            () = app.webhooks_asked() => {}
        }
        // A busy log is not looked at for each event.
        tokio::time::sleep(GATHER).await;
        while lanes.running.try_join_next().is_some() {}
        if app.is_sealed() {
            continue;
        }
        let head = *news.borrow_and_update();
        match deliver::work(app).await {
            Ok(work) => {
                for (id, cursor, due) in work {
                    let looked = seen.lock().get(&id).copied().unwrap_or(0).max(cursor);
                    if due || looked < head || head == 0 {
                        lane(app, &mut lanes, &seen, (id, looked));
                    }
                }
            }
            Err(error) => report("webhooks", Err(error)),
        }
    }
}

fn lane(app: &App, lanes: &mut Steps, seen: &Arc<Mutex<HashMap<WebhookId, i64>>>, work: (WebhookId, i64)) {
    let (app, seen, (id, looked)) = (app.clone(), Arc::clone(seen), work);
    lanes.begin("a webhook", id.to_string(), None, async move {
        let end = deliver::lane(&app, id, looked).await?;
        seen.lock().insert(id, end);
        Ok(())
    });
}

/// Looks for what other instances put into a shared log, while somebody here follows it.
async fn follow(app: &App) {
    loop {
        tokio::time::sleep(FOLLOW).await;
        if app.store.is_followed() {
            report(
                "following the log",
                app.store.look_for_news().await.map_err(Error::from),
            );
        }
    }
}

async fn number(app: &App) {
    loop {
        tokio::time::sleep(CHECKPOINT).await;
        if !app.is_sealed() && !app.log_is_broken() {
            let signed = checkpoint::catch_up(app).await;
            if signed.is_ok() {
                app.metrics().signed(app.now());
            }
            report("checkpoint", signed);
        }
    }
}

/// Ends what is over, goes on with keys and payments whose time has come. A step that waits for a slow vendor holds up
/// nothing but itself.
async fn tend(app: &App) {
    let mut steps = Steps::default();
    loop {
        let done = Arc::clone(&steps.done);
        let whole = tokio::select! {
            () = tokio::time::sleep(TICK) => true,
            () = app.work_arrives() => true,
            () = done.notified() => false,
        };
        while steps.running.try_join_next().is_some() {}
        // A copy or a restored database ends nothing before people have compared it with the vendors.
        if app.is_sealed() || app.is_reconciling() {
            continue;
        }
        if whole {
            report("expiry", expire::step(app).await.map(drop));
            report("orphans", orphans(app, &mut steps).await);
            report("payments", payments(app, &mut steps).await);
            report("rotations", rotations(app, &mut steps).await);
        }
        report("credentials", credentials(app, &mut steps).await);
    }
}

/// Compares what vendors list with what is on record, each in a lane of its own, and ends what is nobody's.
async fn compare(app: &App) {
    let mut steps = Steps::default();
    loop {
        tokio::time::sleep(REAP).await;
        while steps.running.try_join_next().is_some() {}
        if app.is_sealed() || app.is_reconciling() {
            continue;
        }
        match reap::due(app).await {
            Ok(due) => {
                for (root, _) in due {
                    let app = app.clone();
                    steps.begin("comparing a vendor's keys", root.to_string(), None, async move {
                        reap::compare(&app, root).await
                    });
                }
            }
            Err(error) => report("comparing vendors' keys", Err(error)),
        }
    }
}

/// The steps under way: each thing has one at a time.
#[derive(Default)]
struct Steps {
    running: JoinSet<()>,
    under_way: Arc<Mutex<HashMap<String, Option<Name>>>>,
    /// Told when a step ended: there is room for the next.
    done: Arc<Notify>,
}

impl Steps {
    /// Begins a step in a vendor's lane, unless the same is under way or there is no room; whether it did.
    fn begin(
        &mut self,
        what: &'static str,
        id: String,
        lane: Option<&Name>,
        step: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> bool {
        if self.running.len() >= AT_ONCE {
            return false;
        }
        match self.under_way.lock().entry(id.clone()) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(place) => place.insert(lane.cloned()),
        };
        let (under_way, done) = (Arc::clone(&self.under_way), Arc::clone(&self.done));
        self.running.spawn(async move {
            report(what, step.await);
            under_way.lock().remove(&id);
            done.notify_one();
        });
        true
    }

    /// How many steps are under way at a vendor.
    fn at(&self, vendor: &Name) -> usize {
        let under_way = self.under_way.lock();
        under_way.values().filter(|lane| lane.as_ref() == Some(vendor)).count()
    }
}

/// Goes on with the keys of each root credential: as many at once as its vendor takes, one now and then while it is left
/// alone. A vendor that does not answer holds up no other.
async fn credentials(app: &App, steps: &mut Steps) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.read().await?;
    let roots = tx.roots_due(now).await?;
    tx.end().await?;
    for (root, vendor) in roots {
        let under_way = steps.at(&vendor);
        let room = recover::at_once(app, root).await.saturating_sub(under_way);
        if room == 0 || app.breakers().rests(root, now) {
            continue;
        }
        // Those under way may still be due on record.
        let limit = i64::try_from(room.saturating_add(under_way)).unwrap_or(i64::MAX);
        let mut tx = app.store.read().await?;
        let due = tx.credentials_due_of(root, now, limit).await?;
        tx.end().await?;
        for id in due {
            let (app, name) = (app.clone(), id.to_string());
            steps.begin("a credential", name, Some(&vendor), async move {
                if app.breakers().take(root, app.now(), 1) == 0 {
                    return Ok(());
                }
                recover::step(&app, id).await
            });
        }
    }
    Ok(())
}

/// Ends keys that are nobody's.
async fn orphans(app: &App, steps: &mut Steps) -> Result<(), Error> {
    for orphan in reap::to_end(app).await? {
        let (app, id, root) = (app.clone(), orphan.id, orphan.root);
        steps.begin("an orphan", id.to_string(), Some(&orphan.vendor), async move {
            if app.breakers().take(root, app.now(), 1) == 0 {
                return Ok(());
            }
            reap::end(&app, id).await
        });
    }
    Ok(())
}

async fn rotations(app: &App, steps: &mut Steps) -> Result<(), Error> {
    for id in schedule::waiting(app, BATCH).await? {
        let app = app.clone();
        steps.begin("a rotation", id.to_string(), None, async move {
            schedule::step(&app, id).await
        });
    }
    Ok(())
}

/// Begins the rotation of keys that are due, also of those that came due while nobody was there.
async fn schedule(app: &App) {
    loop {
        tokio::time::sleep(SCHEDULE).await;
        if !app.is_sealed() && !app.log_is_broken() && !app.is_reconciling() {
            report("the schedule of rotations", schedule::begin_due(app).await);
        }
    }
}

async fn payments(app: &App, steps: &mut Steps) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let due = tx.purchases_due(app.now(), BATCH).await?;
    drop(tx);
    for purchase in due {
        let (app, id) = (app.clone(), purchase.unverified.id);
        steps.begin("a payment", id.to_string(), None, async move {
            reconcile::step(&app, id).await
        });
    }
    Ok(())
}

/// Raises what lasts too long; also while sealed, when nothing else of this works.
async fn alarm(app: &App) {
    loop {
        tokio::time::sleep(LOOK_OUT).await;
        if !app.is_reconciling() {
            report("alarm", end::alarm(app).await);
        }
    }
}

async fn upkeep(app: &App) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        app.metrics().upkeep();
    }
}

async fn sweep(app: &App) {
    loop {
        tokio::time::sleep(SWEEP).await;
        report("key wraps", unseal::reserve_wraps(app).await);
        report("sweep", swept(app).await);
        report("grants left", left(app).await);
    }
}

/// Makes and tries backups when they are due.
async fn backups(app: &App) {
    loop {
        tokio::time::sleep(BACKUPS).await;
        if !app.is_sealed() && !app.is_reconciling() {
            report("backups", backup::due(app).await);
        }
    }
}

/// Follows keys that other instances changed, changes what is due, and seals anew what an older key sealed: a pass
/// after each change, and one an hour for what an instance that lagged behind may have sealed.
async fn keys(app: &App) {
    let (mut passed, mut since) = (None, 0);
    loop {
        tokio::time::sleep(KEYS).await;
        if app.is_sealed() {
            continue;
        }
        report("following the history", incarnation::follow(app).await);
        report("following keys", keys::follow(app).await);
        report("key rotation", keys::rotate_due(app).await);
        let current = app.vault.current_prefix().ok();
        since = if passed == current { since + 1 } else { RESEAL_EVERY };
        if since >= RESEAL_EVERY {
            report("sealing anew", resealed(app).await);
            (passed, since) = (current, 0);
        }
    }
}

async fn resealed(app: &App) -> Result<(), Error> {
    reseal::own(app).await?;
    let mut after = None;
    while let Some(last) = reseal::credentials(app, after).await? {
        after = Some(last);
        // Others want to write too.
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn swept(app: &App) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let _rows = tx.sweep(app.now()).await?;
    let _deliveries = tx.sweep_deliveries(app.now().minus(DELIVERIES)).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

async fn left(app: &App) -> Result<(), Error> {
    if app.is_sealed() || app.is_reconciling() {
        return Ok(());
    }
    expire::left(app, app.now().minus(LONGEST_MAKING)).await
}

/// Says what went wrong; the next round tries again.
fn report(what: &str, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) | Err(Error::Sealed | Error::Reconciling(_)) => {}
        Err(error) => tracing::warn!(%error, what, "a worker's step failed"),
    }
}
