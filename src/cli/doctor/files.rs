//! The files of this machine: whether others may read what is secret, and whether there is room.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Context, Failure, Finding, Level, Loaded, Repair};

/// Looks at them.
pub(super) fn of(loaded: &Loaded, context: &Context<'_>) -> Vec<Finding> {
    let config = &loaded.config;
    let mut found = vec![folder(&config.data_dir)];
    found.extend(disk(&config.data_dir));
    let secrets = [
        context.globals.key_file.as_ref(),
        context.globals.token_file.as_ref(),
        config.unseal_key_file.as_ref(),
        config.unseal_passphrase_file.as_ref(),
        config.database_url_file.as_ref(),
    ];
    found.extend(secrets.into_iter().flatten().map(secret));
    found
}

fn folder(path: &Path) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::new("data", Level::Warn, format!("there is no folder {shown}"))
                .fix(format!("mkdir -m 700 {shown}"))
                .repair(Repair::Folder(path.to_owned()))
        }
        Err(error) => Finding::new(
            "data",
            Level::Fail,
            format!("{shown} cannot be looked at: {}", error.kind()),
        ),
        Ok(about) if about.mode() & 0o077 != 0 => {
            Finding::new("data", Level::Warn, format!("others may look into {shown}"))
                .fix(format!("chmod 700 {shown}"))
                .repair(Repair::Private(path.to_owned()))
        }
        Ok(_) => Finding::new("data", Level::Ok, format!("{shown}, its owner's alone")),
    }
}

/// Where nothing can be written nothing is released.
fn disk(path: &Path) -> Option<Finding> {
    let about = rustix::fs::statvfs(path).ok()?;
    let free = about.f_bavail.saturating_mul(about.f_frsize) / (1024 * 1024);
    let hundredth = about.f_bavail.saturating_mul(100).checked_div(about.f_blocks)?;
    let detail = if free >= 1024 {
        format!("{} GiB free", free / 1024)
    } else {
        format!("{free} MiB free")
    };
    Some(match (hundredth, free) {
        (_, 0..64) => Finding::new("disk", Level::Fail, detail).fix("make room: without a record no key is released"),
        (0..5, _) => Finding::new("disk", Level::Warn, detail).fix("make room before it is full"),
        _ => Finding::new("disk", Level::Ok, detail),
    })
}

fn secret(path: &PathBuf) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) => Finding::new("file", Level::Fail, format!("{shown} cannot be read: {}", error.kind()))
            .fix("check its name, and that you may read it"),
        Ok(about) if about.is_file() && about.mode() & 0o077 != 0 => {
            Finding::new("file", Level::Warn, format!("others may read {shown}"))
                .fix(format!("chmod 600 {shown}"))
                .repair(Repair::Private(path.clone()))
        }
        Ok(_) => Finding::new("file", Level::Ok, format!("{shown}, its owner's alone")),
    }
}

/// Takes everybody else's rights away.
pub(super) fn make_private(path: &Path) -> Result<(), Failure> {
    let about = std::fs::metadata(path)?;
    let mode = about.permissions().mode() & 0o700;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// Makes a folder that only its owner may look into.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    Ok(std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}
