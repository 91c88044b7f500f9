//! Sets: many rows bound to one statement. SQLite takes them as one JSON text that `json_each` opens,
//! PostgreSQL as one array for each column that `UNNEST` opens. One statement for each row is four to five times
//! slower, because each one is a hop to another thread or machine.

use super::StoreError;
use super::statement::{Bind, Bound, Cell};

/// Rows by column. Every row has the same columns.
#[derive(Default)]
pub(super) struct Set {
    columns: Vec<Column>,
    rows: usize,
    at: usize,
    nul: bool,
}

/// What a column holds.
pub(super) enum Type {
    Text,
    Int,
}

enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Set {
    /// A set of one column.
    pub(super) fn of<'v, B: Bind<'v>>(values: impl IntoIterator<Item = B>) -> Self {
        let columns = vec![Column::like(&B::NULL)];
        let empty = Self {
            columns,
            ..Self::default()
        };
        values.into_iter().fold(empty, |set, value| set.row().cell(value))
    }

    /// A set with these types of columns, which may stay empty. Other sets learn their columns from the first row.
    pub(super) fn typed(columns: &[Type]) -> Self {
        let column = |of: &Type| match of {
            Type::Text => Column::Text(Vec::new()),
            Type::Int => Column::Int(Vec::new()),
        };
        Self {
            columns: columns.iter().map(column).collect(),
            ..Self::default()
        }
    }

    /// Begins a row; as many [`Set::cell`] calls follow as there are columns.
    pub(super) fn row(mut self) -> Self {
        self.rows += 1;
        self.at = 0;
        self
    }

    /// The next cell of the row.
    pub(super) fn cell<'v, B: Bind<'v>>(mut self, value: B) -> Self {
        let cell = value.cell();
        if self.at == self.columns.len() {
            self.columns.push(Column::like(&cell));
        }
        if let Some(column) = self.columns.get_mut(self.at) {
            self.nul |= column.push(cell);
        }
        self.at += 1;
        self
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn bind(&self, bound: &mut Bound<'_>) -> Result<(), StoreError> {
        if self.nul {
            return Err(StoreError::Nul);
        }
        match bound {
            Bound::Sqlite(_, arguments) => sqlx::Arguments::add(arguments, self.json()?),
            Bound::Postgres(_, arguments) => self.columns.iter().try_for_each(|column| match column {
                Column::Text(cells) => sqlx::Arguments::add(arguments, cells),
                Column::Int(cells) => sqlx::Arguments::add(arguments, cells),
                Column::Bytes(cells) => sqlx::Arguments::add(arguments, cells),
            }),
        }
        .map_err(|error| sqlx::Error::Encode(error).into())
    }

    /// `[["grt_…", 1, null], …]`; bytes as hexadecimal digits.
    fn json(&self) -> Result<String, StoreError> {
        let mut out = Vec::with_capacity(2 + self.rows * self.columns.len() * 34);
        out.push(b'[');
        for row in 0..self.rows {
            out.extend_from_slice(if row == 0 { b"[" } else { b",[" });
            for (place, column) in self.columns.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                column.write(row, &mut out)?;
            }
            out.push(b']');
        }
        out.push(b']');
        String::from_utf8(out).map_err(|_| StoreError::Event)
    }
}

impl Column {
    const fn like(cell: &Cell<'_>) -> Self {
        match cell {
            Cell::Text(_) => Self::Text(Vec::new()),
            Cell::Int(_) => Self::Int(Vec::new()),
            Cell::Bytes(_) => Self::Bytes(Vec::new()),
        }
    }

    /// Answers whether the text holds a NUL.
    fn push(&mut self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Text(cells), Cell::Text(text)) => {
                let nul = text.as_deref().is_some_and(|text| text.contains('\0'));
                cells.push(text.map(std::borrow::Cow::into_owned));
                nul
            }
            (Self::Int(cells), Cell::Int(number)) => {
                cells.push(number);
                false
            }
            (Self::Bytes(cells), Cell::Bytes(bytes)) => {
                cells.push(bytes.map(std::borrow::Cow::into_owned));
                false
            }
            // A row whose cells have other types than the first row's: refused when bound.
            _ => true,
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let written = match self {
            Self::Text(cells) => serde_json::to_writer(&mut *out, &cells.get(row)),
            Self::Int(cells) => serde_json::to_writer(&mut *out, &cells.get(row)),
            Self::Bytes(cells) => {
                let hex = cells
                    .get(row)
                    .and_then(Option::as_ref)
                    .map(|bytes| data_encoding::HEXLOWER.encode(bytes));
                serde_json::to_writer(&mut *out, &hex)
            }
        };
        written.map_err(|_| StoreError::Event)
    }
}
