//! What is wrong with the configuration.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The key, `payment.rail`; empty when it is the file as a whole.
    pub key: String,
    /// Where the value stands: `file dekeys.toml:3:9`, `environment DEKEYS_LISTEN`, `flag --listen`.
    pub origin: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "{}\n    fix: {}", self.message, self.fix)
    }
}

/// Everything that is wrong with the configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not valid")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}
