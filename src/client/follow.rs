//! A verifier that follows the revocation feed by itself: once a second, which costs the instance one look at an index
//! and nothing to send while nothing ends.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::feed::Taken;
use super::keys::Keys;
use super::request::Request;
use super::send::{Client, ClientError};
use super::verifier::Verifier;
use crate::model::revocation::STATEMENT_HEADER;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which the keys are fetched again, besides when a token names one that is not known.
const KEYS_EVERY: u32 = 300;

/// Tokens with unknown roots make no more than one fetch in so many looks.
const KEYS_AT_MOST: u32 = 10;

/// A [`Verifier`], kept up to date by a task of its own for as long as this lives.
pub struct Followed {
    verifier: Arc<Verifier>,
    task: JoinHandle<()>,
}

impl Followed {
    /// Fetches the keys, reads the feed to its end, and goes on following it. The client's key must be of somebody
    /// enrolled.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(client: Arc<Client>) -> Result<Self, ClientError> {
        let verifier = Verifier::new(keys(&client).await?);
        Self::begin(client, verifier).await
    }

    /// The same with a verifier made by the caller: keys from elsewhere, another [`Verifier::max_age`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin(client: Arc<Client>, verifier: Verifier) -> Result<Self, ClientError> {
        let verifier = Arc::new(verifier);
        catch_up(&client, &verifier).await?;
        let task = tokio::spawn(follow(client, Arc::clone(&verifier)));
        Ok(Self { verifier, task })
    }

    /// The verifier, for those who share it.
    #[must_use]
    pub const fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }
}

impl Deref for Followed {
    type Target = Verifier;
    fn deref(&self) -> &Verifier {
        &self.verifier
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keys(client: &Client) -> Result<Keys, ClientError> {
    let reply = client.send(&Request::get(&[".well-known", "dekeys-keys.json"])).await?;
    Keys::parse(&reply.body).map_err(|_| client.foreign(reply.status))
}

async fn follow(client: Arc<Client>, verifier: Arc<Verifier>) {
    let mut looks = 0u32;
    loop {
        tokio::time::sleep(LOOK).await;
        looks = looks.saturating_add(1);
        // What fails is tried again; meanwhile the verifier's knowledge gets old, and it says so.
        if let Err(error) = catch_up(&client, &verifier).await {
            tracing::warn!(%error, "the revocation feed could not be read");
        }
        let due = looks >= KEYS_EVERY || (looks >= KEYS_AT_MOST && verifier.wants_keys());
        if due && let Ok(keys) = keys(&client).await {
            verifier.renew_keys(keys);
            looks = 0;
        }
    }
}

/// Reads until nothing more is there.
async fn catch_up(client: &Client, verifier: &Verifier) -> Result<(), ClientError> {
    loop {
        let (after, tag) = verifier.place();
        let mut request = Request::get(&["v1", "revocations"]).query("after", Some(after));
        if let Some(tag) = &tag {
            request = request.header("if-none-match", tag);
        }
        let reply = client.send_any(&request).await?;
        let foreign = || client.foreign(reply.status);
        let statement = reply.header(STATEMENT_HEADER).unwrap_or_default().to_owned();
        if reply.status == 304 {
            return verifier.still(&statement).map_err(|_| foreign());
        }
        let reply = client.check(reply)?;
        match verifier.take(&reply.body, &statement) {
            Ok(Taken::UpToDate) => return Ok(()),
            Ok(Taken::More | Taken::Anew) => {}
            Err(error) => {
                tracing::warn!(%error, "a page of the revocation feed was refused");
                return Err(client.foreign(reply.status));
            }
        }
    }
}
