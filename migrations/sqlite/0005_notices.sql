-- Webhooks: who is told of events, and the queue of what is to be told. `cursor` is the last event of the log that was
-- queued; `holder` is the process that sends, until `held_until`.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    types TEXT NOT NULL,
    format TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    secret_version INTEGER NOT NULL,
    previous_until INTEGER,
    created INTEGER NOT NULL,
    mac BLOB NOT NULL,
    cursor INTEGER NOT NULL,
    holder TEXT NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES webhooks (id),
    event TEXT NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    replay INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER,
    status INTEGER,
    error TEXT,
    created INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX deliveries_once ON deliveries (webhook, n) WHERE replay = 0;
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_of ON deliveries (webhook, id);
