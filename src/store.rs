//! The store: SQLite or PostgreSQL behind one set of methods, and the writer.
