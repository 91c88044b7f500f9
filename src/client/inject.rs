//! How a prim puts a resolved key into its own request.

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::base::secret::SecretText;

/// The header that `inject.format` of a resolution describes: `Bearer {secret}` with the key in place.
///
/// `None` when the result cannot stand in a header. The value is marked sensitive, so that HTTP libraries do not log
/// it; their buffers are not wiped.
#[must_use]
pub fn header(format: &str, key: &SecretText) -> Option<HeaderValue> {
    let text = Zeroizing::new(format.replace("{secret}", key.expose()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
