//! The mark: what is known of the database outside it. One small file, replaced whole, at each unseal and about twice a
//! second while events come.
//!
//! It is not signed: whoever can write here and in the database can roll both back, which a signature would not show.

use std::io::Write as _;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::App;
use crate::base::id::{IncarnationId, InstanceId};
use crate::model::instance::Instance;

/// The longest mark that is read, in bytes.
const LONGEST: u64 = 4096;

/// What the next unseal is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    format: Format,
    pub(super) instance: InstanceId,
    pub(super) incarnation: IncarnationId,
    pub(super) epoch: i64,
    pub(super) head: i64,
    #[serde(serialize_with = "hex", deserialize_with = "from_hex")]
    pub(super) digest: [u8; 32],
    pub(super) place: String,
}

/// The only form there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "dekeys.mark.v1")]
    V1,
}

impl Mark {
    pub(super) fn new(instance: &Instance, epoch: i64, (head, digest): (i64, [u8; 32]), place: String) -> Self {
        Self {
            format: Format::V1,
            instance: instance.id,
            incarnation: instance.incarnation,
            epoch,
            head,
            digest,
            place,
        }
    }

    /// The same for `incarnation`, with a later head; `None` for one that is not later.
    pub(crate) fn at(&self, incarnation: IncarnationId, (head, digest): (i64, [u8; 32])) -> Option<Self> {
        (head > self.head).then(|| Self {
            incarnation,
            head,
            digest,
            ..self.clone()
        })
    }

    /// The last event it knows.
    pub(crate) const fn head(&self) -> (i64, [u8; 32]) {
        (self.head, self.digest)
    }
}

/// The mark; `None` when there is none that can be read, which is said.
pub(super) fn read(app: &App) -> Option<Mark> {
    let path = app.mark.as_ref()?;
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Ok(about) if about.len() <= LONGEST => {}
        other => {
            tracing::error!(?other, path = %path.display(), "the mark of this database cannot be read");
            return None;
        }
    }
    let mark = std::fs::read(path).map_err(|error| error.to_string());
    let mark = mark.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    mark.inspect_err(|error| tracing::error!(error, path = %path.display(), "the mark of this database cannot be read"))
        .ok()
}

/// The same mark for another place.
pub(super) fn moved(path: &Path, place: &str) -> std::io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut mark: Mark = serde_json::from_slice(&std::fs::read(path)?)?;
    place.clone_into(&mut mark.place);
    put(path, &mark)
}

/// Replaces it whole. On disk when this returns: half a mark after a power cut would be none.
pub(super) fn write(app: &App, mark: &Mark) -> std::io::Result<()> {
    app.mark.as_ref().map_or(Ok(()), |path| put(path, mark))
}

fn put(path: &Path, mark: &Mark) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    serde_json::to_writer(&mut file, mark)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), sync)
}

fn sync(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

fn hex<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&HEXLOWER.encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| serde::de::Error::custom("not 32 bytes in hexadecimal"))
}
