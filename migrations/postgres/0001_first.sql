-- The tables of dekeys 0.1. The SQLite file has the same tables, columns and order; a test compares them.
-- Times are milliseconds since 1970, ids are text, lists are JSON text, yes and no are 1 and 0.
-- Columns that are put in order compare byte by byte, as in SQLite.

-- One row: the head of the chain of events and the durable clock. Every write transaction locks it first.
CREATE TABLE chain (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    incarnation TEXT NOT NULL,
    n BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    high_water BIGINT NOT NULL
);
INSERT INTO chain VALUES (1, '', 0, decode(repeat('00', 32), 'hex'), 0);

CREATE TABLE instance (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id TEXT COLLATE "C" NOT NULL,
    incarnation TEXT NOT NULL,
    mode TEXT NOT NULL,
    quorum BIGINT NOT NULL,
    solo BIGINT NOT NULL,
    created BIGINT NOT NULL,
    mac BYTEA NOT NULL
);

CREATE TABLE keyring (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    body TEXT NOT NULL
);

-- How many wraps of the key-encryption key were promised to processes; never lowered.
CREATE TABLE wraps (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    reserved BIGINT NOT NULL
);
INSERT INTO wraps VALUES (1, 0);

-- The keys dekeys itself signs with: tokens and the log.
CREATE TABLE signing_keys (
    kind TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    public_key TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (kind, number)
);

CREATE TABLE principals (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    kind TEXT COLLATE "C" NOT NULL,
    public_keys TEXT NOT NULL,
    wallets TEXT NOT NULL,
    approver BIGINT NOT NULL,
    disabled BIGINT NOT NULL,
    created BIGINT NOT NULL,
    mac BYTEA NOT NULL
);

-- Who has a key, who has a wallet. Only to find the row: the row with its MAC decides.
CREATE TABLE principal_keys (
    public_key TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id)
);
CREATE INDEX principal_keys_of ON principal_keys (principal);
CREATE TABLE principal_wallets (
    wallet TEXT NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id)
);
CREATE INDEX principal_wallets_of ON principal_wallets (principal);

CREATE TABLE manifests (
    vendor TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    pinned BIGINT NOT NULL,
    mac BYTEA NOT NULL
);

CREATE TABLE roots (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    vendor TEXT COLLATE "C" NOT NULL,
    manifest TEXT NOT NULL,
    base_url TEXT,
    params TEXT NOT NULL,
    current BIGINT NOT NULL,
    created BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    sealed BYTEA NOT NULL
);
CREATE UNIQUE INDEX roots_current ON roots (vendor) WHERE current = 1;

CREATE TABLE policies (
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    manifest TEXT NOT NULL,
    prim_keys TEXT NOT NULL,
    state TEXT NOT NULL,
    approval TEXT NOT NULL,
    activated BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX policies_active ON policies (name) WHERE state = 'active';

CREATE TABLE approvals (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    subject TEXT NOT NULL,
    requester TEXT NOT NULL,
    reason TEXT NOT NULL,
    approvers TEXT NOT NULL,
    quorum BIGINT NOT NULL,
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    mac BYTEA NOT NULL
);
CREATE INDEX approvals_due ON approvals (expires) WHERE state = 'pending';

CREATE TABLE reviews (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    approval TEXT NOT NULL REFERENCES approvals (id),
    principal TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    verdict TEXT NOT NULL,
    comment TEXT NOT NULL,
    digest TEXT NOT NULL,
    public_key TEXT NOT NULL,
    signature BYTEA NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (approval, principal)
);

CREATE TABLE grants (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    principal TEXT NOT NULL,
    holder TEXT,
    payer TEXT COLLATE "C",
    items TEXT NOT NULL,
    audience TEXT NOT NULL,
    max_resolves BIGINT NOT NULL,
    resolves BIGINT NOT NULL,
    state TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    reason TEXT NOT NULL,
    mac BYTEA NOT NULL
);
CREATE INDEX grants_of ON grants (principal, id);
CREATE INDEX grants_held ON grants (holder, id);
CREATE INDEX grants_due ON grants (expires) WHERE state IN ('active', 'pending_approval');
-- Which policies a grant's items name. Only to find grants.
CREATE TABLE grant_policies (
    policy TEXT COLLATE "C" NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL REFERENCES grants (id),
    PRIMARY KEY (policy, grant_id)
);

CREATE TABLE credentials (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    vendor TEXT COLLATE "C" NOT NULL,
    root TEXT NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    item BIGINT NOT NULL,
    scopes TEXT NOT NULL,
    prim TEXT COLLATE "C",
    lease TEXT,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    vendor_key_id TEXT,
    vendor_expires BIGINT,
    expires BIGINT NOT NULL,
    next_at BIGINT,
    first_failed BIGINT,
    last_error TEXT,
    version BIGINT NOT NULL,
    created BIGINT NOT NULL,
    sealed BYTEA
);
CREATE INDEX credentials_of ON credentials (grant_id, item);
CREATE INDEX credentials_held ON credentials (grant_id, item) WHERE state = 'active' AND prim IS NULL;
CREATE INDEX credentials_due ON credentials (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX credentials_vendor ON credentials (vendor, id);
CREATE INDEX credentials_open ON credentials (id) WHERE state IN ('intent', 'probe', 'revoking', 'stuck');

CREATE TABLE leases (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    grant_id TEXT COLLATE "C" NOT NULL REFERENCES grants (id),
    item BIGINT NOT NULL,
    prim TEXT COLLATE "C" NOT NULL,
    vendor TEXT COLLATE "C" NOT NULL,
    policy TEXT COLLATE "C" NOT NULL,
    credential TEXT NOT NULL,
    state TEXT NOT NULL,
    resolves BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE UNIQUE INDEX leases_live ON leases (grant_id, item, prim) WHERE state IN ('pending', 'active');
CREATE INDEX leases_due ON leases (expires) WHERE state IN ('pending', 'active');
CREATE INDEX leases_of ON leases (grant_id, id);
CREATE INDEX leases_prim ON leases (prim, id);

-- How many leases of a policy are live; the same transaction changes both.
CREATE TABLE lease_counters (
    policy TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    live BIGINT NOT NULL CHECK (live >= 0)
);

CREATE TABLE purchases (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT COLLATE "C" NOT NULL,
    nonce TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    valid_before BIGINT NOT NULL,
    request TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    settlement TEXT,
    last_error TEXT,
    next_at BIGINT,
    created BIGINT NOT NULL,
    UNIQUE (network, asset, payer, nonce)
);
CREATE INDEX purchases_due ON purchases (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX purchases_payer ON purchases (payer, created);
CREATE INDEX purchases_grant ON purchases (grant_id);
CREATE INDEX purchases_unknown ON purchases (id) WHERE state = 'settling';

-- What a payer is owed: paid, but got nothing. One row for each purchase at most.
CREATE TABLE credits (
    purchase TEXT NOT NULL PRIMARY KEY,
    payer TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    reason TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX credits_payer ON credits (payer);

CREATE TABLE nonces (
    holder TEXT NOT NULL,
    nonce TEXT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (holder, nonce)
);
CREATE INDEX nonces_until ON nonces (until);

-- Rate limits (GCRA): the theoretical arrival time of the next request, in microseconds since 1970.
CREATE TABLE rates (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tat BIGINT NOT NULL
);

CREATE TABLE revoked_tokens (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    request TEXT NOT NULL,
    grant_id TEXT COLLATE "C" NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (scope, name)
);

-- The audit log. n is dense; digest = BLAKE3(prev || n || body). Event n is leaf n - 1 of the Merkle tree.
CREATE TABLE events (
    n BIGINT NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    incarnation TEXT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    object TEXT COLLATE "C" NOT NULL,
    actor TEXT NOT NULL,
    body TEXT NOT NULL,
    prev BYTEA NOT NULL,
    digest BYTEA NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX events_object ON events (object, n);
CREATE INDEX events_kind ON events (kind, n);

-- The Merkle tree: its size and right edge, and the hash of every complete subtree.
CREATE TABLE tree_state (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    size BIGINT NOT NULL,
    edge BYTEA NOT NULL,
    root BYTEA NOT NULL
);
-- The root of the empty tree is SHA-256 of nothing (RFC 6962, 2.1).
INSERT INTO tree_state VALUES (1, 0, '', decode('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'hex'));
CREATE TABLE tree_nodes (
    level BIGINT NOT NULL,
    place BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (level, place)
);
CREATE TABLE checkpoints (
    size BIGINT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE receipts (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    grant_id TEXT COLLATE "C" NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX receipts_grant ON receipts (grant_id, id);
