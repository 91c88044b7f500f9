-- Budgets that somebody heard of already: until then the same is not told again.
CREATE TABLE thresholds (
    name TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT;

-- Somebody's own requests, newest first.
CREATE INDEX approvals_requester ON approvals (requester, id);
