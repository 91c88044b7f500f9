//! Users of `RabbitMQ` against the real server: one of the test's own, that is ended with the test.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dekeys::base::egress::{Egress, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::Ttl;
use dekeys::vendor::{Adapter, Alive, CreateAsk, Gone, Manifest, RootSecret, fields, pack_root};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{adapter, ask, manifest, unheard};
use crate::support::until;

const NAME: &str = "dk-abcdefgh-0123456789-1";

/// The server with its management interface, and the daemon that knows its name.
struct Server {
    _folder: TempDir,
    names: Child,
    broker: Child,
    ports: [u16; 4],
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// As `rabbitmq` where this process is root.
fn command(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "rabbitmq", "--"]).arg(program);
    command
}

impl Server {
    async fn start() -> Option<Self> {
        let program = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        if !program.exists() {
            crate::skip::skipped("the life of a RabbitMQ user: no server is installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let ports @ [amqp, management, ..] = [free_port(), free_port(), free_port(), free_port()];
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        );
        std::fs::write(folder.path().join("rabbitmq.conf"), config).unwrap();
        std::fs::write(folder.path().join("plugins"), "[rabbitmq_management].\n").unwrap();
        if rustix::process::geteuid().is_root() {
            let owner = Command::new("chown")
                .args(["-R", "rabbitmq:"])
                .arg(folder.path())
                .status();
            assert!(owner.unwrap().success());
        }
        let quiet = |command: &mut Command| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            command.process_group(0).spawn().unwrap()
        };
        let names = quiet(Command::new("epmd").args(["-address", "127.0.0.1", "-port", &ports[3].to_string()]));
        let broker = quiet(&mut Self::configured(&program, folder.path(), ports));
        let server = Self {
            _folder: folder,
            names,
            broker,
            ports,
        };
        let vendor = server.vendor();
        until("RabbitMQ to answer", async || {
            vendor.adapter.test_root(&vendor.egress, &vendor.root).await.ok()
        })
        .await;
        Some(server)
    }

    fn configured(program: &Path, place: &Path, ports: [u16; 4]) -> Command {
        let mut command = command(program);
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", place)
            .env("RABBITMQ_NODENAME", "dekeys@localhost")
            .env("RABBITMQ_NODE_PORT", ports[0].to_string())
            .env("RABBITMQ_DIST_PORT", ports[2].to_string())
            .env("ERL_EPMD_PORT", ports[3].to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("RABBITMQ_CONFIG_FILE", place.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", place.join("data"))
            .env("RABBITMQ_LOG_BASE", place.join("log"));
        command
    }

    /// As an operator connects it; the server is told of in the clear, as a test instance does.
    fn vendor(&self) -> Vendor {
        let manifest: Manifest = manifest("rabbitmq");
        let base = format!("http://127.0.0.1:{}", self.ports[1]);
        let param = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let params = [param("host", "rabbit.invalid:15671"), param("vhost", "/")];
        let secret = |name: &str| (name.to_owned(), SecretText::new("guest".to_owned()));
        let base = Some(base.parse().unwrap());
        let packed = pack_root(
            &manifest,
            base.as_ref(),
            &params,
            vec![secret("user"), secret("password")],
        );
        Vendor {
            adapter: adapter(&manifest),
            egress: Egress::new(Reach::Loopback).unwrap(),
            root: RootSecret::unpack(packed.unwrap()).unwrap(),
        }
    }

    /// A connection of a key's holder, opened in the virtual host; `None` if it is refused.
    async fn log_in(&self, key: &SecretText) -> Option<TcpStream> {
        let parts = fields(key);
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[0])).await.unwrap();
        stream.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        assert_eq!(method(&mut stream).await?, (10, 10), "start");
        let proof = format!("\0{}\0{}", parts["user"].expose(), parts["password"].expose());
        let mut start_ok = vec![0, 0, 0, 0, 5];
        start_ok.extend_from_slice(b"PLAIN");
        start_ok.extend_from_slice(&u32::try_from(proof.len()).unwrap().to_be_bytes());
        start_ok.extend_from_slice(proof.as_bytes());
        start_ok.extend_from_slice(b"\x05en_US");
        say(&mut stream, 11, &start_ok).await;
        if method(&mut stream).await? != (10, 30) {
            return None;
        }
        say(&mut stream, 31, &[0, 1, 0, 2, 0, 0, 0, 0]).await;
        say(&mut stream, 40, b"\x01/\0\0").await;
        (method(&mut stream).await? == (10, 41)).then_some(stream)
    }
}

/// A method of class 10, the connection's, as a frame (AMQP 0-9-1, 2.3.5).
async fn say(stream: &mut TcpStream, method: u16, arguments: &[u8]) {
    let length = u32::try_from(arguments.len()).unwrap() + 4;
    let mut frame = vec![1, 0, 0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&10_u16.to_be_bytes());
    frame.extend_from_slice(&method.to_be_bytes());
    frame.extend_from_slice(arguments);
    frame.push(0xCE);
    stream.write_all(&frame).await.unwrap();
}

/// Class and method of the next frame; `None` when the server has closed.
async fn method(stream: &mut TcpStream) -> Option<(u16, u16)> {
    let mut head = [0_u8; 7];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[3..7].try_into().unwrap());
    let mut rest = vec![0_u8; usize::try_from(length).unwrap() + 1];
    stream.read_exact(&mut rest).await.ok()?;
    let number = |at: usize| u16::from_be_bytes(rest[at..at + 2].try_into().unwrap());
    Some((number(0), number(2)))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server is a grandchild.
        for child in [&mut self.broker, &mut self.names] {
            let _gone = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _reaped = child.wait();
        }
    }
}

struct Vendor {
    adapter: Adapter,
    egress: Egress,
    root: RootSecret,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_a_key_at_the_real_server() {
    let Some(server) = Server::start().await else { return };
    let Vendor { adapter, egress, root } = &server.vendor();
    let wanted = CreateAsk {
        scopes: vec!["queues:use".parse().unwrap()],
        ..ask(NAME, Ttl::from_mins(5))
    };
    let making = adapter.create(egress, root, &wanted, &OsRandom, unheard);
    let made = making.await.map_err(|failure| failure.words).unwrap();
    assert_eq!(made.vendor_key_id, NAME);
    assert_eq!(adapter.probe(egress, root, &made.secret).await.unwrap(), Alive::Alive);
    let found = adapter.find(egress, root, NAME).await.unwrap();
    assert_eq!(found.len(), 1);
    let mut holder = server.log_in(&made.secret).await.expect("a connection");
    assert_eq!(adapter.revoke(egress, root, NAME, None).await.unwrap(), Gone::Revoked);
    // connection.close, or nothing more at all.
    let last = method(&mut holder).await;
    assert!(
        last.is_none_or(|last| last == (10, 50)),
        "{last:?}: the connection outlives its user"
    );
    assert_eq!(adapter.probe(egress, root, &made.secret).await.unwrap(), Alive::Dead);
    assert!(server.log_in(&made.secret).await.is_none());
    assert!(adapter.find(egress, root, NAME).await.unwrap().is_empty());
    // Ended again, after a lost answer: nobody is there afterwards either.
    adapter.revoke(egress, root, NAME, None).await.unwrap();
    assert!(adapter.find(egress, root, NAME).await.unwrap().is_empty());
}
