//! The holder's side: a grant's token kept fresh, and narrowed before it is given away.

use serde_json::{Value, json};

use super::request::Request;
use super::secret;
use super::send::{Client, ClientError};
use super::token::{self, Narrowing, TokenError};
use crate::base::id::GrantId;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::Name;

/// For so long a token is pinned to a prim; five minutes is the most that is taken.
const PIN: Ttl = Ttl::from_mins(4);

/// A token that ends sooner is replaced by a fresh one, which costs nothing.
const FRESH: Ttl = Ttl::from_mins(5);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It cannot be narrowed so.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// dekeys said no, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Not the name of a prim.
    #[error("`{0}` is not the name of a prim")]
    Prim(String),
    /// dekeys answered something that is not understood here.
    #[error("the answer of dekeys is not understood")]
    Answer,
}

/// The holder of one grant. Its client signs with the holder's key.
pub struct Agent {
    client: Client,
    grant: GrantId,
    kept: tokio::sync::Mutex<Option<Kept>>,
}

struct Kept {
    token: SecretText,
    until: Timestamp,
}

impl Agent {
    /// The holder of `grant`. Its token is fetched when one is needed.
    #[must_use]
    pub fn new(client: Client, grant: GrantId) -> Self {
        Self {
            client,
            grant,
            kept: tokio::sync::Mutex::default(),
        }
    }

    /// The holder of the grant of a token it has.
    ///
    /// # Errors
    /// [`AgentError::Token`] when it is none.
    pub fn of(client: Client, token: SecretText) -> Result<Self, AgentError> {
        let seen = token::inspect(&token, None)?;
        let kept = Kept {
            token,
            until: seen.until,
        };
        Ok(Self {
            client,
            grant: seen.grant,
            kept: tokio::sync::Mutex::new(Some(kept)),
        })
    }

    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> GrantId {
        self.grant
    }

    /// A token for one prim alone, for four minutes: what to send it with a request.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn token_for(&self, prim: &str) -> Result<SecretText, AgentError> {
        let prim: Name = prim
            .parse()
            .map_err(|_| AgentError::Prim(prim.chars().take(80).collect()))?;
        let narrowing = Narrowing {
            prims: vec![prim],
            until: Some(self.client.now().plus(PIN)),
            ..Narrowing::default()
        };
        self.narrowed(&narrowing).await
    }

    /// A token narrowed as the caller says, from one that is still good for five minutes where the grant is.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn narrowed(&self, narrowing: &Narrowing) -> Result<SecretText, AgentError> {
        let mut kept = self.kept.lock().await;
        let soon = self.client.now().plus(FRESH);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.until > soon) {
            return Ok(token::attenuate(&kept.token, narrowing)?);
        }
        let fresh = self.mint().await?;
        let token = token::attenuate(&fresh.token, narrowing)?;
        *kept = Some(fresh);
        Ok(token)
    }

    /// A fresh token of the grant, free of charge.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn fresh_token(&self) -> Result<SecretText, AgentError> {
        let fresh = self.mint().await?;
        let token = token::again(&fresh.token);
        *self.kept.lock().await = Some(fresh);
        Ok(token)
    }

    async fn mint(&self) -> Result<Kept, AgentError> {
        let reply = self.client.send(&self.about("tokens")).await?;
        let token = secret::at(&reply.json(), "/token").ok_or(AgentError::Answer)?;
        let until = token::inspect(&token, None)?.until;
        Ok(Kept { token, until })
    }

    /// Prolongs a free grant; the policy's longest life without `ttl`. Answers when it ends.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn renew(&self, ttl: Option<Ttl>) -> Result<Timestamp, AgentError> {
        let request = self.about("renew").json(&json!({ "ttl": ttl }));
        let grant = self.client.send(&request).await?.json();
        let expires = grant.get("expires").and_then(Value::as_str);
        expires.and_then(Timestamp::parse_rfc3339).ok_or(AgentError::Answer)
    }

    /// Ends the grant, its tokens and its keys.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn revoke(&self, reason: &str) -> Result<(), AgentError> {
        let request = self.about("revoke").json(&json!({ "reason": reason }));
        self.client.send(&request).await?;
        *self.kept.lock().await = None;
        Ok(())
    }

    fn about(&self, verb: &str) -> Request {
        Request::post(&["v1", "grants", &self.grant.to_string(), verb])
    }
}
