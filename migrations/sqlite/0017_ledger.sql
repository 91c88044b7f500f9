-- The books: each row moves an amount from one account to another, so that both sides always agree. Nothing is changed or
-- deleted in it; a mistake is put right by another entry.
CREATE TABLE ledger (
    id TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    act TEXT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL CHECK (credit <> debit),
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    principal TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    purchase TEXT,
    wallet TEXT,
    vendor TEXT NOT NULL,
    credential TEXT,
    lease TEXT,
    mac BLOB NOT NULL
) STRICT;
CREATE INDEX ledger_created ON ledger (created);
CREATE INDEX ledger_principal ON ledger (principal, created);
CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
