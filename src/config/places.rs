//! Where things are on this machine when nobody says.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Default places. Tests give their own.
#[derive(Debug, Clone)]
pub struct Places {
    /// The configuration file that is read when none is named and it is there.
    pub config: PathBuf,
    /// The data directory of a service.
    pub state: PathBuf,
}

impl Places {
    /// Of this machine: `/etc/dekeys/dekeys.toml` and `/var/lib/dekeys`.
    #[must_use]
    pub fn system() -> Self {
        Self {
            config: PathBuf::from("/etc/dekeys/dekeys.toml"),
            state: PathBuf::from("/var/lib/dekeys"),
        }
    }

    /// The data directory: the service's if it can be written, else this user's. `None` without a home.
    pub(super) fn data_dir(&self, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
        if self.state.is_dir() && access(&self.state, Access::WRITE_OK).is_ok() {
            return Some(self.state.clone());
        }
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|share| share.join("dekeys"))
    }
}

/// The unseal key that systemd gives by `LoadCredential=unseal-key:…`, if there is one.
pub(super) fn systemd_unseal_key(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let file = Path::new(&env("CREDENTIALS_DIRECTORY")?).join("unseal-key");
    file.is_file().then_some(file)
}

/// A variable of this process's environment, if it is set and is UTF-8. The only reader of the environment.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
