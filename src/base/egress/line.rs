//! Connections for what speaks no HTTP, such as databases: the same rules as for HTTP. A test instance reaches literal
//! loopback addresses in the clear; a live one speaks TLS 1.2 or later with a certificate for the host's name, to the
//! address that was vetted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{CONNECT, Egress, EgressError, Reach, vet, vet_answers};

/// A connection: bytes in both directions.
pub trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// What a protocol says before TLS begins, and the byte with which the server agrees. Without it TLS comes first.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade {
    /// Sent first.
    pub ask: &'static [u8],
    /// The one byte that is a yes.
    pub agreed: u8,
}

impl Egress {
    /// Connects to the host and port of `url`, whatever its scheme is. Nothing is sent in the clear but `upgrade`,
    /// unless this is a test instance.
    ///
    /// # Errors
    /// [`EgressError`]; none of them was `sent`.
    pub async fn line(&self, url: &Url, upgrade: Option<Upgrade>) -> Result<Box<dyn Line>, EgressError> {
        let connecting = self.connected(url, upgrade);
        let late = |_| EgressError::Timeout { sent: false };
        timeout(CONNECT, connecting).await.map_err(late)?
    }

    async fn connected(&self, url: &Url, upgrade: Option<Upgrade>) -> Result<Box<dyn Line>, EgressError> {
        let (name, port) = place(url)?;
        let addresses = self.addresses(&name, port).await?;
        let plain = TcpStream::connect(addresses.as_slice()).await;
        let plain = plain.map_err(|_| EgressError::Connect)?;
        match *self.reach {
            Reach::Loopback => Ok(Box::new(plain)),
            Reach::Global { .. } => Ok(Box::new(secured(plain, name, upgrade).await?)),
        }
    }

    /// The vetted addresses of a host.
    async fn addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
        if let Ok(literal) = name.parse::<IpAddr>() {
            vet(&self.reach, literal)?;
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        if *self.reach == Reach::Loopback {
            return Err(EgressError::Refused {
                why: "a test instance reaches literal loopback addresses only",
            });
        }
        let answers = tokio::net::lookup_host((name, port)).await;
        vet_answers(&self.reach, answers.map_err(|_| EgressError::Connect)?.collect())
    }
}

/// Host and port. URLs of unknown schemes keep an IPv4 address as a name.
fn place(url: &Url) -> Result<(String, u16), EgressError> {
    let refused = |why| EgressError::Refused { why };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("the URL carries a user name or password"));
    }
    let port = url.port().filter(|port| *port != 0);
    let port = port.ok_or_else(|| refused("the URL names no port"))?;
    match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => Ok((name.to_owned(), port)),
        Some(Host::Ipv4(address)) => Ok((address.to_string(), port)),
        Some(Host::Ipv6(address)) => Ok((address.to_string(), port)),
        _ => Err(refused("the URL has no host")),
    }
}

async fn secured(mut plain: TcpStream, name: String, upgrade: Option<Upgrade>) -> Result<impl Line, EgressError> {
    let broken = |why| EgressError::Broken { why, sent: false };
    if let Some(upgrade) = upgrade {
        let mut answer = [0_u8; 1];
        let asked = async {
            plain.write_all(upgrade.ask).await?;
            plain.read_exact(&mut answer).await
        };
        asked
            .await
            .map_err(|_| broken("no answer to the question whether TLS is spoken"))?;
        if answer != [upgrade.agreed] {
            return Err(broken("the server speaks no TLS"));
        }
    }
    let config = rustls::ClientConfig::with_platform_verifier();
    let config = config.map_err(|_| broken("the machine has no trusted certificates"))?;
    let name = ServerName::try_from(name).map_err(|_| broken("the host has no name that TLS knows"))?;
    let connector = TlsConnector::from(Arc::new(config));
    let secured = connector.connect(name, plain).await;
    secured.map_err(|_| broken("TLS: the certificate is not trusted, not for this host, or the handshake failed"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const UPGRADE: Upgrade = Upgrade {
        ask: b"tls?",
        agreed: b'S',
    };

    /// What a live instance comes to at a server that says this when it is asked for TLS.
    async fn said(answer: &'static [u8]) -> EgressError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("x://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0_u8; 4];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (asked, rest)
        });
        let global = Reach::Global {
            private_allowed: vec!["127.0.0.0/8".parse().unwrap()],
        };
        let line = Egress::new(global)
            .unwrap()
            .line(&url.parse().unwrap(), Some(UPGRADE))
            .await;
        let error = line.err().unwrap();
        let (asked, rest) = server.await.unwrap();
        assert_eq!(&asked, UPGRADE.ask);
        // Nothing but a handshake (RFC 8446, record type 22) may follow.
        assert!(rest.first().is_none_or(|first| *first == 22));
        error
    }

    #[tokio::test]
    async fn a_live_instance_says_nothing_in_the_clear() {
        for answer in [b"N".as_slice(), b"E", b"SHELLO, this is no TLS"] {
            let error = said(answer).await;
            assert!(matches!(error, EgressError::Broken { sent: false, .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn places_that_an_instance_may_not_reach_are_refused() {
        let global = Reach::Global {
            private_allowed: Vec::new(),
        };
        let cases = [
            (Reach::Loopback, "postgresql://10.0.0.1:5432"),
            (Reach::Loopback, "postgresql://localhost:5432"),
            (Reach::Loopback, "postgresql://127.0.0.1"),
            (Reach::Loopback, "postgresql://127.0.0.1:0"),
            (Reach::Loopback, "postgresql://user@127.0.0.1:5432"),
            (global.clone(), "postgresql://127.0.0.1:5432"),
            (global.clone(), "postgresql://[::1]:5432"),
            (global.clone(), "postgresql://169.254.169.254:5432"),
            (global, "postgresql://localhost:5432"),
        ];
        for (reach, url) in cases {
            let line = Egress::new(reach).unwrap().line(&url.parse().unwrap(), None).await;
            assert!(matches!(line.err(), Some(EgressError::Refused { .. })), "{url}");
        }
    }
}
