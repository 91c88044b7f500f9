//! A program that reaches the demo vendor through the signer and the proxy of dekeys, and never sees the key.

use std::process::Stdio;

use dekeys::client::{Request, secret};
use dekeys::mock::{MockOptions, MockVendor, manifest};
use serde_json::{Map, Value, json};

use super::scene::{PRIM, Scene, ran};
use crate::support::{send, until};

/// Prints what it found, and waits for the end of its input.
const PROGRAM: &str = "echo $DEMO_BASE_URL; echo $DEMO_API_KEY; read line";

/// A program under `dekeys run`, and the way it has to the vendor.
struct Program {
    process: tokio::process::Child,
    base: String,
    stand_in: String,
}

impl Program {
    async fn begin(scene: &Scene, who: &str, flags: &[&str]) -> Self {
        let args = [&["run", "--no-masking"], flags, &["--", "sh", "-c", PROGRAM]].concat();
        let mut process = scene.command(who, &args).stdin(Stdio::piped()).spawn().unwrap();
        let reader = tokio::io::BufReader::new(process.stdout.take().unwrap());
        let mut lines = tokio::io::AsyncBufReadExt::lines(reader);
        Self {
            base: lines.next_line().await.unwrap().unwrap(),
            stand_in: lines.next_line().await.unwrap().unwrap(),
            process,
        }
    }

    /// What the vendor answers to `GET`, as the program's own library would ask.
    async fn get(&self, path: &str) -> (u16, String) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.get(format!("{}{path}", self.base)).bearer_auth(&self.stand_in);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn end(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_uses_a_key_that_it_never_sees() {
    let scene = Scene::open().await;
    let program = Program::begin(&scene, "agent", &[]).await;
    let (status, body) = program.get("/echo").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"hello\"") && !body.contains("demo-key-"), "{body}");
    let called = scene
        .app
        .stage
        .vendor
        .calls()
        .into_iter()
        .rev()
        .find(|call| call.path == "/echo");
    assert!(called.is_some(), "the vendor itself was asked");
    // The first opened the lease; from the second on each is an event of its own.
    assert_eq!(program.get("/echo").await.0, 200);
    until("the event of the request", async || {
        let events = scene.app.events("request.forwarded").await;
        (events.len() == 1).then_some(())
    })
    .await;
    let (status, body) = program.get("/keys").await;
    assert!(status == 403 && body.contains("path_not_allowed"), "{status} {body}");
    program.end().await;
    assert_eq!(scene.live_keys(), 0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn narrowing_to_paths_is_kept_by_dekeys() {
    let scene = Scene::open().await;
    let program = Program::begin(
        &scene,
        "agent",
        &["--path", "/other/", "--path", "/more/", "--keep-grant"],
    )
    .await;
    let (status, body) = program.get("/echo").await;
    assert!(status == 403 && body.contains("insufficient_scope"), "{status} {body}");
    program.end().await;
    let program = Program::begin(&scene, "agent", &["--path", "/other/", "--path", "/ec"]).await;
    assert_eq!(program.get("/echo").await.0, 200);
    program.end().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_ends_the_way_of_a_program_that_runs() {
    let scene = Scene::open().await;
    let program = Program::begin(&scene, "agent", &[]).await;
    assert_eq!(program.get("/echo").await.0, 200);
    let revoke = Request::post(&["v1", "grants", &scene.bought.id, "revoke"]).json(&json!({}));
    send(&scene.app.operator(), revoke).await.good();
    assert_eq!(program.get("/echo").await.0, 401);
    program.end().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prims_program_is_forwarded_as_the_prims() {
    let scene = Scene::open().await;
    let program = Program::begin(&scene, PRIM, &[]).await;
    let (status, body) = program.get("/echo").await;
    assert_eq!(status, 200, "{body}");
    program.end().await;
    assert_eq!(scene.live_keys(), 1, "the grant is the agent's to end");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_program_that_is_killed_leaves_no_key() {
    let scene = Scene::open().await;
    let mut program = Program::begin(&scene, "agent", &[]).await;
    assert_eq!(program.get("/echo").await.0, 200);
    assert!(scene.live_keys() >= 1);
    program.process.kill().await.unwrap();
    let took = scene.all_dead().await;
    assert!(took.as_secs() < 5, "{took:?}");
    until("the end of the way", async || {
        tokio::net::TcpStream::connect(program.base.trim_start_matches("http://").split('/').next().unwrap())
            .await
            .is_err()
            .then_some(())
    })
    .await;
    scene.app.stop().await;
}

const OPENAI: &str = r#"name = "openai-users"
vendor = "openai-project"
scopes = ["chat:write"]
[who]
kinds = ["agent"]
principals = ["agent-one"]
[grant]
max_ttl = "1h"
max_resolves = 100
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#;

/// A vendor made from the manifest `openai-project`, connected, and a token for it in the file `token`.
async fn openai(scene: &Scene) -> MockVendor {
    let name = "openai-project".parse().unwrap();
    let options = MockOptions {
        params: vec![("project".to_owned(), "proj_abc".to_owned())],
        ..MockOptions::default()
    };
    let vendor = MockVendor::start(&manifest(&name, None).unwrap(), options)
        .await
        .unwrap();
    let fields = vendor
        .root_fields()
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)));
    let fields: Map<String, Value> = fields.collect();
    let body = json!({ "fields": fields, "params": { "project": "proj_abc" }, "base_url": vendor.url().as_str() });
    let connect = Request::put(&["v1", "vendors", "openai-project", "root-credential"]).json(&body);
    send(&scene.app.operator(), connect).await.good();
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [scene.app.stage.cast.agent.public()] });
    send(&scene.app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    scene.app.stage.put_in_force(OPENAI).await.unwrap();
    let ask =
        json!({ "reference": "dk://openai-project/chat:write", "public_key": scene.app.stage.cast.agent.public() });
    let grant = send(&scene.app.agent(), Request::post(&["v1", "grants"]).json(&ask))
        .await
        .good();
    scene.file("token", &secret::shown(&secret::at(&grant, "/token").unwrap()));
    vendor
}

/// Needs `DEKEYS_RUN_PYTHON`, the folder that `tests/run/install.sh` installs into.
#[tokio::test(flavor = "multi_thread")]
async fn openais_own_library_works_unchanged_and_sees_no_key() {
    let Some(folder) = crate::skip::folder("DEKEYS_RUN_PYTHON", "OpenAI's library under `dekeys run`") else {
        return;
    };
    let scene = Scene::open().await;
    let vendor = openai(&scene).await;
    let python = folder.join("bin/python").display().to_string();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run/openai_program.py");
    let ran = ran(scene.command("agent", &["run", "--no-masking", "--", &python, program])).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "hello\nFalse\n"), "{ran:?}");
    assert!(
        vendor.keys().len() == 1 && vendor.live_keys().is_empty(),
        "one was made, and is dead: {ran:?}"
    );
    scene.app.stop().await;
}
