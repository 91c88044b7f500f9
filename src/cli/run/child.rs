//! The program: started with its environment, given the signals that come, its output looked through on the way.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::NOT_EXECUTABLE;
use super::NOT_FOUND;
use crate::base::secret::SecretText;
use crate::cli::Terminal;
use crate::cli::failure::Failure;
use crate::client::mask::Mask;
use crate::client::secret;

/// How long the program may go on after SIGTERM.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// How long what still stands in a pipe is waited for after the program ended.
const REST: Duration = Duration::from_millis(500);

/// What is taken from the program's environment: it is not the one that proves itself to dekeys.
const TAKEN: &[&str] = &[
    "DEKEYS_KEY_FILE",
    "DEKEYS_TOKEN_FILE",
    "DEKEYS_UNSEAL_KEY_FILE",
    "DEKEYS_UNSEAL_PASSPHRASE_FILE",
    "DEKEYS_DATABASE_URL",
];

/// One variable with what stands in it.
pub(crate) enum Set {
    /// What everybody may see.
    Plain(String, String),
    /// What nobody may.
    Secret(String, SecretText),
}

/// A program to start.
pub(crate) struct Program<'a> {
    /// Its name and arguments.
    pub command: &'a [OsString],
    /// What is put into its environment.
    pub set: Vec<Set>,
    /// What is taken out of its standard output and standard error.
    pub masks: [Mask; 2],
}

/// A program that runs.
pub(crate) struct Running {
    process: tokio::process::Child,
    pumps: Vec<Pump>,
}

impl Program<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// Exit 127 when it is not there, 126 when it cannot be executed.
    pub(crate) fn start(&self) -> Result<Running, Failure> {
        let Some((program, args)) = self.command.split_first() else {
            return Err(Failure::usage("no program was named", "dekeys run -- PROGRAM ARGS"));
        };
        let mut command = std::process::Command::new(program);
        command.args(args);
        for name in TAKEN {
            command.env_remove(name);
        }
        for set in &self.set {
            match set {
                Set::Plain(name, value) => _ = command.env(name, value),
                Set::Secret(name, value) => secret::put_env(&mut command, name, value),
            }
        }
        let [out, err] = &self.masks;
        let out = Pump::of(out, &mut command, Stream::Out)?;
        let err = Pump::of(err, &mut command, Stream::Err)?;
        let started = Command::from(command).spawn();
        let process = started.map_err(|error| not_started(&program.to_string_lossy(), &error))?;
        Ok(Running {
            process,
            pumps: out.into_iter().chain(err).collect(),
        })
    }
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        let what = format!("there is no program `{program}`");
        return Failure::new(
            "program_not_found",
            NOT_FOUND,
            what,
            "check its name, its interpreter and PATH",
        );
    }
    let what = format!("`{program}` cannot be executed: {error}");
    Failure::new(
        "program_not_executable",
        NOT_EXECUTABLE,
        what,
        "check that it is a program: chmod +x",
    )
}

/// The exit code as a shell has it: the program's own, or 128 and the signal that ended it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(u8::MAX)
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        Ok(self.process.wait().await?)
    }

    /// Sends it a signal; one that has ended gets none.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may have ended just now.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Ends it: SIGTERM, and SIGKILL when it takes longer than [`GRACE`].
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn stop(&mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(GRACE, self.process.wait()).await {
            return Ok(ended?);
        }
        self.signal(Signal::KILL);
        Ok(self.process.wait().await?)
    }

    /// Waits until what it wrote is out. A descendant that keeps its output open is not waited for.
    pub(crate) async fn drain(self) {
        for pump in self.pumps {
            pump.drain().await;
        }
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

/// Carries one stream of the program's output to ours, in a thread of its own.
struct Pump {
    thread: std::thread::JoinHandle<()>,
    /// It has read something that is not out yet.
    busy: Arc<AtomicBool>,
}

impl Pump {
    /// Lays a pipe, unless there is nothing to mask: then the program has our stream itself.
    fn of(mask: &Mask, command: &mut std::process::Command, stream: Stream) -> Result<Option<Self>, Failure> {
        if mask.is_empty() {
            return Ok(None);
        }
        let (reader, writer) = io::pipe()?;
        match stream {
            Stream::Out => command.stdout(Stdio::from(writer)),
            Stream::Err => command.stderr(Stdio::from(writer)),
        };
        let busy = Arc::new(AtomicBool::new(true));
        let (flag, mask) = (Arc::clone(&busy), mask.clone());
        let thread = std::thread::spawn(move || {
            // Nobody reads on: the program finds its pipe closed, as it would without us.
            let _closed = carry(reader, &mask, stream, &flag);
            flag.store(false, Ordering::Release);
        });
        Ok(Some(Self { thread, busy }))
    }

    async fn drain(self) {
        let mut idle = Duration::ZERO;
        let step = Duration::from_millis(10);
        while !self.thread.is_finished() && idle < REST {
            tokio::time::sleep(step).await;
            idle = if self.busy.load(Ordering::Acquire) {
                Duration::ZERO
            } else {
                idle + step
            };
        }
    }
}

fn carry(mut from: io::PipeReader, mask: &Mask, stream: Stream, busy: &AtomicBool) -> io::Result<()> {
    let mut masking = mask.stream();
    let mut bytes = zeroize::Zeroizing::new(vec![0u8; 16 * 1024]);
    loop {
        busy.store(false, Ordering::Release);
        let count = from.read(&mut bytes)?;
        busy.store(true, Ordering::Release);
        let out = if count == 0 {
            masking.finish()
        } else {
            masking.feed(bytes.get(..count).unwrap_or_default())
        };
        match stream {
            Stream::Out => io::stdout().write_all(&out).and_then(|()| io::stdout().flush())?,
            Stream::Err => io::stderr().write_all(&out)?,
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// The signals that are passed on to the program.
const PASSED: &[(SignalKind, Signal)] = &[
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Takes every signal that is passed on from now on; none ends this process any more.
///
/// # Errors
/// The operating system's.
pub(crate) fn signals() -> Result<mpsc::UnboundedReceiver<Signal>, Failure> {
    let (tell, told) = mpsc::unbounded_channel();
    for (kind, passed) in PASSED {
        let (mut stream, tell, passed) = (signal(*kind)?, tell.clone(), *passed);
        tokio::spawn(async move { while stream.recv().await.is_some() && tell.send(passed).is_ok() {} });
    }
    Ok(told)
}

/// Whether the program has a signal already: a terminal sends Ctrl-C and Ctrl-\ to everybody in its foreground.
pub(crate) fn came_from_terminal(signal: Signal, terminal: Terminal) -> bool {
    let keys = signal == Signal::INT || signal == Signal::QUIT;
    let foreground = || {
        let group = if terminal.stdin {
            rustix::termios::tcgetpgrp(io::stdin())
        } else if terminal.stdout {
            rustix::termios::tcgetpgrp(io::stdout())
        } else {
            rustix::termios::tcgetpgrp(io::stderr())
        };
        group.is_ok_and(|group| group == getpgrp())
    };
    keys && (terminal.stdin || terminal.stdout || terminal.stderr) && foreground()
}
