//! A vendor that is a bare socket: it keeps every byte that reaches it and answers what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// One request as it came: head and body, byte for byte.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The values of a header field.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// A piece of an answer.
pub(crate) enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes again and again, until the other side goes away.
    Forever(Vec<u8>),
    /// Nothing more until the other side goes away.
    Hang,
    /// The connection ends here.
    Close,
    /// It ends without a goodbye (TCP RST).
    Reset,
    /// Wait until the test says so.
    Until(Arc<tokio::sync::Notify>),
    /// The rest of the request's bytes back as they come.
    Echo,
}

type Script = Arc<dyn Fn(&Asked) -> Vec<Piece> + Send + Sync>;

/// The vendor; ends when dropped.
pub(crate) struct RawVendor {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Script>>,
    task: tokio::task::JoinHandle<()>,
    gone: mpsc::UnboundedReceiver<()>,
}

impl Drop for RawVendor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawVendor {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(|_| vec![ok("{}")])));
        let (tell, gone) = mpsc::unbounded_channel();
        let (log, play) = (Arc::clone(&asked), Arc::clone(&script));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, play, tell) = (Arc::clone(&log), Arc::clone(&play), tell.clone());
                tokio::spawn(async move {
                    Box::pin(serve(stream, &log, &play)).await;
                    let _test_ended = tell.send(());
                });
            }
        });
        Self {
            address,
            asked,
            script,
            task,
            gone,
        }
    }

    /// What it answers from now on.
    pub(crate) fn answers(&self, script: impl Fn(&Asked) -> Vec<Piece> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Forgets them.
    pub(crate) fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }

    /// Completes when a connection has ended, from whichever side.
    pub(crate) async fn gone(&mut self) {
        self.gone.recv().await.unwrap();
    }
}

/// A good JSON answer.
pub(crate) fn ok(body: &str) -> Piece {
    answer(200, "Content-Type: application/json\r\n", body.as_bytes())
}

/// An answer with its length.
pub(crate) fn answer(status: u16, headers: &str, body: &[u8]) -> Piece {
    let mut bytes = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Piece::Bytes(bytes)
}

/// The head of an answer whose body comes in chunks.
pub(crate) fn chunked(headers: &str) -> Piece {
    Piece::Bytes(format!("HTTP/1.1 200 X\r\n{headers}Transfer-Encoding: chunked\r\n\r\n").into_bytes())
}

/// A chunk.
pub(crate) fn chunk(bytes: &[u8]) -> Piece {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    Piece::Bytes(out)
}

async fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, script: &Mutex<Script>) {
    while let Some(asked) = read(&mut stream).await {
        log.lock().unwrap().push(asked.clone());
        let play = Arc::clone(&script.lock().unwrap());
        for piece in play(&asked) {
            if !give(&mut stream, piece).await {
                return;
            }
        }
    }
}

async fn give(stream: &mut TcpStream, piece: Piece) -> bool {
    match piece {
        Piece::Bytes(bytes) => stream.write_all(&bytes).await.is_ok(),
        Piece::Until(told) => {
            told.notified().await;
            true
        }
        Piece::Forever(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {}
            false
        }
        Piece::Close => false,
        Piece::Reset => {
            stream.set_zero_linger().unwrap();
            false
        }
        Piece::Hang => {
            let mut byte = [0u8; 1];
            let _gone = stream.read(&mut byte).await;
            false
        }
        Piece::Echo => {
            let mut bytes = vec![0u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                if stream.write_all(&bytes[..count]).await.is_err() {
                    break;
                }
            }
            false
        }
    }
}

/// One request; `None` when the connection ends.
async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !more(stream, &mut bytes).await {
            return (!bytes.is_empty()).then(|| cut(&bytes));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut asked = Asked {
        head,
        body: bytes.split_off(end),
    };
    let length: usize = asked
        .header("content-length")
        .first()
        .map_or(0, |text| text.parse().unwrap());
    let chunked = !asked.header("transfer-encoding").is_empty();
    loop {
        let whole = if chunked {
            asked.body.ends_with(b"0\r\n\r\n")
        } else {
            asked.body.len() >= length
        };
        if whole || !more(stream, &mut asked.body).await {
            return Some(asked);
        }
    }
}

fn cut(bytes: &[u8]) -> Asked {
    Asked {
        head: String::from_utf8_lossy(bytes).into_owned(),
        body: Vec::new(),
    }
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut piece = vec![0u8; 16 * 1024];
    match stream.read(&mut piece).await {
        Ok(count @ 1..) => {
            bytes.extend_from_slice(&piece[..count]);
            true
        }
        _ => false,
    }
}
