//! What the command line does without a server: completions, manual pages, its own settings, the configuration file.

use super::stage::{Answer, Server, Stage};
use serde_json::{Value, json};

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = Stage::new().run(&format!("completions {shell}"));
        assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{shell}");
        for word in ["approval", "attenuate", "no-input"] {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(Stage::new().run("completions tcsh").exit, 2);
}

#[test]
fn bash_reads_its_script() {
    let script = Stage::new().run("completions bash").out;
    let mut bash = std::process::Command::new("bash")
        .args(["-n", "/dev/stdin"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(bash.stdin.as_mut().unwrap(), script.as_bytes()).unwrap();
    drop(bash.stdin.take());
    assert!(bash.wait().unwrap().success());
}

#[test]
fn every_command_has_a_manual_page() {
    let stage = Stage::new();
    let ran = stage.run("man grant create");
    assert!(
        ran.out.contains(".TH DEKEYS-GRANT-CREATE 1") && ran.out.contains("max\\-price"),
        "{}",
        ran.out
    );
    let folder = stage.path("man");
    let ran = stage.run(&format!("man --out-dir {}", folder.display()));
    let pages = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(ran.err, format!("{pages} pages in {}\n", folder.display()));
    assert!(
        pages > 60 && folder.join("dekeys-policy-rollback.1").exists(),
        "{pages}"
    );
    let ran = stage.run("man grant crate");
    assert!(ran.exit == 2 && ran.err.contains("did you mean `create`?"), "{ran:?}");
}

#[test]
fn a_typo_is_answered_with_what_was_probably_meant() {
    let ran = Stage::new().run("aproval ls");
    assert!(
        ran.exit == 2 && ran.err.contains("a similar subcommand exists: 'approval'"),
        "{ran:?}"
    );
    let ran = Stage::new().run("lease ls --limt 3");
    assert!(ran.exit == 2 && ran.err.contains("'--limit'"), "{ran:?}");
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_profile() {
    let server = Server::always(|| Answer::ok(&json!({ "object": "list", "data": [], "has_more": false })));
    let mut stage = Stage::new();
    let (key, _) = stage.key("work.key", 1);
    let ran = stage.run("config set addr http://127.0.0.1:1 --profile work");
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(stage.run(&format!("config set key_file {key} --profile work")).exit, 0);
    let origin = |stage: &Stage, line: &str, key: &str| {
        let shown: Value = serde_json::from_str(&stage.run(line).out).unwrap();
        let rows = shown["data"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["key"] == key).unwrap().clone();
        (
            row["value"].as_str().unwrap().to_owned(),
            row["origin"].as_str().unwrap().to_owned(),
        )
    };
    let shown = "config show --json --data-dir /nonexistent --profile work";
    let both = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(
        origin(&stage, shown, "addr"),
        both("http://127.0.0.1:1", "profile work")
    );
    assert_eq!(origin(&stage, shown, "timeout"), both("1m 15s", "default"));
    stage.set("DEKEYS_ADDR", &server.url());
    assert_eq!(
        origin(&stage, shown, "addr"),
        both(&server.url(), "environment DEKEYS_ADDR")
    );
    let flag = format!("{shown} --addr http://127.0.0.1:2");
    assert_eq!(origin(&stage, &flag, "addr"), both("http://127.0.0.1:2", "flag --addr"));

    stage.set("DEKEYS_PROFILE", "work");
    assert_eq!(stage.run("lease ls").exit, 0);
    assert!(server.seen()[0].signer.is_some(), "the profile's key signed");
    let ran = stage.run("lease ls --profile wrok");
    assert!(ran.exit == 2 && ran.err.contains("did you mean `work`?"), "{ran:?}");
}

#[test]
fn the_default_profile_needs_no_name_and_nonsense_in_profiles_is_told() {
    let server = Server::always(|| Answer::ok(&json!({ "object": "list", "data": [], "has_more": false })));
    let stage = Stage::new();
    assert_eq!(stage.run(&format!("config set addr {}", server.url())).exit, 0);
    assert_eq!(stage.run("lease ls").exit, 0);
    assert_eq!(server.lines(), ["GET /v1/leases"]);
    assert_eq!(stage.run("config get addr").out, format!("{}\n", server.url()));
    let ran = stage.run("config set timeout soon");
    assert!(
        ran.exit == 2 && ran.err.contains("`timeout` cannot be `soon`"),
        "{ran:?}"
    );
    stage.file("home/.config/dekeys/profiles.toml", "[default]\nadress = \"x\"\n");
    let ran = stage.run("lease ls");
    assert!(
        ran.exit == 2 && ran.err.contains("[profiles_invalid]") && ran.err.contains("adress"),
        "{ran:?}"
    );
}

#[test]
fn the_configuration_file_is_edited_and_never_made_invalid() {
    let stage = Stage::new();
    let file = stage.file(
        "dekeys.toml",
        "# where we listen\nlisten = \"127.0.0.1:8402\" # for now\n",
    );
    let data = stage.path("data").display().to_string();
    let set = |key: &str, value: &str| stage.run(&format!("config set {key} {value} --config {file}"));
    assert_eq!(set("listen", "127.0.0.1:8412").exit, 0);
    assert_eq!(set("limits.body", "1048576").exit, 0);
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        written,
        "# where we listen\nlisten = \"127.0.0.1:8412\" # for now\n\n[limits]\nbody = 1048576\n"
    );
    let ran = set("listen", "here");
    assert!(ran.exit == 2 && ran.err.contains("fix: "), "{ran:?}");
    let ran = set("listne", "127.0.0.1:1");
    assert!(ran.exit == 2 && ran.err.contains("did you mean `listen`?"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written, "nothing was changed");
    let ran = stage.run(&format!("config get listen --config {file} --data-dir {data}"));
    assert_eq!(ran.out, "127.0.0.1:8412\n");
    let ran = stage.run(&format!("config check --config {file} --data-dir {data}"));
    assert_eq!((ran.exit, ran.out), (0, format!("valid\tyes\nkeys\t3\nfile\t{file}\n")));
    let bad = stage.file("bad.toml", "listne = 1\n");
    let ran = stage.run(&format!("config check --config {bad}"));
    assert!(ran.exit == 2 && ran.err.contains("bad.toml:1"), "{ran:?}");
}

#[test]
fn a_database_is_looked_at_and_left_alone() {
    let stage = Stage::new();
    let data = stage.path("data").display().to_string();
    let ran = stage.run(&format!("db status --data-dir {data}"));
    assert_eq!(ran.exit, 8, "{ran:?}");
    assert!(!stage.path("data").exists(), "looking makes nothing");
    let (key, unseal) = (stage.path("ada.key"), stage.path("unseal.key"));
    let ran = stage.run(&format!(
        "init --mode test --operator ada --solo --data-dir {data} --new-operator-key {} --unseal-key-file {}",
        key.display(),
        unseal.display()
    ));
    assert_eq!(ran.exit, 0, "{ran:?}");
    let ran = stage.run(&format!("db status --data-dir {data} --json"));
    let looked: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(looked["engine"], "sqlite");
    assert!(looked["instance"].as_str().unwrap().starts_with("ins_"), "{looked}");
    assert_eq!(looked["migrations"], looked["known"]);
    assert_eq!(looked["in_use"], false);
    assert!(looked["bytes"].as_i64().unwrap() > 4096, "{looked}");
    assert_eq!(stage.run(&format!("db migrate --data-dir {data}")).exit, 0);
}
