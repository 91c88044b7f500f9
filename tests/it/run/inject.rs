//! `dekeys inject`: a file made from a template, and whether one that was made is still right.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use super::scene::{PRIM, Ran, Scene, ran};
use dekeys::client::Request;

const TEMPLATE: &str =
    "# {{ not ours }}\nkey = \"{{ dk://demo/echo:read }}\"\nurl = \"{{dk://demo/echo:read#base_url}}\"\n";

async fn inject(scene: &Scene, who: &str, more: &[&str]) -> Ran {
    let template = scene.file("app.tpl", TEMPLATE);
    let args = [&["inject", "--in-file", &template], more].concat();
    ran(scene.command(who, &args)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_becomes_a_file_for_its_owner_only() {
    let scene = Scene::open().await;
    let file = scene.path("app.toml");
    let ran = inject(&scene, PRIM, &["--out-file", &file]).await;
    assert!(
        ran.code == Some(0) && ran.out.is_empty() && ran.err.contains("app.toml is written"),
        "{ran:?}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let key = &scene.app.stage.vendor.live_keys()[0].secret;
    let url = scene.app.stage.vendor.url().as_str().trim_end_matches('/').to_owned();
    assert!(
        text.starts_with(&format!("# {{{{ not ours }}}}\nkey = \"{key}\"\nurl = \"{url}")),
        "{text}"
    );
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let ran = inject(&scene, PRIM, &["--out-file", &file, "--file-mode", "0640", "--json"]).await;
    let facts: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(facts["leases"][0].as_str().unwrap().starts_with("lea_"), "{ran:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    assert_eq!(
        std::fs::read_dir(scene.dir.path()).unwrap().count(),
        3,
        "no file is left beside"
    );
    let ran = inject(&scene, PRIM, &[]).await;
    assert_eq!(
        (ran.code, ran.out),
        (Some(0), text),
        "without a file it goes to standard output"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_made_whole_is_not_touched() {
    let scene = Scene::open().await;
    let file = scene.file("app.toml", "as it was");
    let bad = scene.file("bad.tpl", "{{ dk://demo/echo:read }} {{ dk://demo/echo:write }}");
    let args = ["inject", "--in-file", &bad, "--out-file", &file];
    let refused = ran(scene.command(PRIM, &args)).await;
    assert!(refused.code == Some(5) && refused.out.is_empty(), "{refused:?}");
    let wrong = scene.file("wrong.tpl", "x\n{{ dk://demo }}");
    let args = ["inject", "--in-file", &wrong, "--out-file", &file];
    let refused = ran(scene.command(PRIM, &args)).await;
    assert!(
        refused.code == Some(2) && refused.err.contains("line 2:"),
        "{refused:?}"
    );
    let refused = inject(&scene, "agent", &["--out-file", &file]).await;
    assert_ne!(refused.code, Some(0), "an agent gets no key: {refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "as it was");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_missing_or_stale_and_shows_no_value() {
    let scene = Scene::open().await;
    let file = scene.path("app.toml");
    let check = async || inject(&scene, PRIM, &["--out-file", &file, "--check"]).await;
    let states = |ran: &Ran| -> Vec<String> {
        ran.out
            .lines()
            .map(|line| line.split('\t').nth(1).unwrap().to_owned())
            .collect()
    };
    let ran = check().await;
    assert_eq!(
        (ran.code, states(&ran)),
        (Some(1), vec!["missing".into(), "missing".into()]),
        "{ran:?}"
    );
    assert!(
        scene.app.events("lease.resolved").await.is_empty(),
        "nothing was asked for"
    );

    assert_eq!(inject(&scene, PRIM, &["--out-file", &file]).await.code, Some(0));
    let good = std::fs::read_to_string(&file).unwrap();
    let ran = check().await;
    assert_eq!(
        (ran.code, states(&ran)),
        (Some(0), vec!["current".into(), "current".into()]),
        "{ran:?}"
    );

    let key = scene.app.stage.vendor.live_keys()[0].secret.clone();
    for (text, code, expected) in [
        (good.replace(&key, "demo-key-old"), 1, ["stale", "current"]),
        (good.replace(&key, ""), 1, ["missing", "current"]),
        (good.replace("# {{", "# {"), 1, ["current", "current"]),
        (format!("{good}more\n"), 1, ["current", "current"]),
        (String::new(), 1, ["missing", "missing"]),
    ] {
        std::fs::write(&file, &text).unwrap();
        let ran = check().await;
        assert_eq!(
            (ran.code, states(&ran)),
            (Some(code), expected.map(str::to_owned).to_vec()),
            "{text}: {ran:?}"
        );
        assert!(!ran.out.contains(&key) && !ran.err.contains("demo-key"), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "nothing is written");
    }

    std::fs::write(&file, &good).unwrap();
    let leases = crate::support::send(&scene.app.operator(), Request::get(&["v1", "leases"])).await;
    let lease = leases.text("/data/0/id");
    let revoke = Request::post(&["v1", "leases", &lease, "revoke"]).json(&json!({}));
    crate::support::send(&scene.app.operator(), revoke).await.good();
    let made = scene.app.stage.vendor.keys().len();
    let ran = check().await;
    assert_eq!(
        (ran.code, states(&ran)),
        (Some(1), vec!["stale".into(), "stale".into()]),
        "{ran:?}"
    );
    assert_eq!(scene.app.stage.vendor.keys().len(), made, "a check makes no key");
    scene.app.stop().await;
}
