//! What can go wrong below the verbs. Messages hold no text of the engine: that stands in the source chain,
//! for logs.

use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};

use crate::base::id::EventId;

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not an address of a database. The address itself is not repeated: it may hold a password.
    #[error("the database address is neither `sqlite://PATH` nor `postgres://…`")]
    Address,
    /// The database was written by a later dekeys.
    #[error("the database has migration {database}, this binary knows only up to {binary}: use a newer binary")]
    MigrationMismatch {
        /// The database's latest migration.
        database: i64,
        /// The latest this binary knows.
        binary: i64,
    },
    /// A migration of the database is not the one this binary has.
    #[error("the database's tables were not made by this binary's migrations")]
    MigrationChanged,
    /// The server may confirm a commit that a crash loses.
    #[error("PostgreSQL runs with `synchronous_commit = {0}`; dekeys needs `on`")]
    SynchronousCommit(String),
    /// Text with a NUL character, which PostgreSQL cannot hold.
    #[error("text holds a NUL character")]
    Nul,
    /// Too much waits already.
    #[error("the store is busy")]
    Busy,
    /// The disk is full; nothing was written.
    #[error("the disk is full")]
    Full,
    /// The disk failed under a commit.
    #[error("the disk failed while writing")]
    Fatal,
    /// The writer was stopped.
    #[error("the store is shutting down")]
    Stopped,
    /// Something with this id, name or key is there already.
    #[error("it exists already")]
    Duplicate,
    /// What should change is not there.
    #[error("there is no such {0}")]
    Absent(&'static str),
    /// The state it has does not allow the state it should get.
    #[error("a {what} that is `{from}` cannot become `{to}`")]
    Transition {
        /// The kind of thing.
        what: &'static str,
        /// Its state.
        from: &'static str,
        /// The state asked for.
        to: &'static str,
    },
    /// A row that dekeys did not write so.
    #[error("the column `{0}` holds what dekeys did not write")]
    Corrupt(String),
    /// An event that is no JSON.
    #[error("an event cannot be written as JSON")]
    Event,
    /// A release names an event that is not part of the commit.
    #[error("the release names event `{0}`, which is not part of the commit")]
    ReleaseWithoutEvent(EventId),
    /// The database knows a time more than 30 seconds ahead of this machine.
    #[error("the clock is more than 30 seconds behind the database")]
    ClockBehind,
    /// The answer to a commit was lost, and nothing in it tells whether it took place.
    #[error("it is not known whether the commit took place")]
    CommitUnknown,
    /// Two transactions met; trying again may help.
    #[error("the transaction met another; try again")]
    Conflict(#[source] Arc<sqlx::Error>),
    /// A row the engine refuses: a reference to nothing, a value out of bounds.
    #[error("the database refuses the data")]
    Data(#[source] Arc<sqlx::Error>),
    /// The engine fails otherwise or cannot be reached.
    #[error("the database does not answer as it should")]
    Database(#[source] Arc<sqlx::Error>),
}

impl StoreError {
    /// Whether one item's data is at fault, so that other items of the batch may go on without it.
    pub(super) const fn is_data(&self) -> bool {
        matches!(
            self,
            Self::Duplicate
                | Self::Data(_)
                | Self::Nul
                | Self::Corrupt(_)
                | Self::Event
                | Self::Absent(_)
                | Self::Transition { .. }
        )
    }

    /// Whether the database or its disk is at fault: nothing can be put on record.
    pub(super) const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Full | Self::Fatal | Self::Busy | Self::CommitUnknown | Self::Database(_)
        )
    }

    /// A value that cannot be read, of column `name`.
    pub(super) fn corrupt(name: &str) -> Self {
        Self::Corrupt(name.to_owned())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Busy;
        }
        if let sqlx::Error::ColumnDecode { index, .. } = &error {
            return Self::corrupt(index);
        }
        let Some(fault) = error.as_database_error().map(fault) else {
            return Self::Database(Arc::new(error));
        };
        match fault {
            Fault::Duplicate => Self::Duplicate,
            Fault::Full => Self::Full,
            Fault::Busy => Self::Busy,
            Fault::Data => Self::Data(Arc::new(error)),
            Fault::Conflict => Self::Conflict(Arc::new(error)),
            Fault::Io | Fault::Lost | Fault::Other => Self::Database(Arc::new(error)),
        }
    }
}

/// What an engine's error means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Duplicate,
    Data,
    Conflict,
    Full,
    Busy,
    /// The disk failed (SQLite).
    Io,
    /// The server goes down; what it was doing may have been done.
    Lost,
    Other,
}

/// SQLite codes: <https://www.sqlite.org/rescode.html>; PostgreSQL: its appendix A.
pub(super) fn fault(error: &dyn DatabaseError) -> Fault {
    match error.kind() {
        ErrorKind::UniqueViolation => return Fault::Duplicate,
        ErrorKind::ForeignKeyViolation | ErrorKind::NotNullViolation | ErrorKind::CheckViolation => {
            return Fault::Data;
        }
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    // SQLite's codes are decimal numbers, PostgreSQL's are five characters.
    if code.len() == 5 {
        return match code.as_ref() {
            "40001" | "40P01" => Fault::Conflict,
            "53100" => Fault::Full,
            "55P03" => Fault::Busy,
            code if code.starts_with("22") => Fault::Data,
            code if code.starts_with("08") || code.starts_with("57P") => Fault::Lost,
            _ => Fault::Other,
        };
    }
    match code.parse::<i64>().unwrap_or(0) & 0xff {
        5 | 6 => Fault::Conflict,
        10 => Fault::Io,
        13 => Fault::Full,
        18..=20 => Fault::Data,
        _ => Fault::Other,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    use super::*;

    /// An engine's error with this code.
    #[derive(Debug)]
    pub(in crate::store) struct Coded(pub(in crate::store) &'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("words of the engine")
        }
    }

    impl Error for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &'static str {
            "words of the engine"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn codes_of_both_engines_are_understood() {
        for (code, expected) in [
            ("10", Fault::Io),
            ("1034", Fault::Io),
            ("13", Fault::Full),
            ("5", Fault::Conflict),
            ("517", Fault::Conflict),
            ("1", Fault::Other),
            ("40001", Fault::Conflict),
            ("40P01", Fault::Conflict),
            ("53100", Fault::Full),
            ("55P03", Fault::Busy),
            ("22021", Fault::Data),
            ("57P01", Fault::Lost),
            ("08006", Fault::Lost),
            ("42601", Fault::Other),
        ] {
            assert_eq!(fault(&Coded(code)), expected, "{code}");
        }
    }

    #[test]
    fn messages_hold_no_words_of_the_engine() {
        for code in ["5", "13", "22021", "42601"] {
            let error = StoreError::from(sqlx::Error::Database(Box::new(Coded(code))));
            assert!(!error.to_string().contains("words of the engine"), "{error}");
        }
    }
}
