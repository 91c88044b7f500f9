//! The server as a child process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dekeys::client::{Client, Request};
use dekeys::setup::stage;
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A server that runs, or did. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it answers.
    pub(crate) url: String,
    log: PathBuf,
}

/// How a server is started.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) data_dir: PathBuf,
    pub(crate) database_url: String,
    pub(crate) unseal_key: PathBuf,
    pub(crate) ledger: PathBuf,
    /// `payment.trusted_after`: with 0 keys are made before they are paid, with 1 everybody here pays first.
    pub(crate) trusted_after: u8,
    /// `reap_interval`, where what vendors list is to be compared sooner than every five minutes.
    pub(crate) reap: Option<&'static str>,
    /// How many files and connections it may have open, where that is few.
    pub(crate) descriptors: Option<u32>,
    /// libfaketime, and the file that says how far the machine's clock is off.
    pub(crate) clock: Option<(PathBuf, PathBuf)>,
}

impl Setting {
    pub(crate) fn in_dir(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            database_url: format!("sqlite://{}", data_dir.join("dekeys.db").display()),
            unseal_key: data_dir.join("unseal-key"),
            ledger: data_dir.join("payments.jsonl"),
            trusted_after: 0,
            reap: None,
            descriptors: None,
            clock: None,
        }
    }

    /// The command, on `listen`. Nothing of this process's environment reaches it.
    pub(crate) fn command(&self, listen: &str) -> Command {
        // Another binary where a long run must not see the next build.
        let binary = std::env::var_os("DEKEYS_CRASH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_dekeys").into());
        let mut command = match self.descriptors {
            None => Command::new(binary),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.arg("-c").arg(limited).arg(binary);
                shell
            }
        };
        command
            .env_clear()
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--database-url")
            .arg(&self.database_url)
            .arg("--unseal-key-file")
            .arg(&self.unseal_key)
            .args(["--listen", listen, "--admin-listen"])
            .arg(format!("unix:{}", self.data_dir.join("admin").display()))
            .args(["--set", "payment.rail=sim"])
            .args(["--set", "payment.pay_to=0x00000000000000000000000000000000dec0de00"])
            .arg("--set")
            .arg(format!("payment.trusted_after={}", self.trusted_after))
            .arg("--set")
            .arg(format!("payment.ledger={}", self.ledger.display()))
            .stdin(Stdio::null());
        if let Some(reap) = self.reap {
            command.arg("--set").arg(format!("reap_interval={reap}"));
        }
        if let Some((library, file)) = &self.clock {
            // What nobody can set, the time since the machine started, stays as it is.
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
            command
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.env("DEKEYS_FAIL_POINTS", self.fail_points());
        command
    }

    /// Where fail points are armed, once somebody makes this folder.
    pub(crate) fn fail_points(&self) -> PathBuf {
        self.data_dir.with_extension("points")
    }

    /// Starts a server without waiting for it.
    pub(crate) fn spawn(&self) -> Server {
        let port = free_port();
        let log = self.data_dir.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(&format!("127.0.0.1:{port}"));
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Server {
            child,
            url: format!("http://127.0.0.1:{port}"),
            log,
        }
    }

    /// Starts a server that is ready. When another program was quicker at the port, another port is tried.
    pub(crate) async fn start(&self) -> Server {
        for _ in 0..5 {
            let mut server = self.spawn();
            if server.is_ready().await {
                return server;
            }
            assert!(server.tail().contains("port_in_use"), "{}", server.tail());
        }
        panic!("no port is free");
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    /// Waits until it is ready; `false` when it ended instead.
    async fn is_ready(&mut self) -> bool {
        let anyone = self.client(None);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(reply) = anyone.send_any(&Request::get(&["readyz"])).await
                && reply.status == 200
            {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < until, "not ready: {}", self.tail());
            pause().await;
        }
    }

    pub(crate) fn client(&self, key: Option<&dekeys::client::KeyFile>) -> Client {
        stage::client(&self.url, key).unwrap()
    }

    /// SIGKILL: nothing is finished, nothing is said.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGSTOP: it does nothing at all, and does not know it.
    pub(crate) fn pause(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// SIGTERM.
    pub(crate) fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// How it ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still runs: {}", self.tail());
            pause().await;
        }
    }

    /// What it said last.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already; then there is nothing to do.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Between two looks at a condition.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// Looks until `seen` answers something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut seen: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = seen().await {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        pause().await;
    }
}
