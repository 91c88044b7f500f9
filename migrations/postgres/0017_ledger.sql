-- The books: each row moves an amount from one account to another, so that both sides always agree. Nothing is changed or
-- deleted in it; a mistake is put right by another entry.
CREATE TABLE ledger (
    id TEXT PRIMARY KEY,
    created BIGINT NOT NULL,
    act TEXT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL CHECK (credit <> debit),
    amount BIGINT NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    principal TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    purchase TEXT,
    wallet TEXT,
    vendor TEXT NOT NULL,
    credential TEXT,
    lease TEXT,
    mac BYTEA NOT NULL
);
CREATE INDEX ledger_created ON ledger (created);
CREATE INDEX ledger_principal ON ledger (principal, created);
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END
$$;
CREATE TRIGGER ledger_is_not_changed BEFORE UPDATE OR DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
