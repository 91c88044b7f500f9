//! The public keys of an instance, as `GET /v1/keys` gives them: what verifies its tokens and receipts offline.

use serde::Deserialize;

use crate::audit::LogPublic;
use crate::base::id::InstanceId;
use crate::model::principal::PublicKey;
use crate::token::RootPublics;

/// The keys of one instance. They are believed: get them from the instance itself, over TLS, and keep them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The instance.
    pub instance: InstanceId,
    /// The keys that sign tokens.
    pub roots: RootPublics,
    /// The key that signs checkpoints and receipts.
    pub log: LogPublic,
}

/// Text that is not such a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not what `GET /v1/keys` answers")]
pub struct InvalidKeys;

impl Keys {
    /// Reads the document; members that are not known here do not matter.
    ///
    /// # Errors
    /// [`InvalidKeys`].
    pub fn parse(json: &[u8]) -> Result<Self, InvalidKeys> {
        let document: Document = serde_json::from_slice(json).map_err(|_| InvalidKeys)?;
        let roots = document.token_roots.into_iter().map(|root| (root.id, root.public_key));
        Ok(Self {
            instance: document.instance,
            roots: RootPublics(roots.collect()),
            log: document.log.parse().map_err(|_| InvalidKeys)?,
        })
    }
}

#[derive(Deserialize)]
struct Document {
    instance: InstanceId,
    token_roots: Vec<Root>,
    log: String,
}

#[derive(Deserialize)]
struct Root {
    id: u32,
    public_key: PublicKey,
}
