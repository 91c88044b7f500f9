//! A running instance: public and admin listener, workers, and an orderly end.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{SetupError, open};
use crate::base::time::Clock;
use crate::config::{AdminListen, Config};
use crate::http::{Limits, Surface, listen};
use crate::proxy::Proxy;
use crate::service::App;

/// A running instance. Dropping it without [`Server::stop`] leaves its tasks to the runtime's end.
pub struct Server {
    /// The verbs.
    pub app: App,
    /// The public address, `http://127.0.0.1:8402`.
    pub url: String,
    /// The admin address: a URL, or `unix:` and a path.
    pub admin: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    _only: Option<std::fs::File>,
}

impl Server {
    /// Opens the database, binds both listeners, starts the workers. The vault is still sealed.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn start(config: &Config) -> Result<Self, SetupError> {
        Self::start_by(config, None).await
    }

    /// The same by another clock: what happens after fifteen minutes or thirty days can be seen at once.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn start_by(config: &Config, clock: Option<Arc<dyn Clock>>) -> Result<Self, SetupError> {
        let listener = bind(config.listen).await?;
        let address = listener.local_addr().map_err(|error| port(config.listen, error))?;
        let url = config.public_url.as_ref().map_or_else(
            || format!("http://{address}"),
            |url| url.as_str().trim_end_matches('/').to_owned(),
        );
        let only = alone(config)?;
        let app = open(config, url.clone(), clock).await?;
        let limits = limits(config);
        let surface = Surface::new(app.clone(), limits.clone(), names(config, address));
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let admin = match &config.admin_listen {
            AdminListen::Tcp(wanted) => {
                let listener = bind(*wanted).await?;
                let address = listener.local_addr().map_err(|error| port(*wanted, error))?;
                let surface = Surface::new(app.clone(), limits.clone(), names(config, address));
                tasks.push(serve(listener, surface.router(true), limits.clone(), stop.clone()));
                format!("http://{address}")
            }
            AdminListen::Unix(path) => {
                let listener = unix(path)?;
                let surface = Surface::new(app.clone(), limits.clone(), vec!["localhost".to_owned()]);
                tasks.push(serve(listener, surface.router(true), limits.clone(), stop.clone()));
                format!("unix:{}", path.display())
            }
        };
        let public = listener.tap_io(|stream| {
            // Answers are small: waiting to fill a packet only adds delay.
            let _ignored = stream.set_nodelay(true);
        });
        let proxy = Proxy::new(app.clone(), proxy_limits(config), names(config, address));
        let router = surface.router(false).merge(proxy.router());
        tasks.push(serve(public, router, limits, stop.clone()));
        tasks.push(watch_streams(app.clone(), stop.clone()));
        tasks.push(tokio::spawn(crate::worker::run(
            app.clone(),
            stop.clone().cancelled_owned(),
        )));
        Ok(Self {
            app,
            url,
            admin,
            stop,
            tasks,
            _only: only,
        })
    }

    /// The same, on any free port when somebody has the wanted one: for instances made for the moment.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn start_near(config: &Config) -> Result<Self, SetupError> {
        match Self::start(config).await {
            Err(SetupError::PortInUse { .. }) => {
                let mut anywhere = config.clone();
                anywhere.listen.set_port(0);
                Self::start(&anywhere).await
            }
            other => other,
        }
    }

    /// Ends: no new requests, those under way are answered, then the database is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        // Answers that stay open would be waited for.
        crate::service::flow::end_all(&self.app);
        for task in self.tasks {
            let _ended = task.await;
        }
        self.app.writer.stop().await;
        crate::service::unseal::close(&self.app);
        self.app.store.close().await;
    }
}

fn serve<L>(listener: L, router: axum::Router, limits: Limits, stop: CancellationToken) -> JoinHandle<()>
where
    L: axum::serve::Listener,
{
    tokio::spawn(listen(listener, router, limits, stop.cancelled_owned()))
}

/// Takes a SQLite database for this process alone: a second one would take the first one's work for leftovers. The
/// lock goes with the process, however it ends.
pub(super) fn alone(config: &Config) -> Result<Option<std::fs::File>, SetupError> {
    let Some(path) = config.database_url.strip_prefix("sqlite://") else {
        return Ok(None);
    };
    let lock = std::path::PathBuf::from(format!("{path}.lock"));
    if !lock.parent().is_some_and(std::path::Path::is_dir) {
        return Ok(None);
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock);
    let file = file.map_err(|source| SetupError::file("open", &lock, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(SetupError::InUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(SetupError::file("lock", &lock, source)),
    }
}

/// Protects the memory of a process that will hold keys, and says where it cannot.
pub fn harden() {
    for warning in crate::vault::memory::harden().warnings() {
        tracing::warn!(warning, "memory is less protected than it could be");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, SetupError> {
    TcpListener::bind(address).await.map_err(|error| port(address, error))
}

fn port(address: SocketAddr, source: std::io::Error) -> SetupError {
    let address = address.to_string();
    match source.kind() {
        std::io::ErrorKind::AddrInUse => SetupError::PortInUse { address },
        _ => SetupError::Listen { address, source },
    }
}

/// A socket that only its owner can use; one left by a dead process is replaced.
fn unix(path: &std::path::Path) -> Result<UnixListener, SetupError> {
    use std::os::unix::fs::PermissionsExt as _;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(SetupError::PortInUse {
            address: path.display().to_string(),
        });
    }
    let _old = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(|source| SetupError::file("bind", path, source))?;
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(|source| SetupError::file("protect", path, source))?;
    Ok(listener)
}

/// The authorities this server answers to.
fn names(config: &Config, address: SocketAddr) -> Vec<String> {
    let mut names = vec![address.to_string(), format!("localhost:{}", address.port())];
    // Listening everywhere, it is reached by this name at least; others are told by `public_url`.
    if address.ip().is_unspecified() {
        names.push(format!("127.0.0.1:{}", address.port()));
    }
    if address.port() == 80 {
        // Nobody writes the port that HTTP has anyway.
        names.extend([address.ip().to_string(), "localhost".to_owned()]);
    }
    if let Some(url) = &config.public_url {
        let host = url.host_str().unwrap_or_default();
        names.push(
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        );
    }
    names
}

fn watch_streams(app: App, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = crate::service::stream::watch(app) => {}
        }
    })
}

fn proxy_limits(config: &Config) -> crate::proxy::Limits {
    crate::proxy::Limits {
        head: config.limits.forward_timeout.to_std(),
        idle: config.limits.forward_idle.to_std(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        body: config.limits.body,
        header: config.limits.header,
        header_timeout: config.limits.header_timeout.to_std(),
        send_timeout: config.limits.send_timeout.to_std(),
        body_timeout: config.limits.body_timeout.to_std(),
        request_timeout: config.limits.request_timeout.to_std(),
        connections: config.limits.max_connections,
    }
}

/// Waits for SIGINT or SIGTERM.
pub async fn until_stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _interrupted = tokio::signal::ctrl_c().await;
        }
    }
}
