//! A full disk: nothing leaves that is not on record, whoever asks is told, and all goes on when there is room again.

use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use dekeys::client::Request;
use dekeys::setup::stage::{self, PRIM};
use serde_json::json;

use crate::skip::skipped;
use crate::support::{READ, TestApp, any_port, pinned, priced, resolve, send, until};

/// A file system of its own, which is gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Of so many MiB. `None`, said loudly, where this process may not make one.
    fn new(size: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}m"), "none"])
            .arg(dir.path());
        if mount.output().is_ok_and(|done| done.status.success()) {
            return Some(Self(dir));
        }
        skipped("a full disk: only root may mount one");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_lets_no_key_out_and_is_got_over_without_a_restart() {
    let Some(disk) = SmallDisk::new(32) else {
        return;
    };
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        *config = stage::config(&disk.0.path().join("data"), any_port());
    })
    .await;
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let token = pinned(&bought.token, PRIM);
    let prim = app.prim();
    let released = AtomicUsize::new(0);
    let asked = async || {
        let seen = resolve(&prim, &token, READ).await;
        released.fetch_add(usize::from(seen.key().is_some()), Ordering::Relaxed);
        seen
    };
    assert!(asked().await.key().is_some());

    let filler = disk.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let refused = until("the disk to be too full", async || {
        let seen = asked().await;
        seen.key().is_none().then_some(seen)
    })
    .await;
    refused.is(503, "database_full");
    for _ in 0..20 {
        asked().await.is(503, "database_full");
    }
    // Who only looks is served.
    let shown = send(&app.operator(), Request::get(&["v1", "leases"])).await;
    assert_eq!(shown.status, 200, "{}", shown.json);

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    until("keys to be given again", async || asked().await.key().map(drop)).await;
    // The first release makes the lease.
    let (made, used) = (app.events("lease.created").await, app.events("lease.resolved").await);
    assert_eq!(made.len() + used.len(), released.into_inner());
    let whole = send(&app.operator(), Request::post(&["v1", "audit", "verify"]))
        .await
        .good();
    assert_eq!(whole["ok"], json!(true), "{whole}");
    app.stop().await;
}
