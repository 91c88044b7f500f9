//! Limits that 64 at once want past, on two servers of one database, one of which dies among them: what is given is what
//! the policy says, to the unit. What a dead server took and could not give stays taken.

use std::collections::HashSet;

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use serde_json::Value;

use super::check;
use super::load::{Countdown, Gone, Grant, Player, Seen, note};
use super::pair::{Database, beside};
use super::scene::{Scene, ok};
use super::server::Server;

const MANY: usize = 64;
/// How many answers the second server gives before it dies.
const ANSWERS: i64 = 3;

/// The policy for free grants, with limits of its own.
fn given(limits: &str, max_resolves: usize) -> String {
    format!(
        r#"name = "given"
vendor = "demo"
scopes = ["echo:write"]
[who]
kinds = ["agent"]
principals = ["agent"]
[grant]
max_ttl = "30m"
max_resolves = {max_resolves}
[reveal]
prims = ["{PRIM}"]
max_lease = "25m"
[limits]
{limits}
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

/// Two servers, and what is wanted of them.
struct Rush<'a> {
    scene: &'a Scene,
    first: &'a Server,
    seen: Seen,
}

impl Rush<'_> {
    async fn put(&self, limits: &str, max_resolves: usize) {
        let text = given(limits, max_resolves);
        self.scene.approve(self.first, "given", &text).await;
    }

    /// 64 try at once, every second one at a server that is killed among them; who lost its answer tries again at the
    /// other.
    async fn run<T>(&self, act: impl AsyncFn(Player, usize) -> Result<Option<T>, Gone>) -> Vec<T> {
        let second = self.second().await;
        let countdown = Countdown::new(&second, ANSWERS);
        let (act, countdown, second) = (&act, &countdown, &second);
        let one = async |at: usize| {
            if at % 2 == 1 {
                let dying = Player::new(self.scene, second, &self.seen).counted(countdown, false);
                if let Ok(got) = act(dying, at).await {
                    return got;
                }
            }
            act(self.player(), at).await.ok().flatten()
        };
        let got = futures_util::future::join_all((0..MANY).map(one)).await;
        assert!(countdown.left() <= 0, "the second server was not killed");
        got.into_iter().flatten().collect()
    }

    /// In a place of its own, where one may have been before.
    async fn second(&self) -> Server {
        let _none = std::fs::remove_dir_all(format!("{}-2", self.scene.setting.data_dir.display()));
        beside(self.scene).start().await
    }

    fn player(&self) -> Player {
        Player::new(self.scene, self.first, &self.seen)
    }

    async fn be_given(&self) -> Grant {
        let given = self.player().be_given(None).await;
        given.ok().flatten().expect("a grant")
    }

    /// What the operator is shown.
    async fn shown(&self, path: &[&str]) -> Value {
        ok(
            &self.scene.operator(self.first),
            &Request::get(path).query("limit", Some(100)),
        )
        .await
    }

    /// How often a grant was used, by its row.
    async fn used(&self, grant: &Grant) -> i64 {
        let shown = ok(
            &self.scene.operator(self.first),
            &Request::get(&["v1", "grants", &grant.id]),
        )
        .await;
        let number = |name: &str| shown["limits"][name].as_i64().unwrap();
        number("max_resolves") - number("remaining_resolves")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_to_the_unit_when_one_of_two_servers_dies() {
    let Some(database) = Database::create("limits").await else {
        return;
    };
    let (scene, first) = database.scene().await;
    let rush = Rush {
        scene: &scene,
        first: &first,
        seen: Seen::default(),
    };

    // Grants of one principal.
    rush.put("grants = \"12/day\"", 1000).await;
    let grants = rush
        .run(async |player, at| player.be_given(Some(&format!("wanted-{at}"))).await)
        .await;
    let on_record = rush.shown(&["v1", "grants"]).await;
    assert_eq!(on_record["data"].as_array().unwrap().len(), 12);
    assert!(grants.len() <= 12, "{} were given", grants.len());

    // Leases alive at once, over ten grants.
    rush.put("live_leases = 5", 1000).await;
    let mut grants = Vec::new();
    for _ in 0..10 {
        grants.push(rush.be_given().await);
    }
    let keys = rush
        .run(async |player, at| player.resolve(&grants[at % grants.len()]).await)
        .await;
    let leases: HashSet<_> = keys.into_iter().map(|key| key.lease).collect();
    assert!(leases.len() <= 5, "{leases:?}");
    let status = ok(&scene.operator(&first), &Request::get(&["v1", "sys", "status"])).await;
    assert_eq!(status["live_leases"], 5, "{status}");

    // Resolves of one grant.
    rush.put("live_leases = 1000", 9).await;
    let grant = rush.be_given().await;
    let keys = rush.run(async |player, _| player.resolve(&grant).await).await;
    assert!(keys.len() <= 9, "{} keys", keys.len());
    assert_eq!(rush.used(&grant).await, 9);

    // Resolves of one principal, over two grants.
    rush.put("rate = \"7/day\"", 1000).await;
    let grants = [rush.be_given().await, rush.be_given().await];
    let keys = rush
        .run(async |player, at| player.resolve(&grants[at % 3 % 2]).await)
        .await;
    assert!(keys.len() <= 7, "{} keys", keys.len());
    assert_eq!(rush.used(&grants[0]).await + rush.used(&grants[1]).await, 7);

    let meant = ["rate_limited", "too_many_leases", "used_up", "idempotency_running"];
    note(&rush.seen, |seen| {
        seen.odd.retain(|odd| !meant.iter().any(|code| odd.contains(code)));
    });
    check::always(&scene, &first, &rush.seen).await;
    drop(first);
    database.drop().await;
}
