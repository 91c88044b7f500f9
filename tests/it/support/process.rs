//! The binary itself, on what an instance in this process left behind.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use dekeys::client::{Client, KeyFile, Request};
use dekeys::config::{PaymentConfig, Rail};
use dekeys::setup::stage::{self, Cast};
use rustix::process::{Pid, Signal, kill_process};

use super::{TestApp, until};

/// A server in a process of its own. The demo vendor stays in this one.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    pub(crate) cast: Cast,
    pub(crate) data_dir: PathBuf,
    logs: PathBuf,
    /// Kept: the server calls it.
    vendor: dekeys::mock::MockVendor,
    _dir: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The rail that the instance had.
fn rail(payment: &PaymentConfig) -> Vec<String> {
    let http = matches!(payment.rail, Rail::Http);
    let mut rail = vec![
        "--set".to_owned(),
        format!("payment.rail={}", if http { "http" } else { "sim" }),
    ];
    let urls = [
        ("facilitator_url", &payment.facilitator_url),
        ("rpc_url", &payment.rpc_url),
    ];
    for (key, url) in urls {
        if let Some(url) = url.as_ref().filter(|_| http) {
            rail.extend(["--set".to_owned(), format!("payment.{key}={url}")]);
        }
    }
    rail
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Process {
    /// Ends the instance's server and starts it again as `dekeys serve`, unsealed, with these variables and no others.
    pub(crate) async fn of(app: TestApp, variables: &[(&str, &str)]) -> Self {
        Self::run(app, variables, Command::new(env!("CARGO_BIN_EXE_dekeys"))).await
    }

    /// The same with so many file descriptors at most.
    pub(crate) async fn with_files(app: TestApp, files: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args([
            "-c",
            &format!("ulimit -n {files}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_dekeys"),
        ]);
        Self::run(app, &[], shell).await
    }

    async fn run(app: TestApp, variables: &[(&str, &str)], mut command: Command) -> Self {
        let TestApp { stage, config, dir } = app;
        stage.server.stop().await;
        let logs = dir.path().join("log");
        let (port, admin) = (free_port(), free_port());
        command
            .env_clear()
            .env("HOME", "/nonexistent")
            .envs(variables.iter().copied())
            .arg("serve")
            .args([
                "--port",
                &port.to_string(),
                "--admin-listen",
                &format!("127.0.0.1:{admin}"),
            ])
            .args([
                "--database-url",
                &config.database_url,
                "--log-format",
                "json",
                "--log-level",
                "debug",
            ])
            .arg("--data-dir")
            .arg(&stage.data_dir)
            .arg("--unseal-key-file")
            .arg(stage.data_dir.join("unseal-key"))
            .args(rail(&config.payment))
            .args([
                "--set",
                &format!("payment.pay_to={}", config.payment.pay_to.clone().unwrap()),
            ])
            .args([
                "--set",
                &format!("payment.trusted_after={}", config.payment.rules.trusted_after),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&logs).unwrap());
        let process = Self {
            child: command.spawn().unwrap(),
            url: format!("http://127.0.0.1:{port}"),
            cast: stage.cast,
            data_dir: stage.data_dir,
            logs,
            vendor: stage.vendor,
            _dir: dir,
        };
        until("the process to serve", async || {
            let ready = process.anyone().send_any(&Request::get(&["readyz"])).await;
            let ready = ready.is_ok_and(|reply| reply.status == 200);
            ready.then_some(())
        })
        .await;
        process
    }

    pub(crate) fn client(&self, key: Option<&KeyFile>) -> Client {
        stage::client(&self.url, key).unwrap()
    }

    pub(crate) fn anyone(&self) -> Client {
        self.client(None)
    }

    pub(crate) fn operator(&self) -> Client {
        self.client(Some(&self.cast.operator))
    }

    /// Memory in use, in KiB (proc(5)).
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The demo vendor's root credential.
    pub(crate) fn vendor_root(&self) -> String {
        self.vendor.root_fields()[0].1.clone()
    }

    /// All that was logged so far.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.logs)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    /// Asks it to end, and waits; whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}
