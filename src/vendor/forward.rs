//! A caller's request on its way to the vendor: which host it goes to, and the key put into it.

use http::HeaderMap;
use url::Url;

use super::VendorError;
use super::inject::{RootSecret, admit, destination, inject, plain};
use super::manifest::Manifest;
use super::template::Text;
use crate::base::egress::Origin;
use crate::base::secret::SecretText;

/// Scheme, host and port that requests are forwarded to: the host of the manifest's base when a key may go there, else
/// the first host of `[proxy]`; in a test instance the address that its operator set.
///
/// # Errors
/// [`VendorError`] when address or parameters do not fit the manifest.
pub fn forward_base(
    manifest: &Manifest,
    base_url: Option<&Url>,
    params: &[(String, String)],
) -> Result<Url, VendorError> {
    let mut base = destination(manifest, base_url, params)?.base;
    base.set_path("/");
    if base_url.is_some() {
        return Ok(base);
    }
    let given = params.iter().cloned().collect();
    let at = |host: &Text| Url::parse(&format!("https://{}/", plain(host, &given)?)).map_err(|_| VendorError::Base);
    let hosts = manifest.proxy.hosts.iter().map(at).collect::<Result<Vec<_>, _>>()?;
    if hosts.contains(&base) {
        return Ok(base);
    }
    hosts.into_iter().next().ok_or(VendorError::Base)
}

/// Puts a made key into a caller's request, whatever stood in its places.
///
/// # Errors
/// [`VendorError::OtherPlace`] when the request does not go to `base`; as [`inject`].
pub fn inject_key(
    manifest: &Manifest,
    base: &Url,
    secret: &SecretText,
    url: &mut Url,
    headers: &mut HeaderMap,
) -> Result<(), VendorError> {
    if Origin::of(base) != Origin::of(url) || !url.username().is_empty() || url.password().is_some() {
        return Err(VendorError::OtherPlace);
    }
    inject(&manifest.proxy.inject, secret, url, headers)
}

/// The same with a root credential that is itself the key: only to the places it was sealed for (DESIGN 15). Answers
/// the key.
///
/// # Errors
/// [`VendorError::OtherManifest`], [`VendorError::OtherPlace`].
pub fn inject_root(
    manifest: &Manifest,
    base: &Url,
    root: &RootSecret,
    url: &mut Url,
    headers: &mut HeaderMap,
) -> Result<SecretText, VendorError> {
    admit(manifest, root, url)?;
    let secret = root.key();
    inject_key(manifest, base, &secret, url, headers)?;
    Ok(secret)
}
