-- Rotations: one key in use gives way to another. A key has one rotation at a time until the new one is current.
CREATE TABLE rotations (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    vendor TEXT NOT NULL,
    policy TEXT,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    old_key TEXT NOT NULL,
    new_key TEXT NOT NULL,
    grace INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    uses INTEGER NOT NULL,
    next_at INTEGER,
    last_error TEXT,
    created INTEGER NOT NULL,
    promoted INTEGER,
    ended INTEGER
) STRICT;
CREATE UNIQUE INDEX rotations_pending ON rotations (subject)
    WHERE state IN ('pending_intent', 'pending_created', 'pending_tested');
CREATE INDEX rotations_due ON rotations (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX rotations_of ON rotations (subject, id);
CREATE INDEX rotations_new ON rotations (new_key);
