//! The public keys of an instance, as `GET /v1/keys` gives them: what verifies its tokens and receipts offline.

use serde::Deserialize;

use crate::audit::{LogPublic, LogTerm};
use crate::base::id::InstanceId;
use crate::base::time::Timestamp;
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
    /// All keys the log ever had, each with its time.
    pub logs: Vec<LogTerm>,
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
        let log: LogPublic = document.log.parse().map_err(|_| InvalidKeys)?;
        // An instance before 0.1 had one key for ever.
        let always = || LogTerm {
            public_key: log.clone(),
            from: Timestamp::default(),
            until: None,
            endorsed: None,
        };
        let logs = document
            .logs
            .filter(|logs| !logs.is_empty())
            .unwrap_or_else(|| vec![always()]);
        Ok(Self {
            logs,
            instance: document.instance,
            roots: RootPublics(roots.collect()),
            log,
        })
    }
}

#[derive(Deserialize)]
struct Document {
    instance: InstanceId,
    token_roots: Vec<Root>,
    log: String,
    logs: Option<Vec<LogTerm>>,
}

#[derive(Deserialize)]
struct Root {
    id: u32,
    public_key: PublicKey,
}
