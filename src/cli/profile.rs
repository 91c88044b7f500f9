//! Profiles: which dekeys one talks to, and as whom, by a name. They stand in `profiles.toml` in this user's files, one
//! table a profile; the table `default` holds when none is named. They hold places of secrets, never secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table, value};

use super::exit;
use super::failure::Failure;
use super::principal::nearest;
use super::world::World;
use crate::base::time::Ttl;

/// What a profile can say.
pub(crate) const KEYS: [&str; 6] = ["addr", "admin_addr", "key_file", "token_file", "output", "timeout"];

/// One profile.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub addr: Option<String>,
    pub admin_addr: Option<String>,
    pub key_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub output: Option<String>,
    pub timeout: Option<Ttl>,
}

/// The profile that no name means.
const DEFAULT: &str = "default";

/// The profile with a name, or the default one, and where it stands; `None` when nothing is named and there is none.
pub(crate) fn load(world: &World, name: Option<&str>) -> Result<Option<(Profile, String)>, Failure> {
    let Some(path) = file(world) else {
        return name.map_or(Ok(None), |name| Err(absent(name, None)));
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return name.map_or(Ok(None), |name| Err(absent(name, None)));
        }
        Err(error) => return Err(unusable(&path, &error.kind().to_string())),
    };
    let mut all: BTreeMap<String, Profile> =
        toml::from_str(&text).map_err(|error| unusable(&path, error.message().trim()))?;
    let wanted = name.unwrap_or(DEFAULT);
    let found = all.remove(wanted);
    if found.is_none() && name.is_some() {
        return Err(absent(wanted, nearest(wanted, all.into_keys())));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    Ok(found.map(|profile| (placed(profile, folder), format!("profile {wanted}"))))
}

/// Relative names are meant from where the profiles are.
fn placed(mut profile: Profile, folder: &Path) -> Profile {
    for path in [&mut profile.key_file, &mut profile.token_file].into_iter().flatten() {
        *path = folder.join(&*path);
    }
    profile
}

/// Where the profiles of this user are.
pub(crate) fn file(world: &World) -> Option<PathBuf> {
    world.profile().map(|folder| folder.join("profiles.toml"))
}

/// Writes one key of a profile; what else stands in the file stays as it is.
pub(crate) fn set(world: &World, name: Option<&str>, key: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = file(world).ok_or_else(|| {
        let fix = "set HOME or XDG_CONFIG_HOME";
        Failure::new("no_profile", exit::FAILED, "there is no place for your files", fix)
    })?;
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let mut document: DocumentMut = before.parse().map_err(|_| unusable(&path, "it is not TOML"))?;
    let table = document
        .entry(name.unwrap_or(DEFAULT))
        .or_insert_with(|| Item::Table(Table::new()));
    let table = table
        .as_table_mut()
        .ok_or_else(|| unusable(&path, "a profile is a table"))?;
    table.insert(key, value(text));
    let after = document.to_string();
    let read: Result<BTreeMap<String, Profile>, _> = toml::from_str(&after);
    read.map_err(|error| {
        Failure::usage(
            format!("`{key}` cannot be `{text}`: {}", error.message().trim()),
            "another value",
        )
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, after)?;
    Ok(path)
}

fn absent(name: &str, near: Option<String>) -> Failure {
    let fix = near.map_or_else(
        || format!("make it: dekeys config set addr http://127.0.0.1:8402 --profile {name}"),
        |near| format!("did you mean `{near}`?"),
    );
    Failure::usage(format!("there is no profile `{name}`"), fix)
}

fn unusable(path: &Path, why: &str) -> Failure {
    let what = format!("the profiles in `{}` cannot be read: {why}", path.display());
    Failure::new(
        "profiles_invalid",
        exit::USAGE,
        what,
        format!("a profile knows: {}", KEYS.join(", ")),
    )
}
