//! An instance with the demo vendor, a grant that was bought, and the binary with the files that a user would have.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{Bought, READ, TestApp};
use dekeys::client::secret;
use serde_json::json;

/// The name of the prim on stage.
pub(super) const PRIM: &str = dekeys::setup::stage::PRIM;

/// What a program did.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// An instance with one live key.
pub(super) struct Scene {
    pub app: TestApp,
    pub bought: Bought,
    pub dir: tempfile::TempDir,
}

/// A command that is under way, and the lines that it prints.
pub(super) struct Going {
    pub process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// The binary in an environment of its own.
pub(super) fn dekeys(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dekeys"));
    command
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(super) async fn ran(mut command: Command) -> Ran {
    let output = command.output().await.unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Scene {
    pub(super) async fn open() -> Self {
        let app = TestApp::start().await;
        let bought = app
            .buy(json!({ "reference": READ, "public_key": app.stage.cast.agent.public() }))
            .await;
        let scene = Self {
            app,
            bought,
            dir: tempfile::tempdir().unwrap(),
        };
        scene.file("token", &secret::shown(&scene.bought.token));
        assert_eq!(scene.live_keys(), 1, "a key was made with the grant");
        scene
    }

    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The binary as `who`, with the token in a file, and the address where users put them.
    pub(super) fn command(&self, who: &str, args: &[&str]) -> Command {
        let mut command = dekeys(args);
        command
            .env("DEKEYS_ADDR", &self.app.stage.server.url)
            .env("DEKEYS_KEY_FILE", self.app.stage.key_file(who))
            .env("DEKEYS_TOKEN_FILE", self.path("token"));
        command
    }

    /// Runs a shell script through `dekeys run`.
    pub(super) async fn run(&self, who: &str, flags: &[&str], script: &str) -> Ran {
        let args = [&["run"], flags, &["--", "sh", "-c", script]].concat();
        ran(self.command(who, &args)).await
    }

    /// Starts one and does not wait.
    pub(super) fn start(&self, who: &str, flags: &[&str], script: &str) -> Going {
        let args = [&["run"], flags, &["--", "sh", "-c", script]].concat();
        let mut process = self.command(who, &args).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Going { process, lines }
    }

    /// How many keys the vendor takes.
    pub(super) fn live_keys(&self) -> usize {
        self.app.stage.vendor.live_keys().len()
    }

    /// Waits until the vendor takes none, and says how long that took.
    pub(super) async fn all_dead(&self) -> std::time::Duration {
        let began = std::time::Instant::now();
        crate::support::until("the end of the last key", async || {
            (self.live_keys() == 0).then_some(())
        })
        .await;
        began.elapsed()
    }
}

impl Going {
    /// The next line it prints.
    pub(super) async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().expect("it printed no more")
    }

    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// What it did, to its end.
    pub(super) async fn ended(mut self) -> Ran {
        let mut out = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            out.push_str(&line);
            out.push('\n');
        }
        let mut err = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .await
            .unwrap();
        Ran {
            code: self.process.wait().await.unwrap().code(),
            out,
            err,
        }
    }
}
