//! Root credentials and the manifests they are used with.

use super::control::Control;
use super::scope::Name;
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::RootId;
use crate::base::time::Timestamp;

/// A root credential as stored: its value is sealed, with its destination inside (DESIGN 15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The id.
    pub id: RootId,
    /// The vendor.
    pub vendor: Name,
    /// The manifest it was entered for.
    pub manifest: Digest,
    /// Where requests go instead of the manifest's base; only in test instances.
    pub base_url: Option<String>,
    /// Values of the manifest's `[params]`; not secret.
    pub params: Vec<(String, String)>,
    /// In use. The one before stays for credentials made from it.
    pub current: bool,
    /// When it was entered.
    pub created: Timestamp,
}

impl Control for Root {
    fn canonical(&self) -> Canonical {
        let start = Canonical::new("dekeys.root.v1")
            .text(&self.id.to_string())
            .text(self.vendor.as_str())
            .text(&self.manifest.to_string())
            .maybe(self.base_url.as_deref())
            .int(i64::from(self.current))
            .int(self.created.as_millis())
            .int(i64::try_from(self.params.len()).unwrap_or(i64::MAX));
        self.params
            .iter()
            .fold(start, |bytes, (key, value)| bytes.text(key).text(value))
    }
}

/// A manifest as pinned when a vendor was connected: the text that counts, whatever the file says later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPin {
    /// The vendor.
    pub vendor: Name,
    /// The manifest's text.
    pub text: String,
    /// When it was pinned.
    pub pinned: Timestamp,
}

impl ManifestPin {
    /// The digest of the text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

impl Control for ManifestPin {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.manifest.v1")
            .text(self.vendor.as_str())
            .text(&self.text)
            .int(self.pinned.as_millis())
    }
}
