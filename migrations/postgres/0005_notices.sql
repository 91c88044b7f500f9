-- Webhooks: who is told of events, and the queue of what is to be told. `cursor` is the last event of the log that was
-- queued; `holder` is the process that sends, until `held_until`.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    types TEXT NOT NULL,
    format TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    secret_version BIGINT NOT NULL,
    previous_until BIGINT,
    created BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    cursor BIGINT NOT NULL,
    holder TEXT NOT NULL,
    held_until BIGINT NOT NULL
);

CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES webhooks (id),
    event TEXT NOT NULL,
    n BIGINT NOT NULL,
    kind TEXT NOT NULL,
    replay BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT,
    status BIGINT,
    error TEXT,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX deliveries_once ON deliveries (webhook, n) WHERE replay = 0;
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_of ON deliveries (webhook, id);
