//! Sealed values: ciphertext, and the address it is bound to.

use crate::base::canonical::Canonical;
use crate::base::id::InstanceId;

/// The longest secret that is kept: 64 KiB. Service account files are about 3 KiB.
pub const MAX_SECRET: usize = 64 * 1024;

/// A value the vault sealed. Self-describing: which key wraps its data key stands inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// Where a sealed value lives. The ciphertext opens nowhere else: another row, version, owner or instance fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The instance.
    pub instance: InstanceId,
    /// The kind of row: `credential`, `root`, `keyring`.
    pub record: &'static str,
    /// The row's id.
    pub id: String,
    /// Whom the row belongs to: the lease's id for a revealed credential, the vendor for a root credential.
    pub owner: String,
    /// The version, from 1.
    pub version: i64,
    /// The field.
    pub field: &'static str,
}

impl Place {
    /// The associated data of the encryption, but for the wrapping key's id which the vault adds.
    #[must_use]
    pub fn aad(&self) -> Canonical {
        Canonical::new("dekeys.aead.v1")
            .text(&self.instance.to_string())
            .text(self.record)
            .text(&self.id)
            .text(&self.owner)
            .int(self.version)
            .text(self.field)
    }
}
