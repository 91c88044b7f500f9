//! Questions to the person at the terminal. Asked on standard error, so that results stay clean.

use std::io::Write as _;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::failure::Failure;
use super::output::visible;
use super::world::World;
use crate::base::secret::SecretText;
use crate::client::secret;

/// The longest answer to such a question.
const LONGEST: usize = 80;

/// Asks for yes or no; anything but yes is no.
pub(crate) fn yes(world: &mut World, question: &str) -> Result<bool, Failure> {
    let answer = line(world, &format!("{question} [y/N]"))?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a word or a number; answers what was typed, without spaces around it.
pub(crate) fn line(world: &mut World, question: &str) -> Result<String, Failure> {
    write!(world.stderr, "{} ", visible(question))?;
    world.stderr.flush()?;
    let mut answer = Vec::new();
    while let Some(byte) = secret::byte(&mut world.stdin)?.filter(|byte| *byte != b'\n') {
        answer.push(byte);
        if answer.len() > LONGEST {
            break;
        }
    }
    Ok(String::from_utf8_lossy(answer.trim_ascii()).into_owned())
}

/// Asks for a secret; the terminal does not show what is typed.
pub(crate) fn secret(world: &mut World, question: &str) -> Result<SecretText, Failure> {
    write!(world.stderr, "{}: ", visible(question))?;
    world.stderr.flush()?;
    let silence = Silence::begin();
    let typed = secret::read_line(&mut world.stdin, "the answer");
    drop(silence);
    writeln!(world.stderr)?;
    Ok(typed?)
}

/// The terminal without echo, until it is dropped. Not protected: a process killed meanwhile leaves it so; `stty sane`
/// brings it back.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            // Standard input is no terminal: then nothing is shown either.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent);
        }
        Self(before)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
