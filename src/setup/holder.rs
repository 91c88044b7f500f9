//! Which process has a port or a file: on Linux from `/proc`, elsewhere nobody knows. Only what this user may see.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use crate::base::time::{SystemClock, Timestamp, span_words};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its command line, cut.
    pub command: String,
    /// When it started.
    pub started: Option<Timestamp>,
}

/// The longest command line that is told.
const LONGEST: usize = 60;

/// The process that listens on a port.
#[must_use]
pub fn of_port(address: SocketAddr) -> Option<Holder> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| listening(&table, address.port()))?;
    let socket = format!("socket:[{inode}]");
    find(|open| open == Path::new(&socket))
}

/// Another process that has a file open.
#[must_use]
pub fn of_file(file: &Path) -> Option<Holder> {
    let file = file.canonicalize().ok()?;
    find(|open| open == file)
}

/// The inode of the socket in state LISTEN (`0A`) on a port.
fn listening(table: &str, port: u16) -> Option<String> {
    let end = format!(":{port:04X}");
    let fields = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&end)) && fields.get(3) == Some(&"0A"))
        .find_map(|fields| fields.get(9).map(|inode| (*inode).to_owned()))
}

/// The first other process that has something open.
fn find(is: impl Fn(&Path) -> bool) -> Option<Holder> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .find(|pid| has_open(*pid, &is))
        .map(described)
}

fn has_open(pid: u32, is: &impl Fn(&Path) -> bool) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| is(&target))
}

fn described(pid: u32) -> Holder {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let mut parts = words.split('\0').filter(|part| !part.is_empty());
    let program = parts.next().map(|path| path.rsplit('/').next().unwrap_or(path));
    let command: Vec<&str> = program.into_iter().chain(parts).collect();
    let started = std::fs::metadata(format!("/proc/{pid}"))
        .and_then(|about| about.modified())
        .ok();
    let started = started.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    Holder {
        pid,
        command: command.join(" ").chars().take(LONGEST).collect(),
        started: started
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .map(Timestamp::from_millis),
    }
}

impl Holder {
    /// Whether it is a dekeys.
    #[must_use]
    pub fn is_dekeys(&self) -> bool {
        self.command.split(' ').next() == Some("dekeys")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" (pid {}", self.command, self.pid)?;
        if let Some(started) = self.started {
            write!(f, ", started {} ago", span_words(SystemClock::wall().since(started)))?;
        }
        f.write_str(")")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_inode_of_a_listening_port_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:20D2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
            1: 0100007F:20D3 0100007F:1111 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening(table, 8402), Some("4711".to_owned()));
        assert_eq!(listening(table, 8403), None, "connected, not listening");
    }

    #[test]
    fn a_process_that_has_a_file_open_is_found_and_this_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of_file(file.path()), None);
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .stdin(file.reopen().unwrap())
            .spawn()
            .unwrap();
        let found = of_file(file.path());
        other.kill().unwrap();
        other.wait().unwrap();
        let found = found.unwrap();
        assert_eq!((found.pid, found.is_dekeys()), (other.id(), false));
        assert!(found.to_string().contains("pid"), "{found}");
    }
}
