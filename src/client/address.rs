//! Where dekeys is: `http://127.0.0.1:8402`, `https://dekeys.example.org` or `unix:/run/dekeys/admin.sock`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::{Host, Url};

/// The address of one instance: scheme, host and port, or a unix socket. Never a path, a query or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    base: Url,
    socket: Option<PathBuf>,
}

/// Text that is not an address of dekeys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address such as `http://127.0.0.1:8402`, `https://dekeys.example.org` or `unix:/path`")]
pub struct InvalidAddress(String);

impl Address {
    /// The URL of a path (percent-encoded, with its leading slash) with a query.
    #[must_use]
    pub fn url(&self, path: &str, query: &[(String, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Host and port as the `Host` field carries them; the port is left out where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.base.scheme()
    }

    /// The unix socket, if it is one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// Whether what is sent can be read on the way: plain HTTP to another machine.
    #[must_use]
    pub fn is_readable_on_the_way(&self) -> bool {
        let loopback = match self.base.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        self.scheme() == "http" && self.socket.is_none() && !loopback
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.chars().take(80).collect());
        if let Some(path) = text.strip_prefix("unix:") {
            let socket = PathBuf::from(path);
            let base = Url::parse("http://localhost/").map_err(|_| invalid())?;
            let socket = socket.is_absolute().then_some(socket).ok_or_else(invalid)?;
            return Ok(Self {
                base,
                socket: Some(socket),
            });
        }
        let base = Url::parse(text).map_err(|_| invalid())?;
        let plain = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.path() == "/"
            && base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        let found = plain.then_some(Self { base, socket: None });
        found.ok_or_else(invalid)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => write!(f, "{}://{}", self.scheme(), self.authority()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_were_given() {
        for text in [
            "http://127.0.0.1:8402",
            "https://dekeys.example.org",
            "http://[::1]:8402",
            "unix:/run/dekeys/admin.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "https://A.example:443/".parse::<Address>().unwrap().authority(),
            "a.example"
        );
    }

    #[test]
    fn what_is_no_bare_address_is_refused() {
        for text in [
            "",
            "127.0.0.1:8402",
            "ftp://x",
            "http://x/y",
            "http://x/?a",
            "http://u:p@x",
            "unix:relative",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_plain_http_to_others_is_readable() {
        let readable = |text: &str| text.parse::<Address>().unwrap().is_readable_on_the_way();
        assert!(readable("http://10.0.0.7:8402") && readable("http://localhost.example"));
        for safe in [
            "https://10.0.0.7",
            "http://127.0.0.1:1",
            "http://[::1]",
            "http://localhost:1",
            "unix:/x",
        ] {
            assert!(!readable(safe), "{safe}");
        }
    }
}
