//! What a command finds around it: streams, terminal, environment, time. Tests give their own.

use std::io::{self, IsTerminal as _, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::random::{OsRandom, Random};
use crate::base::time::{Clock, SystemClock};
use crate::config::process_env;

/// Reads a variable of the environment.
pub type Env = Box<dyn Fn(&str) -> Option<String> + Send>;

/// What a command finds around it.
pub struct World {
    /// Input.
    pub stdin: Box<dyn Read + Send>,
    /// Results go here.
    pub stdout: Box<dyn Write + Send>,
    /// Talk goes here.
    pub stderr: Box<dyn Write + Send>,
    /// Which of the three are terminals.
    pub terminal: Terminal,
    /// The environment.
    pub env: Env,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Between two looks at something that is waited for.
    pub pace: Duration,
}

/// Which streams are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three streams, and whether one can be drawn on"
)]
pub struct Terminal {
    /// Input: questions can be asked.
    pub stdin: bool,
    /// Results: tables and relative times.
    pub stdout: bool,
    /// Talk: colour.
    pub stderr: bool,
    /// Columns of the results' terminal, if known.
    pub width: Option<u16>,
    /// Signs of life may be drawn: standard error is this process's own terminal.
    pub animated: bool,
}

impl World {
    /// This process's.
    #[must_use]
    pub fn process() -> Self {
        let stdout = io::stdout();
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
        Self {
            terminal: Terminal {
                stdin: io::stdin().is_terminal(),
                stdout: stdout.is_terminal(),
                stderr: io::stderr().is_terminal(),
                width: width.filter(|columns| *columns > 0),
                animated: io::stderr().is_terminal(),
            },
            stdin: Box::new(io::stdin()),
            stdout: Box::new(stdout),
            stderr: Box::new(io::stderr()),
            env: Box::new(process_env),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(OsRandom),
            pace: Duration::from_secs(2),
        }
    }

    /// Where this user's files of dekeys are; `None` without a home.
    #[must_use]
    pub fn profile(&self) -> Option<PathBuf> {
        let absolute = |name: &str| (self.env)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .map(|config| config.join("dekeys"))
    }
}
