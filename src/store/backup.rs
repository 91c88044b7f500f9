//! Whole tables out of one database and into another, of either engine: what a backup holds, and what moves an instance to
//! PostgreSQL. Which tables and columns there are is read from the database itself, so that none can be forgotten.
//!
//! A dump sees one moment and does not hold up writers. Loading replaces everything, in one transaction.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::dialect::{COLUMNS, LOCK_CHAIN, REFERENCES};
use super::statement::{Cells, Record, Statement};
use super::{ReadTx, Store, StoreError, Tx};

/// Values bound to one statement; both engines take more.
const MOST_VALUES: usize = 20_000;

/// Rows gathered before they are inserted.
const AT_ONCE: usize = 500;

/// A table of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    #[serde(rename = "table")]
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column(
    /// Its name.
    pub String,
    /// What it holds.
    pub Kind,
);

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers, times, yes and no.
    Int,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A value of a row. As JSON: `null`, a number, a text, or `{"b": "base64url"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a dump sends: a table, then its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dumped {
    /// The rows of this table follow.
    Table(Table),
    /// One row.
    Row(Vec<Value>),
}

impl Store {
    /// Copies everything into an empty database of either engine, in one transaction there; answers the rows of each
    /// table. The tables there are brought to the state that they have here.
    ///
    /// # Errors
    /// [`StoreError::Duplicate`] when there is an instance in `to` already; nothing is changed then.
    pub async fn copy_into(&self, to: &Self) -> Result<Vec<(String, u64)>, StoreError> {
        let (applied, _) = self.migrations().await?;
        to.migrate_to(applied).await?;
        let mut source = self.read().await?;
        let mut target = to.begin().await?;
        if target.instance().await?.is_some() {
            return Err(StoreError::Duplicate);
        }
        let (sender, receiver) = channel(AT_ONCE);
        let (dumped, loaded) = tokio::join!(source.dump_all(sender), target.load_all(receiver));
        let loaded = loaded?;
        dumped?;
        source.end().await?;
        target.commit(&[], &[]).await?;
        Ok(loaded)
    }
}

impl ReadTx {
    /// Sends all tables with all rows, as [`ReadTx::dump`].
    pub async fn dump_all(&mut self, to: Sender<Dumped>) -> Result<(), StoreError> {
        for table in self.tables().await? {
            self.dump(&table, &to).await?;
        }
        Ok(())
    }

    /// How many rows each table has.
    pub async fn row_counts(&mut self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut counts = Vec::new();
        for table in self.tables().await? {
            let text = format!("SELECT count(*) FROM {}", name(&table.name)?);
            let count: i64 = Statement::owned(self.conn_mut(), text).only().await?;
            counts.push((table.name, count.unsigned_abs()));
        }
        Ok(counts)
    }

    /// All tables but those of the migrations, each after those it refers to.
    pub async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        let mut tables: Vec<Table> = Vec::new();
        for ColumnRow { table, column } in self.ask_each(COLUMNS).all::<ColumnRow>().await? {
            match tables.last_mut().filter(|last| last.name == table) {
                Some(last) => last.columns.push(column),
                None => tables.push(Table {
                    name: table,
                    columns: vec![column],
                }),
            }
        }
        let refers: Vec<(String, String)> = self.ask_each(REFERENCES).all().await?;
        Ok(in_order(tables, &refers))
    }

    /// Sends a table and every row of it; answers how many. Ends with [`StoreError::Stopped`] when nobody receives any
    /// more.
    pub async fn dump(&mut self, table: &Table, to: &Sender<Dumped>) -> Result<u64, StoreError> {
        let begin = Dumped::Table(table.clone());
        to.send(begin).await.map_err(|_| StoreError::Stopped)?;
        let kinds: Vec<Kind> = table.columns.iter().map(|column| column.1).collect();
        let text = format!("SELECT {} FROM {}", names(&table.columns)?, name(&table.name)?);
        let read = move |cells: &mut Cells<'_>| {
            let values = kinds.iter().map(|kind| Value::read(*kind, cells));
            values.collect::<Result<_, _>>().map(Dumped::Row)
        };
        Statement::owned(self.conn_mut(), text).send_all(read, to).await
    }
}

impl Tx {
    /// Empties tables that were listed by [`ReadTx::tables`].
    pub async fn empty(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        for table in tables.iter().rev() {
            let text = format!("DELETE FROM {}", name(&table.name)?);
            Statement::owned(self.conn_mut(), text).run().await?;
        }
        Ok(())
    }

    /// Inserts rows of a table as [`ReadTx::dump`] gave them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a row of another width.
    pub async fn load(&mut self, table: &Table, rows: &[Vec<Value>]) -> Result<(), StoreError> {
        let width = table.columns.len();
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            return Err(StoreError::Corrupt(table.name.clone()));
        }
        for part in rows.chunks((MOST_VALUES / width).max(1)) {
            let text = insert(table, part.len())?;
            let statement = Statement::owned(self.conn_mut(), text);
            let bound = part
                .iter()
                .flat_map(|row| row.iter().zip(&table.columns))
                .fold(statement, |statement, (value, column)| value.bind(column.1, statement));
            bound.run().await?;
        }
        Ok(())
    }

    /// Empties the database and fills it with what arrives, a table and then its rows; answers the rows of each table. It
    /// goes on with the chain that was loaded.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a table or column that this database does not have.
    pub async fn load_all(&mut self, mut from: Receiver<Dumped>) -> Result<Vec<(String, u64)>, StoreError> {
        let known = self.tables().await?;
        self.empty(&known).await?;
        let mut loaded: Vec<(String, u64)> = Vec::new();
        let (mut table, mut rows) = (None, Vec::new());
        while let Some(dumped) = from.recv().await {
            match dumped {
                Dumped::Row(row) => rows.push(row),
                Dumped::Table(next) => {
                    self.load_some(table.as_ref(), &mut rows).await?;
                    if !known.contains(&next) {
                        return Err(StoreError::Corrupt(next.name));
                    }
                    loaded.push((next.name.clone(), 0));
                    table = Some(next);
                    continue;
                }
            }
            if let Some((_, count)) = loaded.last_mut() {
                *count += 1;
            }
            if rows.len() >= AT_ONCE {
                self.load_some(table.as_ref(), &mut rows).await?;
            }
        }
        self.load_some(table.as_ref(), &mut rows).await?;
        self.loaded().await?;
        Ok(loaded)
    }

    async fn load_some(&mut self, table: Option<&Table>, rows: &mut Vec<Vec<Value>>) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let table = table.ok_or_else(|| StoreError::Corrupt("table".to_owned()))?;
        self.load(table, rows).await?;
        rows.clear();
        Ok(())
    }

    /// After loading: the transaction goes on with the chain that was loaded.
    pub async fn loaded(&mut self) -> Result<(), StoreError> {
        let head = self.ask_each(LOCK_CHAIN).only().await?;
        *self.head_mut() = head;
        Ok(())
    }
}

fn insert(table: &Table, rows: usize) -> Result<String, StoreError> {
    let mut text = format!(
        "INSERT INTO {} ({}) VALUES ",
        name(&table.name)?,
        names(&table.columns)?
    );
    let width = table.columns.len();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            // Writing to a text cannot fail.
            let _ = write!(text, "{comma}${}", row * width + column + 1);
        }
        text.push(')');
    }
    Ok(text)
}

/// A name that can stand in a statement: it comes from a backup as a rule, which somebody may have written.
fn name(text: &str) -> Result<&str, StoreError> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !text.is_empty() && text.len() <= 63 && text.bytes().all(letter) && !text.starts_with('_') {
        return Ok(text);
    }
    Err(StoreError::Corrupt("name of a table or column".to_owned()))
}

fn names(columns: &[Column]) -> Result<String, StoreError> {
    let names = columns
        .iter()
        .map(|column| name(&column.0))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(names.join(", "))
}

/// Each table after those it refers to. No table of dekeys refers to itself, nor do two to each other.
fn in_order(mut tables: Vec<Table>, refers: &[(String, String)]) -> Vec<Table> {
    let mut done: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let waiting: BTreeSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let waits = |table: &Table| {
            let mut to = refers.iter().filter(|(from, _)| *from == table.name);
            to.any(|(from, to)| from != to && waiting.contains(to.as_str()))
        };
        let (later, now): (Vec<Table>, Vec<Table>) = tables.iter().cloned().partition(waits);
        if now.is_empty() {
            done.extend(later);
            break;
        }
        done.extend(now);
        tables = later;
    }
    done
}

impl Value {
    fn read(kind: Kind, cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(match kind {
            Kind::Int => cells.maybe_int()?.map_or(Self::Null, Self::Int),
            Kind::Text => cells.maybe_text()?.map_or(Self::Null, Self::Text),
            Kind::Bytes => cells.maybe_bytes()?.map_or(Self::Null, Self::Bytes),
        })
    }

    /// A value of another kind than its column is refused by the engine.
    fn bind<'t>(&self, kind: Kind, statement: Statement<'t>) -> Statement<'t> {
        match (self, kind) {
            (Self::Int(number), _) => statement.bind(*number),
            (Self::Text(text), _) => statement.bind(text.as_str()),
            (Self::Bytes(bytes), _) => statement.bind(bytes.as_slice()),
            (Self::Null, Kind::Int) => statement.bind(None::<i64>),
            (Self::Null, Kind::Text) => statement.bind(None::<String>),
            (Self::Null, Kind::Bytes) => statement.bind(None::<&[u8]>),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => Wrapped {
                b: BASE64URL_NOPAD.encode(bytes),
            }
            .serialize(serializer),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    b: String,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Int(i64),
            Text(String),
            Bytes(Wrapped),
        }
        Ok(match Option::<Any>::deserialize(deserializer)? {
            None => Self::Null,
            Some(Any::Int(number)) => Self::Int(number),
            Some(Any::Text(text)) => Self::Text(text),
            Some(Any::Bytes(wrapped)) => {
                let bytes = BASE64URL_NOPAD.decode(wrapped.b.as_bytes());
                Self::Bytes(bytes.map_err(serde::de::Error::custom)?)
            }
        })
    }
}

struct ColumnRow {
    table: String,
    column: Column,
}

impl Record for ColumnRow {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            table: cells.text()?,
            column: Column(cells.text()?, cells.word(kind)?),
        })
    }
}

fn kind(word: &str) -> Option<Kind> {
    match word {
        "INTEGER" | "bigint" => Some(Kind::Int),
        "TEXT" | "text" => Some(Kind::Text),
        "BLOB" | "bytea" => Some(Kind::Bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        Table {
            name: name.to_owned(),
            columns: vec![Column("a".to_owned(), Kind::Int), Column("b".to_owned(), Kind::Bytes)],
        }
    }

    #[test]
    fn tables_come_after_those_they_refer_to() {
        let refers = [("a", "c"), ("b", "a"), ("c", "c")].map(|(from, to)| (from.to_owned(), to.to_owned()));
        let ordered = in_order(["a", "b", "c", "d"].map(table).to_vec(), &refers);
        let names: Vec<&str> = ordered.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["c", "d", "a", "b"]);
    }

    #[test]
    fn names_are_names_and_nothing_else() {
        assert_eq!(
            insert(&table("events"), 2).unwrap(),
            "INSERT INTO events (a, b) VALUES ($1, $2), ($3, $4)"
        );
        for bad in [
            "",
            "events; DROP TABLE grants",
            "\"x\"",
            "Events",
            "_sqlx_migrations",
            "a b",
        ] {
            assert!(insert(&table(bad), 1).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_come_back_as_they_went() {
        let row = vec![
            Value::Null,
            Value::Int(-7),
            Value::Text("{\"b\":\"eA\"}".to_owned()),
            Value::Bytes(vec![0, 255, 7]),
            Value::Bytes(Vec::new()),
        ];
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), row);
    }
}
