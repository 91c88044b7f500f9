//! One statement: its text, what is bound to it, and how its rows become values. The text is the same on both
//! engines (`$1`, no engine's own functions) or comes from [`dialect`](super::dialect).

use std::borrow::Cow;
use std::str::FromStr;

use futures_util::TryStreamExt as _;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, PgConnection, Row as _, SqlSafeStr, SqlStr, SqliteConnection};

use super::StoreError;
use super::set::Set;
use super::tx::Conn;
use crate::base::canonical::Digest;
use crate::base::id::{
    ApprovalId, CredentialId, DeliveryId, EntryId, EventId, GrantId, IncarnationId, InstanceId, LeaseId, OrphanId,
    PrincipalId, PurchaseId, ReceiptId, ReviewId, RootId, RotationId, WebhookId,
};
use crate::base::time::Timestamp;
use crate::model::control::{Mac, Stored};
use crate::model::principal::PublicKey;
use crate::model::scope::{Name, Scope};
use crate::model::sealed::Sealed;

/// A statement under construction.
pub(super) struct Statement<'t> {
    bound: Bound<'t>,
    text: Cow<'static, str>,
    refused: Option<StoreError>,
}

/// A connection and what is bound so far.
pub(super) enum Bound<'t> {
    Sqlite(&'t mut SqliteConnection, SqliteArguments),
    Postgres(&'t mut PgConnection, PgArguments),
}

/// Runs the same expression on whichever database the transaction is open on.
macro_rules! on {
    ($bound:expr, ($connection:ident, $arguments:ident) => $body:expr) => {
        match $bound {
            Bound::Sqlite($connection, $arguments) => $body,
            Bound::Postgres($connection, $arguments) => $body,
        }
    };
}

impl<'t> Statement<'t> {
    pub(super) fn new(conn: &'t mut Conn, text: &'static str) -> Self {
        let bound = match conn {
            Conn::Sqlite(transaction) => Bound::Sqlite(transaction, SqliteArguments::default()),
            Conn::Postgres(transaction) => Bound::Postgres(transaction, PgArguments::default()),
        };
        Self {
            bound,
            text: Cow::Borrowed(text),
            refused: None,
        }
    }

    /// A statement whose text was made from names that were checked. For whole tables alone: see `store/backup.rs`.
    pub(super) fn owned(conn: &'t mut Conn, text: String) -> Self {
        Self {
            text: Cow::Owned(text),
            ..Self::new(conn, "")
        }
    }

    /// Binds the next `$n`.
    pub(super) fn bind<'v, B: Bind<'v>>(mut self, value: B) -> Self {
        let added = match value.cell() {
            Cell::Text(text) if text.as_deref().is_some_and(|text| text.contains('\0')) => Err(StoreError::Nul),
            Cell::Text(text) => self.bound.add(text.map(Cow::into_owned)),
            Cell::Int(number) => self.bound.add(number),
            Cell::Bytes(bytes) => self.bound.add(bytes.map(Cow::into_owned)),
        };
        self.refused = self.refused.or_else(|| added.err());
        self
    }

    /// Binds the value as JSON text.
    pub(super) fn bind_json<T: serde::Serialize + ?Sized>(mut self, value: &T) -> Self {
        if let Ok(text) = serde_json::to_string(value) {
            return self.bind(text);
        }
        self.refused = Some(StoreError::Event);
        self
    }

    /// Binds a set of rows: one JSON text on SQLite, one array for each column on PostgreSQL. Sets come first.
    pub(super) fn bind_set(mut self, set: &Set) -> Self {
        let added = set.bind(&mut self.bound);
        self.refused = self.refused.or_else(|| added.err());
        self
    }

    /// Adds `fragment $n` when there is a value.
    pub(super) fn filter<'v, V: Bind<'v>>(mut self, fragment: &'static str, value: Option<V>) -> Self {
        let Some(value) = value else { return self };
        let place = self.bound.len() + 1;
        self.text = Cow::Owned(format!("{}{fragment}${place}", self.text));
        self.bind(value)
    }

    /// Runs it; answers how many rows it touched.
    pub(super) async fn run(self) -> Result<u64, StoreError> {
        let (bound, text) = self.ready()?;
        Ok(on!(bound, (connection, arguments) => {
            sqlx::query_with(text, arguments).execute(connection).await?.rows_affected()
        }))
    }

    /// Runs it on the row of `what`, which must be there.
    pub(super) async fn run_on(self, what: &'static str) -> Result<(), StoreError> {
        match self.run().await? {
            0 => Err(StoreError::Absent(what)),
            _ => Ok(()),
        }
    }

    /// The first row.
    pub(super) async fn one<T: Record>(self) -> Result<Option<T>, StoreError> {
        let (bound, text) = self.ready()?;
        on!(bound, (connection, arguments) => {
            let row = sqlx::query_with(text, arguments).fetch_optional(connection).await?;
            row.map(|row| T::read(&mut Cells::of(&row))).transpose()
        })
    }

    /// The first row, which is there by the shape of the statement.
    pub(super) async fn only<T: Record>(self) -> Result<T, StoreError> {
        self.one().await?.ok_or(StoreError::Absent("row"))
    }

    /// All rows.
    pub(super) async fn all<T: Record>(self) -> Result<Vec<T>, StoreError> {
        let (bound, text) = self.ready()?;
        on!(bound, (connection, arguments) => {
            let rows = sqlx::query_with(text, arguments).fetch_all(connection).await?;
            rows.iter().map(|row| T::read(&mut Cells::of(row))).collect()
        })
    }

    /// Reads each row and sends what it became; answers how many there were. Rows are not gathered.
    pub(super) async fn send_all<T: Send>(
        self,
        read: impl Fn(&mut Cells<'_>) -> Result<T, StoreError> + Send,
        to: &tokio::sync::mpsc::Sender<T>,
    ) -> Result<u64, StoreError> {
        let (bound, text) = self.ready()?;
        on!(bound, (connection, arguments) => {
            let mut rows = sqlx::query_with(text, arguments).fetch(connection);
            let mut count = 0u64;
            while let Some(row) = rows.try_next().await? {
                let row = read(&mut Cells::of(&row))?;
                to.send(row).await.map_err(|_| StoreError::Stopped)?;
                count += 1;
            }
            Ok(count)
        })
    }

    fn ready(self) -> Result<(Bound<'t>, SqlStr), StoreError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let text = match self.text {
            Cow::Borrowed(text) => text.into_sql_str(),
            // Built from fragments that are all `&'static str`; values are bound.
            Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
        };
        Ok((self.bound, text))
    }
}

impl Bound<'_> {
    pub(super) fn add<'v, T>(&mut self, value: T) -> Result<(), StoreError>
    where
        T: sqlx::Encode<'v, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: sqlx::Encode<'v, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        on!(self, (_connection, arguments) => sqlx::Arguments::add(arguments, value))
            .map_err(|error| sqlx::Error::Encode(error).into())
    }

    fn len(&self) -> usize {
        on!(self, (_connection, arguments) => sqlx::Arguments::len(arguments))
    }
}

/// One value as the engines know it.
pub(super) enum Cell<'v> {
    Text(Option<Cow<'v, str>>),
    Int(Option<i64>),
    Bytes(Option<Cow<'v, [u8]>>),
}

/// What can be bound.
pub(super) trait Bind<'v> {
    /// The absent value of this type.
    const NULL: Cell<'static>;
    fn cell(self) -> Cell<'v>;
}

impl<'v, T: Bind<'v>> Bind<'v> for Option<T> {
    const NULL: Cell<'static> = T::NULL;
    fn cell(self) -> Cell<'v> {
        self.map_or(T::NULL, Bind::cell)
    }
}

macro_rules! bind {
    ($variant:ident: $($ty:ty, $value:ident => $cell:expr;)*) => {$(
        impl<'v> Bind<'v> for $ty {
            const NULL: Cell<'static> = Cell::$variant(None);
            fn cell(self) -> Cell<'v> {
                let $value = self;
                Cell::$variant(Some($cell))
            }
        }
    )*};
    ($($id:ty)*) => { bind! { Text: $($id, id => Cow::Owned(id.to_string());)* } };
}

bind! { ApprovalId CredentialId DeliveryId EntryId EventId GrantId IncarnationId InstanceId LeaseId OrphanId PrincipalId
PurchaseId ReceiptId ReviewId RootId RotationId WebhookId Digest PublicKey }
bind! { Text:
    &'v str, text => Cow::Borrowed(text);
    &'v String, text => Cow::Borrowed(text.as_str());
    String, text => Cow::Owned(text);
    &'v Name, name => Cow::Borrowed(name.as_str());
    &'v Scope, scope => Cow::Borrowed(scope.as_str());
}
bind! { Int:
    i64, number => number;
    bool, yes => i64::from(yes);
    Timestamp, at => at.as_millis();
}
bind! { Bytes:
    &'v [u8], bytes => Cow::Borrowed(bytes);
    &'v [u8; 32], bytes => Cow::Borrowed(bytes.as_slice());
    &'v Sealed, sealed => Cow::Borrowed(sealed.0.as_slice());
    Mac, mac => Cow::Owned(mac.0.to_vec());
}

/// What a row can become. Reads its columns in the order of the SELECT.
pub(super) trait Record: Sized {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError>;
}

/// The columns of one row, read from the left.
pub(super) struct Cells<'r> {
    row: &'r dyn Columns,
    at: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn of(row: &'r dyn Columns) -> Self {
        Self { row, at: 0 }
    }

    fn next(&mut self) -> usize {
        self.at += 1;
        self.at - 1
    }

    pub(super) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        let at = self.next();
        Ok(self.row.text(at)?)
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.maybe_text()?.ok_or_else(|| self.corrupt())
    }

    pub(super) fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        let at = self.next();
        Ok(self.row.int(at)?)
    }

    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(|| self.corrupt())
    }

    pub(super) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let at = self.next();
        Ok(self.row.bytes(at)?)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.maybe_bytes()?.ok_or_else(|| self.corrupt())
    }

    pub(super) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.int().map(Timestamp::from_millis)
    }

    pub(super) fn maybe_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_int()?.map(Timestamp::from_millis))
    }

    /// Text that parses: an id, a name, a digest.
    pub(super) fn parse<T: FromStr>(&mut self) -> Result<T, StoreError> {
        self.text()?.parse().map_err(|_| self.corrupt())
    }

    pub(super) fn maybe_parse<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.maybe_text()?;
        text.map(|text| text.parse().map_err(|_| self.corrupt())).transpose()
    }

    /// One of a list of words: a state, a kind.
    pub(super) fn word<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(&self.text()?).ok_or_else(|| self.corrupt())
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_str(&self.text()?).map_err(|_| self.corrupt())
    }

    pub(super) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        self.bytes()?.try_into().map_err(|_| self.corrupt())
    }

    /// The last column read holds what it should not.
    pub(super) fn corrupt(&self) -> StoreError {
        StoreError::corrupt(self.row.name(self.at.saturating_sub(1)))
    }
}

/// A row of either engine.
pub(super) trait Columns {
    fn text(&self, at: usize) -> sqlx::Result<Option<String>>;
    fn int(&self, at: usize) -> sqlx::Result<Option<i64>>;
    fn bytes(&self, at: usize) -> sqlx::Result<Option<Vec<u8>>>;
    fn name(&self, at: usize) -> &str;
}

macro_rules! columns {
    ($($row:ty)*) => {$(
        impl Columns for $row {
            fn text(&self, at: usize) -> sqlx::Result<Option<String>> {
                self.try_get(at)
            }
            fn int(&self, at: usize) -> sqlx::Result<Option<i64>> {
                self.try_get(at)
            }
            fn bytes(&self, at: usize) -> sqlx::Result<Option<Vec<u8>>> {
                self.try_get(at)
            }
            fn name(&self, at: usize) -> &str {
                self.columns().get(at).map_or("", |column| column.name())
            }
        }
    )*};
}
columns! { SqliteRow PgRow }

impl Record for i64 {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.int()
    }
}

impl Record for String {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.text()
    }
}

impl Record for Sealed {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.bytes().map(Sealed)
    }
}

impl Record for Mac {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.hash().map(Mac)
    }
}

impl<A: Record, B: Record> Record for (A, B) {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok((A::read(cells)?, B::read(cells)?))
    }
}

/// The columns of `T`, then `mac`.
impl<T: Record> Record for Stored<T> {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            unverified: T::read(cells)?,
            mac: Mac::read(cells)?,
        })
    }
}
