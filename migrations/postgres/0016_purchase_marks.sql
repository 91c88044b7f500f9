-- What a payment moves, to whom and for what carries a mark. One that was open before has none, and is raised.
ALTER TABLE purchases ADD COLUMN mac BYTEA NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000';
