//! Secret values as types: wiped when dropped, and without `Debug`, `Display`, `Serialize` or `Clone`,
//! so that a log line, an error or an answer cannot carry one by accident.
//!
//! Not protected: copies that a library makes of what `expose()` returns (an HTTP client's buffers), and
//! the memory of a live process read by root.

use zeroize::Zeroizing;

/// Secret bytes: a data key, a private key, a sealed value once opened.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; the caller must not keep a copy.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Allowed only where the architecture test lists it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes the secret has; not itself a secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same secret as text.
    ///
    /// # Errors
    /// Gives the secret back when it is not UTF-8.
    pub fn into_text(self) -> Result<SecretText, Self> {
        match String::from_utf8(self.0.to_vec()) {
            Ok(text) => Ok(SecretText::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(self)
            }
        }
    }
}

/// A secret that is text: a vendor key, a passphrase.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes over `text`; the caller must not keep a copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. Allowed only where the architecture test lists it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes; not itself a secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same secret as bytes.
    #[must_use]
    pub fn into_bytes(self) -> SecretBytes {
        SecretBytes::new(self.0.as_bytes().to_vec())
    }
}

impl From<SecretText> for SecretBytes {
    fn from(text: SecretText) -> Self {
        text.into_bytes()
    }
}
