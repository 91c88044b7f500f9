-- The histories of this database: the one that `init` began, and one for each copy, rollback and restore. `instance` names
-- the present one. `reconciled` is NULL while nothing may be done before people compared it with the vendors.
CREATE TABLE incarnations (
    id TEXT NOT NULL PRIMARY KEY,
    cause TEXT NOT NULL,
    parent TEXT,
    head_n INTEGER NOT NULL,
    head_digest BLOB NOT NULL,
    begun INTEGER NOT NULL,
    reconciled INTEGER,
    payments_from INTEGER NOT NULL,
    mac BLOB NOT NULL
) STRICT;

-- Raised at each unseal and kept outside the database too: a database with an older one was rolled back.
ALTER TABLE chain ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
