-- The histories of this database: the one that `init` began, and one for each copy, rollback and restore. `instance` names
-- the present one. `reconciled` is NULL while nothing may be done before people compared it with the vendors.
CREATE TABLE incarnations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    cause TEXT NOT NULL,
    parent TEXT,
    head_n BIGINT NOT NULL,
    head_digest BYTEA NOT NULL,
    begun BIGINT NOT NULL,
    reconciled BIGINT,
    payments_from BIGINT NOT NULL,
    mac BYTEA NOT NULL
);

-- Raised at each unseal and kept outside the database too: a database with an older one was rolled back.
ALTER TABLE chain ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
