//! A command that failed: what happened, why, what to do, and the exit code.

use std::io;

use serde_json::{Value, json};

use super::exit;
use super::page::list;
use crate::client::receipt::ReceiptError;
use crate::client::secret::SecretFileError;
use crate::client::token::TokenError;
use crate::client::{ClientError, InvalidKeys, KeyFileError, Refused};
use crate::config::ConfigErrors;
use crate::problem::exit_code;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell.
    Told(Box<Told>),
    /// Nobody reads what it prints any more.
    Unread,
    /// It has been told, or needs no words.
    Quiet(u8),
}

/// A failure in words.
#[derive(Debug)]
pub(crate) struct Told {
    /// What happened, no capital, no full stop.
    pub what: String,
    /// What programs switch on.
    pub code: String,
    /// Why, a line each.
    pub why: Vec<String>,
    /// What to do.
    pub fix: String,
    /// The request, for the log.
    pub request: Option<String>,
    /// The exit code.
    pub exit: u8,
    /// The server's own problem document.
    pub body: Option<Value>,
}

impl Failure {
    /// A failure of this side.
    pub(crate) fn new(code: &str, exit: u8, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Told(Box::new(Told {
            what: what.into(),
            code: code.to_owned(),
            why: Vec::new(),
            fix: fix.into(),
            request: None,
            exit,
            body: None,
        }))
    }

    /// A command line that cannot be followed.
    pub(crate) fn usage(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new("usage", exit::USAGE, what, fix)
    }

    /// The same with a reason.
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.why.push(why.into());
        }
        self
    }

    /// The same with another remedy, if it is the failure with this code.
    pub(crate) fn or_fix(mut self, code: &str, fix: impl FnOnce() -> String) -> Self {
        if let Self::Told(told) = &mut self
            && told.code == code
        {
            told.fix = fix();
        }
        self
    }

    /// The same with another exit code.
    pub(crate) fn exiting(mut self, exit: u8) -> Self {
        if let Self::Told(told) = &mut self {
            told.exit = exit;
        }
        self
    }

    /// What happened, in one line.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Told(told) => format!("{} ({})", told.what, told.code),
            Self::Unread | Self::Quiet(_) => String::new(),
        }
    }

    /// The code, if it has words.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Told(told) => &told.code,
            Self::Unread | Self::Quiet(_) => "",
        }
    }

    /// The exit code. Nobody reading on is no failure.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Told(told) => told.exit,
            Self::Quiet(exit) => *exit,
            Self::Unread => 0,
        }
    }
}

impl Told {
    /// As `--json` has it on standard error: the server's problem unchanged, or one of the same form.
    pub(crate) fn json(&self) -> Value {
        self.body.clone().unwrap_or_else(
            || json!({ "code": self.code, "title": self.what, "detail": self.why.join(" "), "fix": self.fix }),
        )
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let mut why: Vec<String> = Vec::new();
        if !refused.detail.is_empty() && refused.detail != refused.title {
            why.push(refused.detail);
        }
        // A single error often is the detail.
        let detail = why.first().cloned();
        why.extend(errors(&refused.body, detail.as_deref()));
        why.extend(refused.retry_after.map(|seconds| format!("Try again in {seconds} s.")));
        Self::Told(Box::new(Told {
            what: lower(&refused.title),
            exit: exit_code(&refused.code, refused.status),
            code: refused.code,
            why,
            fix: refused.fix,
            request: refused.request_id,
            body: Some(refused.body),
        }))
    }
}

/// The members of `errors`: one line each, with what to write instead.
fn errors(body: &Value, detail: Option<&str>) -> Vec<String> {
    let said = |error: &&Value| error.get("message").and_then(Value::as_str) == detail;
    list(body, "/errors")
        .iter()
        .filter(|error| !said(error))
        .map(|error| {
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            let place = match text("pointer") {
                "" => String::new(),
                pointer => format!("{pointer}: "),
            };
            let fix = text("fix");
            let fix = if fix.is_empty() {
                String::new()
            } else {
                format!(" ({fix})")
            };
            format!("{place}{}{fix}", text("message"))
        })
        .collect()
}

/// A sentence as it stands after `error:`.
fn lower(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            let rest: String = letters.collect();
            format!("{}{second}{rest}", first.to_lowercase())
        }
        _ => title.to_owned(),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = error.to_string();
        match error {
            ClientError::Refused(refused) => (*refused).into(),
            ClientError::Unreachable(_) => Self::new(
                "unreachable",
                exit::LATER,
                what,
                "start it: dekeys serve      or name another address: --addr, --admin-addr",
            ),
            ClientError::Lost(_) => Self::new(
                "no_answer",
                exit::LATER,
                what,
                "look whether it was done before you repeat it; allow more time with --timeout",
            )
            .because("The request may have been received."),
            ClientError::Foreign { .. } => Self::new(
                "not_dekeys",
                exit::FAILED,
                what,
                "check the address: dekeys status, --addr, DEKEYS_ADDR",
            ),
            ClientError::Unsigned(_) | ClientError::Setup => {
                Self::new("client", exit::FAILED, what, "check the key file and the token file")
            }
        }
    }
}

impl From<SecretFileError> for Failure {
    fn from(error: SecretFileError) -> Self {
        let fix = match &error {
            SecretFileError::Exists(_) => "name another file, or move that one away",
            SecretFileError::Read { .. } => "check the name, and that you may read it",
            SecretFileError::Write { .. } => "check that the folder exists, and that you may write there",
            SecretFileError::Empty(_) | SecretFileError::NotText(_) | SecretFileError::NotWalletKey(_) => {
                "check that this is the file you mean"
            }
        };
        Self::new("file", exit::FAILED, error.to_string(), fix)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::new(
            "key_file_invalid",
            exit::UNAUTHENTICATED,
            error.to_string(),
            "make one: dekeys key new FILE",
        )
    }
}

impl From<InvalidKeys> for Failure {
    fn from(error: InvalidKeys) -> Self {
        let fix = "save it: dekeys api /v1/keys > keys.json";
        Self::new("keys_invalid", exit::FAILED, error.to_string(), fix)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let (code, exit, fix) = match &error {
            TokenError::Expired { .. } => (
                "token_expired",
                exit::UNAUTHENTICATED,
                "a fresh one is free while the grant lives: dekeys grant token GRANT",
            ),
            TokenError::Narrowed { .. } | TokenError::NotGranted => (
                "insufficient_scope",
                exit::FORBIDDEN,
                "use the token from before it was narrowed, or ask for a wider grant",
            ),
            TokenError::Final => (
                "token_final",
                exit::CONFLICT,
                "narrow the token from which this one was made",
            ),
            TokenError::TooLarge => (
                "token_too_large",
                exit::FAILED,
                "narrow the first token once, instead of again and again",
            ),
            TokenError::TimedOut | TokenError::Internal(_) => ("token", exit::FAILED, "try again"),
            _ => (
                "invalid_token",
                exit::UNAUTHENTICATED,
                "check that this is the whole token, and that the keys are its instance's",
            ),
        };
        Self::new(code, exit, error.to_string(), fix)
    }
}

impl From<ReceiptError> for Failure {
    fn from(error: ReceiptError) -> Self {
        Self::new(
            "receipt_invalid",
            exit::FAILED,
            "the receipt does not verify",
            "get it again: dekeys receipt show ID > receipt.json; ask for the log's key by another way",
        )
        .because(format!("{error}."))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let told = Self::new(
            "config_invalid",
            exit::USAGE,
            "the configuration is not valid",
            "dekeys config show lists every key",
        );
        errors
            .0
            .iter()
            .fold(told, |told, error| told.because(error.to_string()))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::new(
            "io",
            exit::FAILED,
            format!("reading or writing failed: {}", error.kind()),
            "check the file, pipe or disk",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_lowered_but_names_are_not() {
        assert_eq!(lower("Payment required"), "payment required");
        assert_eq!(lower("HTTP is off"), "HTTP is off");
        assert_eq!(lower("A"), "A");
        assert_eq!(lower(""), "");
    }
}
