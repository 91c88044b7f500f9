//! The simulated rail's books: a file of JSON lines, one a transfer, only ever appended to. Every change is made
//! under an exclusive lock of the file (which holds between processes) and synced before it is told.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::base::time::Timestamp;

/// What every new wallet has: 1.00 USDC.
const START: i64 = 1_000_000;

/// One line: money that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    pub(super) network: String,
    pub(super) asset: String,
    pub(super) payer: String,
    pub(super) nonce: String,
    pub(super) pay_to: String,
    pub(super) amount: i64,
    pub(super) transaction: String,
    pub(super) at: Timestamp,
}

/// What became of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entered {
    /// It stands in the books, since now or since before.
    Done(Transfer),
    /// The nonce paid for something else.
    Used,
    /// It came too late.
    Late,
    /// The payer has too little.
    Poor,
}

/// Books that cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    /// The file cannot be read or written.
    #[error("the ledger cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A line is none of ours.
    #[error("line {0} of the ledger is not a transfer")]
    Line(usize),
    /// There is less in it than before.
    #[error("the ledger lost lines")]
    Shrunk,
}

/// The books of one asset on one network; others in the same file are passed over.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    network: String,
    asset: String,
    read: Mutex<Pages>,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Pages {
    offset: u64,
    lines: usize,
    transfers: HashMap<(String, String), Transfer>,
    balances: HashMap<String, i64>,
}

impl Ledger {
    /// Opens the file, or begins it. All lines are read.
    pub(super) fn open(path: &Path, network: &str, asset: &str) -> Result<Self, LedgerError> {
        OpenOptions::new().append(true).create(true).open(path)?.sync_all()?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let ledger = Self {
            path: path.to_owned(),
            network: network.to_owned(),
            asset: asset.to_owned(),
            read: Mutex::default(),
        };
        ledger.look(|_| ())?;
        Ok(ledger)
    }

    /// The transfer of a payer and nonce, if there was one.
    pub(super) fn find(&self, payer: &str, nonce: &str) -> Result<Option<Transfer>, LedgerError> {
        self.look(|pages| pages.find(payer, nonce).cloned())
    }

    /// What a wallet has.
    pub(super) fn balance(&self, wallet: &str) -> Result<i64, LedgerError> {
        self.look(|pages| pages.balance(wallet))
    }

    /// Moves money once. `in_time` is asked under the lock, so that after the end nothing can be entered any more.
    pub(super) fn enter(&self, wanted: Transfer, in_time: impl FnOnce() -> bool) -> Result<Entered, LedgerError> {
        let mut pages = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Never created here: a ledger that vanished is not an empty one.
        let mut file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        file.lock()?;
        self.read_on(&mut file, &mut pages)?;
        if let Some(found) = pages.find(&wanted.payer, &wanted.nonce) {
            let same = found.pay_to == wanted.pay_to && found.amount == wanted.amount;
            return Ok(if same {
                Entered::Done(found.clone())
            } else {
                Entered::Used
            });
        }
        if !in_time() {
            return Ok(Entered::Late);
        }
        if pages.balance(&wanted.payer) < wanted.amount {
            return Ok(Entered::Poor);
        }
        append(&mut file, pages.offset, &wanted)?;
        self.read_on(&mut file, &mut pages)?;
        Ok(Entered::Done(wanted))
    }

    fn look<T>(&self, at: impl FnOnce(&Pages) -> T) -> Result<T, LedgerError> {
        let mut pages = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(&self.path)?;
        file.lock_shared()?;
        self.read_on(&mut file, &mut pages)?;
        Ok(at(&pages))
    }

    /// Reads the lines that came since. A last line without its end was never told to anybody and does not count.
    fn read_on(&self, file: &mut File, pages: &mut Pages) -> Result<(), LedgerError> {
        if file.metadata()?.len() < pages.offset {
            return Err(LedgerError::Shrunk);
        }
        file.seek(SeekFrom::Start(pages.offset))?;
        let mut rest = Vec::new();
        file.read_to_end(&mut rest)?;
        for line in rest
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            let transfer: Transfer =
                serde_json::from_slice(line).map_err(|_| LedgerError::Line(pages.lines.saturating_add(1)))?;
            pages.lines = pages.lines.saturating_add(1);
            pages.offset = pages
                .offset
                .saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
            if transfer.network == self.network && transfer.asset == self.asset {
                pages.take(transfer);
            }
        }
        Ok(())
    }
}

impl Pages {
    fn find(&self, payer: &str, nonce: &str) -> Option<&Transfer> {
        self.transfers.get(&(payer.to_owned(), nonce.to_owned()))
    }

    fn balance(&self, wallet: &str) -> i64 {
        self.balances.get(wallet).copied().unwrap_or(START)
    }

    fn take(&mut self, transfer: Transfer) {
        let key = (transfer.payer.clone(), transfer.nonce.clone());
        if self.transfers.contains_key(&key) {
            return;
        }
        let payer = self.balances.entry(transfer.payer.clone()).or_insert(START);
        *payer = payer.saturating_sub(transfer.amount);
        let receiver = self.balances.entry(transfer.pay_to.clone()).or_insert(START);
        *receiver = receiver.saturating_add(transfer.amount);
        self.transfers.insert(key, transfer);
    }
}

/// Writes one line at `end`, where the whole lines stop, and syncs it. What a crash left there is cut off; so is the
/// line itself when it cannot be synced.
fn append(file: &mut File, end: u64, transfer: &Transfer) -> Result<(), LedgerError> {
    let mut line = serde_json::to_vec(transfer).map_err(io::Error::other)?;
    line.push(b'\n');
    file.set_len(end)?;
    let written = file.write_all(&line).and_then(|()| file.sync_all());
    written.or_else(|error| {
        file.set_len(end)?;
        Err(error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(nonce: u32, amount: i64) -> Transfer {
        Transfer {
            network: "eip155:84532".to_owned(),
            asset: "0xa".to_owned(),
            payer: "0xp".to_owned(),
            nonce: format!("0x{nonce}"),
            pay_to: "0xt".to_owned(),
            amount,
            transaction: format!("0x74657374{nonce}"),
            at: Timestamp::from_secs(1),
        }
    }

    fn open(path: &Path) -> Ledger {
        Ledger::open(path, "eip155:84532", "0xa").unwrap()
    }

    fn enter(ledger: &Ledger, nonce: u32, amount: i64) -> Entered {
        ledger.enter(transfer(nonce, amount), || true).unwrap()
    }

    #[test]
    fn money_moves_once_and_stays_moved_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = open(&path);
        assert!(matches!(enter(&ledger, 1, 400_000), Entered::Done(_)));
        assert!(matches!(enter(&ledger, 1, 400_000), Entered::Done(_)));
        assert_eq!(enter(&ledger, 1, 400_001), Entered::Used);
        let again = open(&path);
        assert_eq!(
            (again.balance("0xp").unwrap(), again.balance("0xt").unwrap()),
            (600_000, 1_400_000)
        );
        assert_eq!(enter(&again, 2, 600_001), Entered::Poor);
        assert!(matches!(enter(&again, 2, 600_000), Entered::Done(_)));
        assert_eq!(
            ledger.balance("0xp").unwrap(),
            0,
            "the first reader sees what the other wrote"
        );
    }

    #[test]
    fn after_the_end_nothing_new_is_entered_but_the_old_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder.path().join("ledger"));
        enter(&ledger, 1, 5);
        assert_eq!(ledger.enter(transfer(2, 5), || false).unwrap(), Entered::Late);
        assert!(matches!(
            ledger.enter(transfer(1, 5), || false).unwrap(),
            Entered::Done(_)
        ));
    }

    #[test]
    fn a_line_torn_by_a_crash_does_not_count_and_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        enter(&open(&path), 1, 5);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, [whole.as_slice(), &whole[..cut]].concat()).unwrap();
            let ledger = open(&path);
            assert_eq!(ledger.balance("0xp").unwrap(), 999_995);
            assert!(matches!(enter(&ledger, 2, 5), Entered::Done(_)));
            assert_eq!(open(&path).balance("0xp").unwrap(), 999_990);
        }
    }

    #[test]
    fn a_damaged_shortened_or_missing_ledger_is_an_error_and_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let ledger = open(&path);
        enter(&ledger, 1, 5);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(ledger.find("0xp", "0x1"), Err(LedgerError::Shrunk)));
        std::fs::write(&path, [whole.as_slice(), b"{}\n"].concat()).unwrap();
        assert!(matches!(ledger.find("0xp", "0x1"), Err(LedgerError::Line(2))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(ledger.find("0xp", "0x1"), Err(LedgerError::Io(_))));
        assert!(matches!(ledger.enter(transfer(2, 5), || true), Err(LedgerError::Io(_))));
    }

    #[test]
    fn many_writers_with_books_of_their_own_never_overdraw() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        open(&path);
        let done: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4u32)
                .map(|writer| {
                    let path = &path;
                    scope.spawn(move || {
                        let ledger = open(path);
                        // Each nonce is tried by two writers; the money suffices for 10 of the 16.
                        (0..8u32)
                            .filter(|turn| {
                                let entered = enter(&ledger, (writer / 2) * 8 + turn, 100_000);
                                matches!(entered, Entered::Done(_))
                            })
                            .count()
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        let ledger = open(&path);
        assert_eq!(
            (ledger.balance("0xp").unwrap(), ledger.balance("0xt").unwrap()),
            (0, 2_000_000)
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 10);
        assert!(done >= 10, "{done}");
    }
}
