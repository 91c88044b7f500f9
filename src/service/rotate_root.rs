//! Rotating a root credential because somebody says so.

use super::App;
use super::caller::Context;
use super::error::Error;
use super::root_rotation::{self, Wish, by_hand};
use super::rotate::{RotationView, grace, view};
use super::rotation;
use crate::base::secret::SecretText;
use crate::base::time::Ttl;
use crate::model::scope::Name;
use crate::vendor;

/// A root credential to be replaced. Holds secrets, so it is built by the surface, not deserialised.
pub struct RotateRootAsk {
    /// The vendor.
    pub vendor: Name,
    /// How long the one before may be used, at least a minute and at most 24 h; as configured if absent.
    pub grace: Option<Ttl>,
    /// The fields of one that somebody made at the vendor; without them the vendor's API is asked.
    pub fields: Option<Vec<(String, SecretText)>>,
}

/// Replaces a root credential: the new one proves that it lists and makes keys before it is used. Answers once it is
/// the current one; that the one before is dead comes later.
///
/// # Errors
/// [`Error::NotFound`] without one; [`Error::Conflict`] where the vendor has no API for it and no fields are given;
/// [`Error::Invalid`] for fields that do not fit; [`Error::RotationFailed`]: the one in use was not touched.
pub async fn rotate_root(app: &App, context: &Context, ask: RotateRootAsk) -> Result<RotationView, Error> {
    let operator = context.operator()?;
    let grace = grace(app, ask.grace)?;
    let connected = app.current_root(&ask.vendor).await.map_err(|error| match error {
        // Asked for by its name, so its absence is not this server's trouble.
        Error::VendorNotConnected(_) => Error::NotFound("root credential"),
        other => other,
    })?;
    let entered = match ask.fields {
        Some(fields) => {
            let base_url = connected.root.base_url.as_deref().and_then(|url| url.parse().ok());
            let packed = vendor::pack_root(&connected.manifest, base_url.as_ref(), &connected.root.params, fields);
            Some(packed.map_err(|error| Error::invalid("/fields", error))?)
        }
        None if connected.manifest.facts().root_rotation.is_none() => return Err(by_hand(&ask.vendor)),
        None => None,
    };
    let wish = Wish {
        vendor: ask.vendor,
        grace,
        by: operator.name.to_string(),
        entered,
    };
    let rotation = root_rotation::run(app, wish, Some(context)).await?;
    Ok(view(app, &rotation::read(app, rotation.id).await?))
}
