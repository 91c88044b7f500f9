//! The command line against the real server: an agent buys, a prim resolves, people decide, an operator seals.

use std::net::SocketAddr;

use serde_json::Value;

use super::stage::{Ran, Stage};
use dekeys::setup::stage::{PRIM, Stage as Instance};

/// A test instance with the demo vendor, and a stage that talks to it.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) instance: Option<Instance>,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    pub(super) fn open() -> Self {
        let mut stage = Stage::new();
        stage.live = true;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let instance = runtime.block_on(Instance::ready(stage.path("data"), any)).unwrap();
        stage.set("DEKEYS_ADDR", &instance.server.url);
        stage.set("DEKEYS_ADMIN_ADDR", &instance.server.admin);
        Self {
            stage,
            instance: Some(instance),
            runtime,
        }
    }

    pub(super) fn try_as(&self, who: &str, line: &str) -> Ran {
        let key = self.instance.as_ref().unwrap().key_file(who);
        self.stage.run(&format!("{line} --key-file {}", key.display()))
    }

    pub(super) fn run_as(&self, who: &str, line: &str) -> Ran {
        let ran = self.try_as(who, line);
        assert_eq!(ran.exit, 0, "{line}: {ran:?}");
        ran
    }

    /// The first column of the first line.
    pub(super) fn first(&self, who: &str, line: &str) -> String {
        let ran = self.run_as(who, line);
        ran.out.split(['\t', '\n']).next().unwrap().to_owned()
    }

    fn live_keys(&self) -> usize {
        self.instance.as_ref().unwrap().vendor.live_keys().len()
    }

    /// Buys a grant with the wallet of the stage; its token is in the file `token`.
    pub(super) fn buy(&self) -> Ran {
        let wallet = self.stage.file("wallet", &"42".repeat(32));
        let token = self.stage.path("token");
        let line = format!(
            "grant create dk://demo/echo:read --pay-key-file {wallet} --max-price '0.01 USDC' --out-token {}",
            token.display()
        );
        self.run_as("agent", &line)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.runtime.block_on(instance.server.stop());
        }
    }
}

#[test]
fn a_payment_is_bound_to_its_request() {
    let scene = Scene::open();
    // A wallet on record with somebody else pays for this agent only because it signed for its request.
    let wallet = dekeys::base::secret::SecretBytes::new(vec![0x42; 32]);
    let account = format!("eip155:84532:{}", dekeys::payment::payer_address(&wallet).unwrap());
    let public = crate::support::new_key().public();
    let create = format!("principal create company --kind agent --public-key {public} --wallet {account}");
    scene.run_as("operator", &create);
    let ran = scene.buy();
    assert!(ran.out.contains("state\tactive\n"), "{ran:?}");
}

#[test]
fn an_agent_buys_a_prim_resolves_and_the_key_dies_with_its_lease() {
    let scene = Scene::open();
    let ran = scene.buy();
    assert!(
        ran.out.contains("state\tactive\n") && !ran.out.contains("dkt_test_"),
        "{ran:?}"
    );
    let (token, pinned) = (scene.stage.path("token"), scene.stage.path("pinned"));
    let (token, pinned) = (token.display(), pinned.display());

    let resolve = |file: &str| {
        scene.try_as(
            PRIM,
            &format!("resolve dk://demo/echo:read --reveal --token-file {file}"),
        )
    };
    let ran = resolve(&token.to_string());
    assert!(ran.exit == 5 && ran.out.is_empty(), "not pinned to a prim: {ran:?}");
    let ran = scene.stage.run(&format!(
        "token attenuate {token} --audience {PRIM} --ttl 5m --out-token {pinned}"
    ));
    assert_eq!(ran.exit, 0, "{ran:?}");
    let ran = scene
        .stage
        .run(&format!("token verify {pinned} --ref dk://demo/echo:read --as {PRIM}"));
    assert!(
        ran.exit == 0 && ran.out.contains("signature  checked, right"),
        "{ran:?}"
    );
    let ran = resolve(&pinned.to_string());
    assert!(
        ran.exit == 0 && ran.out.lines().count() == 1 && ran.out.len() > 10,
        "{ran:?}"
    );
    assert_eq!(scene.live_keys(), 1);

    let lease = scene.first("operator", "lease ls");
    let ran = scene.run_as("operator", &format!("lease revoke {lease} --yes --reason test"));
    assert!(ran.out.contains("confirmed\tyes\n"), "{ran:?}");
    assert_eq!(scene.live_keys(), 0, "dead at the vendor");

    let grant = scene.first("agent", "grant ls");
    scene.run_as("agent", &format!("grant revoke {grant} --yes"));
    let ran = resolve(&pinned.to_string());
    assert!(ran.exit == 4 && ran.out.is_empty(), "{ran:?}");
}

#[test]
fn a_receipt_leaves_the_server_and_proves_itself_elsewhere() {
    let scene = Scene::open();
    let shown = scene.buy().out;
    let receipt = shown.lines().find_map(|line| line.strip_prefix("receipt\t")).unwrap();
    let file = scene
        .stage
        .file("receipt.json", &scene.stage.run(&format!("receipt show {receipt}")).out);
    let keys = scene.stage.file("keys.json", &scene.stage.run("api /v1/keys").out);
    let elsewhere = Stage::new();
    let ran = elsewhere.run(&format!("receipt verify {file} --keys {keys}"));
    assert!(ran.exit == 0 && ran.out.contains("paid\t0.01 USDC (test)\n"), "{ran:?}");
    let text = std::fs::read_to_string(&file).unwrap().replacen("10000", "10001", 1);
    let bad = scene.stage.file("bad.json", &text);
    assert_eq!(elsewhere.run(&format!("receipt verify {bad} --keys {keys}")).exit, 1);
    let ran = scene.run_as("operator", "audit verify --json");
    let verified: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(verified["ok"], true);
}

#[test]
fn a_policy_changes_when_two_people_who_saw_it_agree() {
    let scene = Scene::open();
    let text = scene.run_as("operator", "policy show demo-readers --text").out;
    let file = scene
        .stage
        .file("p.toml", &text.replace("max_ttl = \"15m\"", "max_ttl = \"1h\""));
    let bad = scene.stage.file("bad.toml", &text.replace("max_ttl", "max_tll"));
    let ran = scene.try_as("operator", &format!("policy validate {bad}"));
    assert!(
        ran.exit == 2 && ran.err.contains(&format!("    {bad}:11:1: ")),
        "{ran:?}"
    );

    let ran = scene.run_as("operator", &format!("policy apply {file} --reason longer"));
    assert!(ran.out.starts_with("grant.max_ttl 15m -> 1h  (wider)\n"), "{ran:?}");
    let id = scene.first("ada", "approval ls --state pending");
    let shown = scene.run_as("ada", &format!("approval show {id}")).out;
    let digest = shown.lines().find_map(|line| line.strip_prefix("digest\t")).unwrap();
    let approve = |who: &str| scene.try_as(who, &format!("approval approve {id} --digest {digest} -c fine"));
    assert_eq!(approve("operator").exit, 5, "not an approver");
    assert_eq!(approve("ada").exit, 0);
    assert_eq!(approve("ada").exit, 9, "one vote a person");
    assert!(
        scene.run_as("ada", "policy ls").out.starts_with("demo-readers\t1\t"),
        "one of two"
    );
    let ran = approve("grace");
    assert!(ran.exit == 0 && ran.err.contains("the request is approved"), "{ran:?}");
    assert!(scene.run_as("ada", "policy ls").out.starts_with("demo-readers\t2\t"));
}

#[test]
fn a_sealed_vault_says_so_and_opens_with_its_key() {
    let scene = Scene::open();
    let login = scene.run_as("operator", "login");
    assert!(login.err.contains("signed in"), "{login:?}");
    let ran = scene.stage.run("seal --yes --reason test");
    assert!(ran.exit == 0 && ran.out.starts_with("sealed\tyes\n"), "{ran:?}");
    assert_eq!(scene.stage.run("status").exit, 8);
    assert_eq!(scene.try_as("operator", "grant ls").exit, 8);
    let wrong = scene.stage.file("wrong", &"A".repeat(43));
    let ran = scene.stage.run(&format!("unseal --unseal-key-file {wrong}"));
    assert!(ran.exit == 1 && ran.err.contains("[unseal_key_invalid]"), "{ran:?}");
    let right = scene.stage.path("data/unseal-key");
    let ran = scene
        .stage
        .run(&format!("unseal --unseal-key-file {}", right.display()));
    assert!(ran.exit == 0 && ran.out.starts_with("sealed\tno\n"), "{ran:?}");
    let ran = scene.stage.run("grant ls");
    assert!(
        ran.exit == 4 && ran.err.contains("dekeys login"),
        "sealing ended the login: {ran:?}"
    );
    assert_eq!(scene.try_as("operator", "grant ls").exit, 0);
}

#[test]
fn somebody_is_enrolled_shut_out_and_no_longer_known() {
    let scene = Scene::open();
    let (key, public) = scene.stage.key("crawler.key", 77);
    let create = format!("principal create crawler-7 --kind agent --public-key {public}");
    scene.run_as("operator", &create);
    let ran = scene.stage.run(&format!("whoami --key-file {key}"));
    assert!(ran.exit == 0 && ran.out.starts_with("name\tcrawler-7\n"), "{ran:?}");
    assert_eq!(scene.try_as("operator", &create).exit, 9, "the name is taken");
    scene.run_as("operator", "principal disable crawler-7 --yes");
    assert_eq!(scene.stage.run(&format!("whoami --key-file {key}")).exit, 4);
    let ran = scene.try_as("operator", "principal show crawler-8");
    assert!(
        ran.exit == 3 && ran.err.contains("did you mean `crawler-7`?"),
        "{ran:?}"
    );
}

#[test]
fn an_instance_is_made_once_with_keys_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt as _;
    let mut stage = Stage::new();
    stage.live = true;
    let path = |name: &str| stage.path(name).display().to_string();
    let (data, key, unseal) = (path("data"), path("ada.key"), path("unseal.key"));
    let line = format!("init --mode test --operator ada --solo --data-dir {data} --unseal-key-file {unseal}");
    let ran = stage.run(&format!("{line} --new-operator-key {key}"));
    assert!(ran.exit == 0 && ran.out.starts_with("instance\tins_"), "{ran:?}");
    for file in [&key, &unseal] {
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    let before = std::fs::read(&unseal).unwrap();
    let public = stage.run(&format!("key public {key}")).out;
    let ran = stage.run(&format!("{line} --operator-key {}", public.trim()));
    assert!(ran.exit == 9 && ran.err.contains("[already_initialized]"), "{ran:?}");
    assert_eq!(std::fs::read(&unseal).unwrap(), before, "the unseal key is kept");
}

#[test]
fn the_openapi_document_is_printed_whole() {
    let ran = Stage::new().run("openapi");
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/resolve"]["post"].is_object());
}
