//! The walks whose every arrow is tried: each goes through one state machine from its begin to its end, by HTTP, and
//! stops where the server is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dekeys::base::secret::SecretText;
use dekeys::client::{Client, Reply, Request};
use dekeys::mock::Fault;
use dekeys::model::rotation::{Rotation, RotationState};
use dekeys::store::Store;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::load::{Countdown, Gone, Grant, Player, Seen};
use super::rotation::{rested, shared, whole};
use super::scene::{Scene, ok, word};
use super::server::{PATIENCE, Server, Setting, pause, until};

/// A vendor with an API for another root credential.
const ROOTS: &str = r#"mode = "create_then_revoke"
[root.rotate]
mode = "create_then_revoke"
[root.rotate.who]
path = "/roots/self"
id = "/id"
[root.rotate.call]
method = "POST"
path = "/roots"
body = { name = "${name}" }
fields = { key = "/value" }
[root.rotate.end]
method = "DELETE"
path = "/roots/${id}"
ok = [204]
"#;

/// How long a walk waits for what a worker does, before it gives up on it.
const AWHILE: Duration = Duration::from_secs(12);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// Keys before money: buy, resolve, end the lease, resolve again, end the grant.
    Purchase,
    /// Money before keys.
    Prepaid,
    /// A free grant, its key, its end.
    Free,
    /// The vendor makes a key and its answer is lost: it is looked for and ended.
    LostAnswer,
    /// The vendor makes two keys for one ask.
    Double,
    /// The vendor refuses to end a key at first.
    RefusedEnd,
    /// A grant and its key come to their end by time.
    Expiry,
    /// A shared key gives way to another.
    Rotation,
    /// A root credential gives way to another.
    RootRotation,
    /// A backup is made and tried.
    Backup,
    /// dekeys' own keys are rotated.
    OwnKeys,
}

impl Walk {
    pub(crate) const ALL: [Self; 11] = [
        Self::Purchase,
        Self::Prepaid,
        Self::Free,
        Self::LostAnswer,
        Self::Double,
        Self::RefusedEnd,
        Self::Expiry,
        Self::Rotation,
        Self::RootRotation,
        Self::Backup,
        Self::OwnKeys,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Prepaid => "purchase, money first",
            Self::Free => "free grant",
            Self::LostAnswer => "lost answer",
            Self::Double => "double creation",
            Self::RefusedEnd => "refused revocation",
            Self::Expiry => "expiry",
            Self::Rotation => "rotation",
            Self::RootRotation => "root rotation",
            Self::Backup => "backup",
            Self::OwnKeys => "own keys",
        }
    }
}

/// An instance on which a walk is gone again and again.
pub(crate) struct Ground {
    pub(crate) scene: Scene,
    pub(crate) walk: Walk,
    /// Of a grant that shares its key, where the walk rotates that.
    token: Option<SecretText>,
    /// Of a grant from before everything.
    first: Option<Grant>,
}

impl Ground {
    /// An instance for this walk, on SQLite or in another database.
    pub(crate) async fn prepare(walk: Walk, database_url: Option<String>, seen: &Seen) -> (Self, Server) {
        let place: TempDir = tempfile::tempdir().unwrap();
        let mut setting = Setting::in_dir(&place.path().join("data"));
        if let Some(url) = database_url {
            setting.database_url = url;
        }
        setting.trusted_after = u8::from(walk == Walk::Prepaid);
        setting.reap = Some("2s");
        let manifest = include_str!("../../vendors/demo.toml");
        let rotating = manifest.replace(
            "[rotate]\nmode = \"create_then_revoke\"\n",
            &format!("[rotate]\n{ROOTS}"),
        );
        let manifest = (walk == Walk::RootRotation).then_some(rotating.as_str());
        let (scene, server) = Scene::prepare_with(setting, Some(place), manifest).await;
        std::fs::create_dir(scene.setting.fail_points()).unwrap();
        let mut ground = Self {
            scene,
            walk,
            token: None,
            first: None,
        };
        if walk == Walk::Rotation {
            ground.token = Some(shared(&ground.scene, &server).await);
        } else {
            let player = Player::new(&ground.scene, &server, seen);
            let Ok(given) = player.be_given(None).await else {
                panic!("the server is gone")
            };
            ground.first = given;
        }
        (ground, server)
    }

    /// The file of this name among those of the fail points.
    pub(crate) fn point_file(&self, name: &str) -> PathBuf {
        self.scene.setting.fail_points().join(name)
    }

    /// Goes the walk once.
    pub(crate) async fn go(&self, server: &Server, seen: &Seen, countdown: &Arc<Countdown>) -> Result<(), Gone> {
        let walker = Walker {
            scene: &self.scene,
            server,
            player: Player::new(&self.scene, server, seen).counted(countdown, self.walk == Walk::Expiry),
            operator: match self.walk {
                Walk::OwnKeys => self.scene.admin(),
                _ => self.scene.operator(server),
            },
            countdown,
        };
        match self.walk {
            Walk::Purchase | Walk::Prepaid => walker.purchase().await,
            Walk::Free => walker.free().await,
            Walk::LostAnswer => walker.lost_answer().await,
            Walk::Double => walker.double().await,
            Walk::RefusedEnd => walker.refused_end().await,
            Walk::Expiry => walker.expiry().await,
            Walk::Rotation => walker.rotation().await,
            Walk::RootRotation => walker.root_rotation().await,
            Walk::Backup => walker.backup().await,
            Walk::OwnKeys => walker.own_keys().await,
        }
    }

    /// What must hold of this walk after any kill, beside what always must.
    pub(crate) async fn holds(&self, server: &Server, seen: &Seen) {
        if let Some(token) = &self.token {
            whole(&self.scene, server, token).await;
            self.no_rotation_is_under_way(server).await;
        }
        if self.walk == Walk::RootRotation {
            self.no_rotation_is_under_way(server).await;
        }
        if self.walk == Walk::Backup {
            self.backups_are_whole(server).await;
        }
        if let Some(first) = &self.first {
            let key = Player::new(&self.scene, server, seen).resolve(first).await;
            assert!(key.is_ok_and(|key| key.is_some()), "{:?}", seen.lock().unwrap().odd);
        }
    }

    /// What must hold in the end.
    pub(crate) async fn rests(&self, server: &Server) {
        if let Some(token) = &self.token {
            rested(&self.scene, server, token).await;
        }
        if self.walk == Walk::RootRotation {
            self.one_root_lives_or_people_were_told().await;
        }
        if self.walk == Walk::Backup {
            ok(&self.scene.operator(server), &Request::post(&["v1", "sys", "backups"])).await;
            let folder = self.scene.setting.data_dir.join("backups");
            let names = std::fs::read_dir(folder).unwrap();
            let half = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .find(|name| name.ends_with(".partial"));
            assert_eq!(half, None, "half a backup was left behind");
        }
    }

    /// One root credential lives, and those that a rotation may have left behind are named by what it said.
    async fn one_root_lives_or_people_were_told(&self) {
        let store = Store::open(&self.scene.setting.database_url).await.unwrap();
        let mut tx = store.read().await.unwrap();
        let rows = tx.rotations_of("demo", 1000).await.unwrap();
        tx.end().await.unwrap();
        store.close().await;
        let told = |name: &str| {
            let words = |row: &Rotation| row.last_error.as_ref().is_some_and(|words| words.contains(name));
            !name.is_empty() && rows.iter().any(|row| row.state == RotationState::Failed && words(row))
        };
        let roots = self.scene.vendor.roots();
        let live = roots.iter().filter(|root| root.until.is_none());
        let untold: Vec<_> = live.filter(|root| !told(&root.name)).map(|root| &root.name).collect();
        assert_eq!(untold.len(), 1, "{untold:?}");
    }

    async fn no_rotation_is_under_way(&self, server: &Server) {
        let operator = self.scene.operator(server);
        until("no rotation under way", async || {
            hurry(&self.scene).await;
            let list = ok(&operator, &Request::get(&["v1", "rotations"])).await;
            let rows = list["data"].as_array().unwrap().clone();
            rows.iter().all(|row| is_over(&row["state"])).then_some(())
        })
        .await;
    }

    /// What has the name of a backup is one.
    async fn backups_are_whole(&self, server: &Server) {
        let operator = self.scene.operator(server);
        let list = ok(&operator, &Request::get(&["v1", "sys", "backups"])).await;
        let rows = list["data"].as_array().unwrap();
        for row in rows {
            assert!(row["trouble"].is_null(), "{row}");
        }
        if let Some(newest) = rows.first() {
            let path = ["v1", "sys", "backups", &word(newest, "/name"), "verify"];
            ok(&operator, &Request::post(&path)).await;
        }
    }
}

fn is_over(state: &Value) -> bool {
    state.is_null() || matches!(state.as_str(), Some("done" | "failed"))
}

/// The minute for which an old root credential lives on at least is over.
async fn hurry(scene: &Scene) {
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let last = tx.rotations_of("demo", 1).await.unwrap().pop();
    tx.end().await.unwrap();
    if last.is_some_and(|row| row.state == RotationState::Overlap && row.next_at > row.promoted) {
        let mut tx = store.begin().await.unwrap();
        if let Some(mut row) = tx.rotations_of("demo", 1).await.unwrap().pop() {
            row.next_at = row.promoted;
            tx.update_rotation(&row).await.unwrap();
            tx.commit(&[], &[]).await.unwrap();
        }
    }
    store.close().await;
}

struct Walker<'a> {
    scene: &'a Scene,
    server: &'a Server,
    player: Player,
    operator: Client,
    countdown: &'a Countdown,
}

impl Walker<'_> {
    async fn purchase(&self) -> Result<(), Gone> {
        let payment = self.player.sign().await?;
        let Some(grant) = self.player.buy(&payment).await? else {
            return Ok(());
        };
        self.use_up(&grant).await
    }

    /// Resolves, ends the lease, has another key made, ends the grant.
    async fn use_up(&self, grant: &Grant) -> Result<(), Gone> {
        let Some(key) = self.player.resolve(grant).await? else {
            return Ok(());
        };
        self.player.end_lease(&key).await?;
        self.player.resolve(grant).await?;
        self.player.end_grant(grant).await
    }

    async fn free(&self) -> Result<(), Gone> {
        match self.player.be_given(None).await? {
            Some(grant) => self.use_up(&grant).await,
            None => Ok(()),
        }
    }

    async fn lost_answer(&self) -> Result<(), Gone> {
        let before = self.scene.vendor.live_keys().len();
        self.fault(Fault {
            op: "create".to_owned(),
            drop_reply: true,
            count: Some(1),
            ..Fault::default()
        });
        self.player.be_given(None).await?;
        self.wait(async || self.scene.vendor.live_keys().len() == before).await
    }

    async fn double(&self) -> Result<(), Gone> {
        self.fault(Fault {
            op: "create".to_owned(),
            twice: true,
            count: Some(1),
            ..Fault::default()
        });
        let Some(grant) = self.player.be_given(None).await? else {
            return Ok(());
        };
        let before = self.scene.vendor.live_keys().len();
        self.wait(async || self.scene.vendor.live_keys().len() < before).await?;
        self.player.end_grant(&grant).await
    }

    async fn refused_end(&self) -> Result<(), Gone> {
        let Some(grant) = self.player.be_given(None).await? else {
            return Ok(());
        };
        let Some(key) = self.player.resolve(&grant).await? else {
            return Ok(());
        };
        self.fault(Fault {
            op: "revoke".to_owned(),
            status: Some(503),
            count: Some(1),
            ..Fault::default()
        });
        self.player.end_lease(&key).await?;
        self.wait(async || {
            self.scene
                .vendor
                .live_keys()
                .iter()
                .all(|live| live.secret != key.secret)
        })
        .await
    }

    async fn expiry(&self) -> Result<(), Gone> {
        let before = self.scene.vendor.live_keys().len();
        let Some(grant) = self.player.be_given_for(None, Some("3s")).await? else {
            return Ok(());
        };
        self.player.resolve(&grant).await?;
        self.wait(async || {
            let reply = self
                .operator
                .send_any(&Request::get(&["v1", "grants", &grant.id]))
                .await;
            let state = reply.map(|reply| word(&reply.json(), "/state")).unwrap_or_default();
            state == "expired" && self.scene.vendor.live_keys().len() <= before
        })
        .await
    }

    async fn rotation(&self) -> Result<(), Gone> {
        let path = ["v1", "credentials", "pooled", "rotate"];
        self.post(&path, &json!({ "grace": "0s" })).await?;
        self.idle().await
    }

    async fn root_rotation(&self) -> Result<(), Gone> {
        self.post(&["v1", "vendors", "demo", "rotate-root"], &json!({})).await?;
        self.idle().await
    }

    async fn backup(&self) -> Result<(), Gone> {
        let made = self.post(&["v1", "sys", "backups"], &Value::Null).await?.json();
        let path = ["v1", "sys", "backups", &word(&made, "/name"), "verify"];
        self.post(&path, &Value::Null).await.map(drop)
    }

    async fn own_keys(&self) -> Result<(), Gone> {
        for kind in ["kek", "token", "log"] {
            self.post(&["v1", "sys", "keys", "rotate"], &json!({ "kind": kind }))
                .await?;
        }
        self.free().await
    }

    async fn post(&self, path: &[&str], body: &Value) -> Result<Reply, Gone> {
        let request = Request::post(path);
        let request = if body.is_null() { request } else { request.json(body) };
        let reply = self.operator.send_any(&request).await?;
        self.countdown.heard();
        assert!(matches!(reply.status, 200..=299 | 409 | 502 | 503), "{}", reply.json());
        Ok(reply)
    }

    async fn idle(&self) -> Result<(), Gone> {
        self.wait(async || {
            hurry(self.scene).await;
            let list = self.operator.send_any(&Request::get(&["v1", "rotations"])).await;
            let list = list.map(|reply| reply.json()).unwrap_or_default();
            let rows = list["data"].as_array().cloned().unwrap_or_default();
            !rows.is_empty() && rows.iter().all(|row| is_over(&row["state"]))
        })
        .await
    }

    fn fault(&self, fault: Fault) {
        self.scene.vendor.fault(fault);
    }

    /// Waits for what a worker does, or for the server's end.
    async fn wait(&self, mut done: impl AsyncFnMut() -> bool) -> Result<(), Gone> {
        let anyone = self.server.client(None);
        let end = Instant::now() + AWHILE.min(PATIENCE);
        while !done().await && Instant::now() < end {
            anyone.send_any(&Request::get(&["healthz"])).await?;
            pause().await;
        }
        Ok(())
    }
}
