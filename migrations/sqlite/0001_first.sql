-- The tables of dekeys 0.1. The PostgreSQL file has the same tables, columns and order; a test compares them.
-- Times are milliseconds since 1970, ids are text, lists are JSON text, yes and no are 1 and 0.

-- One row: the head of the chain of events and the durable clock. Every write transaction locks it first.
CREATE TABLE chain (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    incarnation TEXT NOT NULL,
    n INTEGER NOT NULL,
    digest BLOB NOT NULL,
    high_water INTEGER NOT NULL
) STRICT;
INSERT INTO chain VALUES (1, '', 0, zeroblob(32), 0);

CREATE TABLE instance (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    mode TEXT NOT NULL,
    quorum INTEGER NOT NULL,
    solo INTEGER NOT NULL,
    created INTEGER NOT NULL,
    mac BLOB NOT NULL
) STRICT;

CREATE TABLE keyring (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
) STRICT;

-- How many wraps of the key-encryption key were promised to processes; never lowered.
CREATE TABLE wraps (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    reserved INTEGER NOT NULL
) STRICT;
INSERT INTO wraps VALUES (1, 0);

-- The keys dekeys itself signs with: tokens and the log.
CREATE TABLE signing_keys (
    kind TEXT NOT NULL,
    number INTEGER NOT NULL,
    public_key TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (kind, number)
) STRICT;

CREATE TABLE principals (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    public_keys TEXT NOT NULL,
    wallets TEXT NOT NULL,
    approver INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    created INTEGER NOT NULL,
    mac BLOB NOT NULL
) STRICT;

-- Who has a key, who has a wallet. Only to find the row: the row with its MAC decides.
CREATE TABLE principal_keys (
    public_key TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id)
) STRICT;
CREATE INDEX principal_keys_of ON principal_keys (principal);
CREATE TABLE principal_wallets (
    wallet TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id)
) STRICT;
CREATE INDEX principal_wallets_of ON principal_wallets (principal);

CREATE TABLE manifests (
    vendor TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    mac BLOB NOT NULL
) STRICT;

CREATE TABLE roots (
    id TEXT NOT NULL PRIMARY KEY,
    vendor TEXT NOT NULL,
    manifest TEXT NOT NULL,
    base_url TEXT,
    params TEXT NOT NULL,
    current INTEGER NOT NULL,
    created INTEGER NOT NULL,
    mac BLOB NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX roots_current ON roots (vendor) WHERE current = 1;

CREATE TABLE policies (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    manifest TEXT NOT NULL,
    prim_keys TEXT NOT NULL,
    state TEXT NOT NULL,
    approval TEXT NOT NULL,
    activated INTEGER NOT NULL,
    mac BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE UNIQUE INDEX policies_active ON policies (name) WHERE state = 'active';

CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    requester TEXT NOT NULL,
    reason TEXT NOT NULL,
    approvers TEXT NOT NULL,
    quorum INTEGER NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    mac BLOB NOT NULL
) STRICT;
CREATE INDEX approvals_due ON approvals (expires) WHERE state = 'pending';

CREATE TABLE reviews (
    id TEXT NOT NULL PRIMARY KEY,
    approval TEXT NOT NULL REFERENCES approvals (id),
    principal TEXT NOT NULL,
    name TEXT NOT NULL,
    verdict TEXT NOT NULL,
    comment TEXT NOT NULL,
    digest TEXT NOT NULL,
    public_key TEXT NOT NULL,
    signature BLOB NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (approval, principal)
) STRICT;

CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL,
    holder TEXT,
    payer TEXT,
    items TEXT NOT NULL,
    audience TEXT NOT NULL,
    max_resolves INTEGER NOT NULL,
    resolves INTEGER NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    reason TEXT NOT NULL,
    mac BLOB NOT NULL
) STRICT;
CREATE INDEX grants_of ON grants (principal, id);
CREATE INDEX grants_held ON grants (holder, id);
CREATE INDEX grants_due ON grants (expires) WHERE state IN ('active', 'pending_approval');
-- Which policies a grant's items name. Only to find grants.
CREATE TABLE grant_policies (
    policy TEXT NOT NULL,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    PRIMARY KEY (policy, grant_id)
) STRICT;

CREATE TABLE credentials (
    id TEXT NOT NULL PRIMARY KEY,
    vendor TEXT NOT NULL,
    root TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    item INTEGER NOT NULL,
    scopes TEXT NOT NULL,
    prim TEXT,
    lease TEXT,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    vendor_key_id TEXT,
    vendor_expires INTEGER,
    expires INTEGER NOT NULL,
    next_at INTEGER,
    first_failed INTEGER,
    last_error TEXT,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    sealed BLOB
) STRICT;
CREATE INDEX credentials_of ON credentials (grant_id, item);
CREATE INDEX credentials_held ON credentials (grant_id, item) WHERE state = 'active' AND prim IS NULL;
CREATE INDEX credentials_due ON credentials (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX credentials_vendor ON credentials (vendor, id);
CREATE INDEX credentials_open ON credentials (id) WHERE state IN ('intent', 'probe', 'revoking', 'stuck');

CREATE TABLE leases (
    id TEXT NOT NULL PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    item INTEGER NOT NULL,
    prim TEXT NOT NULL,
    vendor TEXT NOT NULL,
    policy TEXT NOT NULL,
    credential TEXT NOT NULL,
    state TEXT NOT NULL,
    resolves INTEGER NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX leases_live ON leases (grant_id, item, prim) WHERE state IN ('pending', 'active');
CREATE INDEX leases_due ON leases (expires) WHERE state IN ('pending', 'active');
CREATE INDEX leases_of ON leases (grant_id, id);
CREATE INDEX leases_prim ON leases (prim, id);

-- How many leases of a policy are live; the same transaction changes both.
CREATE TABLE lease_counters (
    policy TEXT NOT NULL PRIMARY KEY,
    live INTEGER NOT NULL CHECK (live >= 0)
) STRICT;

CREATE TABLE purchases (
    id TEXT NOT NULL PRIMARY KEY,
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    nonce TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    valid_before INTEGER NOT NULL,
    request TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    settlement TEXT,
    last_error TEXT,
    next_at INTEGER,
    created INTEGER NOT NULL,
    UNIQUE (network, asset, payer, nonce)
) STRICT;
CREATE INDEX purchases_due ON purchases (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX purchases_payer ON purchases (payer, created);
CREATE INDEX purchases_grant ON purchases (grant_id);
CREATE INDEX purchases_unknown ON purchases (id) WHERE state = 'settling';

-- What a payer is owed: paid, but got nothing. One row for each purchase at most.
CREATE TABLE credits (
    purchase TEXT NOT NULL PRIMARY KEY,
    payer TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    reason TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX credits_payer ON credits (payer);

CREATE TABLE nonces (
    holder TEXT NOT NULL,
    nonce TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (holder, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_until ON nonces (until);

-- Rate limits (GCRA): the theoretical arrival time of the next request, in microseconds since 1970.
CREATE TABLE rates (
    name TEXT NOT NULL PRIMARY KEY,
    tat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revoked_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    until INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    request TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT;

-- The audit log. n is dense; digest = BLAKE3(prev || n || body). Event n is leaf n - 1 of the Merkle tree.
CREATE TABLE events (
    n INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    incarnation TEXT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    actor TEXT NOT NULL,
    body TEXT NOT NULL,
    prev BLOB NOT NULL,
    digest BLOB NOT NULL,
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX events_object ON events (object, n);
CREATE INDEX events_kind ON events (kind, n);

-- The Merkle tree: its size and right edge, and the hash of every complete subtree.
CREATE TABLE tree_state (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    edge BLOB NOT NULL,
    root BLOB NOT NULL
) STRICT;
-- The root of the empty tree is SHA-256 of nothing (RFC 6962, 2.1).
INSERT INTO tree_state VALUES (1, 0, x'', x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
CREATE TABLE tree_nodes (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints (
    size INTEGER NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE receipts (
    id TEXT NOT NULL PRIMARY KEY,
    grant_id TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX receipts_grant ON receipts (grant_id, id);
