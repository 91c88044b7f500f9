-- What a payment moves, to whom and for what carries a mark. One that was open before has none, and is raised.
ALTER TABLE purchases ADD COLUMN mac BLOB NOT NULL DEFAULT (zeroblob(32));
