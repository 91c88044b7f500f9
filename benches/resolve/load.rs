//! The load: connections that are kept, each sends its next request when the last one is answered. One thread, as
//! `wrk -t1` has, and as little work for a request as possible: what is sent was written out before.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::Outcome;

/// What the connections send: a list for each of them. All stop when the first has come to its end.
pub(crate) enum Requests {
    /// The same request so many times, by each of so many connections.
    Same {
        /// The request.
        request: Rc<[u8]>,
        /// How many connections.
        connections: u32,
        /// How many times each.
        each: u32,
    },
    /// Each request once.
    Once(Vec<Vec<Vec<u8>>>),
}

/// What came of it.
pub(crate) struct Measured {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Answers.
    pub(crate) answers: u32,
    /// Answers with another status than 2xx.
    pub(crate) refused: u32,
    /// The first such answer.
    pub(crate) refusal: Option<String>,
    /// Half were answered within this.
    pub(crate) p50: Duration,
    /// 99 of 100 were answered within this.
    pub(crate) p99: Duration,
}

#[derive(Default)]
struct Tally {
    over: Cell<bool>,
    refused: Cell<u32>,
    refusal: RefCell<Option<String>>,
    times: RefCell<Vec<Duration>>,
}

/// Sends the requests to `authority` and waits for all answers.
pub(crate) fn run(authority: &str, requests: Requests) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(drive(authority, requests)))
}

async fn drive(authority: &str, requests: Requests) -> Outcome<Measured> {
    let tally = Rc::new(Tally::default());
    let lists: Vec<List> = match requests {
        Requests::Same {
            request,
            connections,
            each,
        } => (0..connections)
            .map(|_| List::Same(Rc::clone(&request), each))
            .collect(),
        Requests::Once(lists) => lists.into_iter().map(|list| List::Once(list.into_iter())).collect(),
    };
    let mut open = Vec::with_capacity(lists.len());
    for list in lists {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        open.push((stream, list));
    }
    let began = Instant::now();
    let tasks: Vec<_> = open
        .into_iter()
        .map(|(stream, list)| tokio::task::spawn_local(converse(stream, list, Rc::clone(&tally))))
        .collect();
    for task in tasks {
        task.await??;
    }
    let elapsed = began.elapsed();
    let mut times = tally.times.take();
    times.sort_unstable();
    let answers = u32::try_from(times.len())?;
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    Ok(Measured {
        rate: f64::from(answers) / elapsed.as_secs_f64(),
        answers,
        refused: tally.refused.get(),
        refusal: tally.refusal.take(),
        p50: at(50),
        p99: at(99),
    })
}

enum List {
    Same(Rc<[u8]>, u32),
    Once(std::vec::IntoIter<Vec<u8>>),
}

async fn converse(mut stream: TcpStream, mut list: List, tally: Rc<Tally>) -> Outcome<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while !tally.over.get() {
        let began = match &mut list {
            List::Same(request, left) if *left > 0 => {
                *left -= 1;
                let began = Instant::now();
                stream.write_all(request).await?;
                began
            }
            List::Same(..) => break,
            List::Once(rest) => {
                let Some(request) = rest.next() else { break };
                let began = Instant::now();
                stream.write_all(&request).await?;
                began
            }
        };
        let good = answer(&mut stream, &mut buffer).await?;
        tally.times.borrow_mut().push(began.elapsed());
        if !good {
            tally.refused.set(tally.refused.get() + 1);
            let mut first = tally.refusal.borrow_mut();
            first.get_or_insert_with(|| String::from_utf8_lossy(&buffer).into_owned());
        }
    }
    tally.over.set(true);
    Ok(())
}

/// Reads one answer; whether its status is 2xx.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Outcome<bool> {
    buffer.clear();
    let mut wanted = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if wanted.is_none() {
            wanted = length(buffer)?;
        }
        if wanted.is_some_and(|wanted| buffer.len() >= wanted) {
            return Ok(buffer.starts_with(b"HTTP/1.1 2"));
        }
    }
}

/// The length of the whole answer, once its head is there.
fn length(buffer: &[u8]) -> Outcome<Option<usize>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(buffer.get(..end).unwrap_or_default())?;
    let (_, rest) = head
        .split_once("content-length: ")
        .ok_or("an answer without a length")?;
    let digits = rest.split_once('\r').map_or(rest, |(digits, _)| digits);
    Ok(Some(end + 4 + digits.parse::<usize>()?))
}
