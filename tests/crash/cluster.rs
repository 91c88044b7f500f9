//! A PostgreSQL server of the test's own, that it may kill.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::random::say;
use super::server::{free_port, until};

/// The server; stopped when dropped.
pub(crate) struct Cluster {
    bin: PathBuf,
    place: TempDir,
    port: u16,
}

/// Where the server's programs are; the newest version of Debian's folders.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    bins.filter(|bin| bin.join("initdb").exists())
        .max_by_key(|bin| bin.parent().and_then(Path::file_name).map(OsStr::to_owned))
}

impl Cluster {
    /// A new one, that syncs as it does by default. Root gives it to `postgres`, since the server refuses root.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let Some(bin) = programs() else {
            say(&format!("SKIPPED {test}: no PostgreSQL server is installed"));
            return None;
        };
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let cluster = Self {
            bin,
            place,
            port: free_port(),
        };
        if rustix::process::geteuid().is_root() {
            let done = Command::new("chown")
                .arg("postgres:")
                .arg(cluster.place.path())
                .status();
            assert!(done.unwrap().success());
        }
        let data = cluster.data();
        let arguments: [&OsStr; 7] = [
            "-D".as_ref(),
            data.as_os_str(),
            "-A".as_ref(),
            "trust".as_ref(),
            "-U".as_ref(),
            "postgres".as_ref(),
            "--encoding=UTF8".as_ref(),
        ];
        assert!(cluster.run("initdb", &arguments), "initdb");
        cluster.up().await;
        Some(cluster)
    }

    /// The database that is there from the beginning.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn run(&self, program: &str, arguments: &[&OsStr]) -> bool {
        let path = self.bin.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let command = command.args(arguments).current_dir("/").env_remove("LD_PRELOAD");
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// Starts it; after a crash as soon as what the dead one left is gone.
    pub(crate) async fn up(&self) {
        let (data, log) = (self.data(), self.place.path().join("log"));
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1",
            self.port,
            self.place.path().display()
        );
        let arguments: [&OsStr; 8] = [
            "-D".as_ref(),
            data.as_os_str(),
            "-w".as_ref(),
            "-l".as_ref(),
            log.as_os_str(),
            "-o".as_ref(),
            options.as_ref(),
            "start".as_ref(),
        ];
        until("PostgreSQL to start", async || {
            self.run("pg_ctl", &arguments).then_some(())
        })
        .await;
    }

    /// SIGKILL for it and all its processes: nothing is written back, nobody is told.
    pub(crate) fn kill(&self) {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let first: i32 = text.lines().next().unwrap().trim().parse().unwrap();
        let mut all = children(first);
        all.insert(0, first);
        for pid in all {
            // Some are gone with the first.
            let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data();
        let arguments: [&OsStr; 6] = [
            "-D".as_ref(),
            data.as_os_str(),
            "-m".as_ref(),
            "immediate".as_ref(),
            "-w".as_ref(),
            "stop".as_ref(),
        ];
        let _stopped = self.run("pg_ctl", &arguments);
    }
}

/// The processes that `parent` has started (proc(5)).
fn children(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat
            .rsplit_once(')')
            .map(|(_, after)| after.to_owned())
            .unwrap_or_default();
        after.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}
