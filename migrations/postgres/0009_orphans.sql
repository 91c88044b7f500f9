-- What stands at a vendor under this instance's names and is not as it should be, and what is needed to find it.
-- `name` is the name as the vendor takes it; `incarnation` is the one that meant to make the key: a copy of the database
-- is another one, and ends nothing that it finds at a vendor.
ALTER TABLE credentials ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';
UPDATE credentials SET incarnation = (SELECT incarnation FROM chain);
CREATE INDEX credentials_named ON credentials (vendor, name);
CREATE INDEX credentials_keyed ON credentials (vendor, vendor_key_id) WHERE vendor_key_id IS NOT NULL;
CREATE INDEX credentials_root_due ON credentials (root, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE orphans (
    id TEXT NOT NULL PRIMARY KEY,
    vendor TEXT NOT NULL,
    root TEXT NOT NULL,
    vendor_key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    credential TEXT,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    next_at BIGINT,
    last_error TEXT,
    found BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    UNIQUE (vendor, vendor_key_id)
);
CREATE INDEX orphans_due ON orphans (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX orphans_open ON orphans (vendor, id) WHERE state IN ('revoking', 'reported');
CREATE INDEX orphans_of ON orphans (credential) WHERE credential IS NOT NULL;

-- When each root credential's keys are compared with the vendor's list, and how that ended.
CREATE TABLE reaps (
    root TEXT NOT NULL PRIMARY KEY,
    vendor TEXT NOT NULL,
    next_at BIGINT NOT NULL,
    passed BIGINT,
    keys BIGINT NOT NULL,
    trouble TEXT
);

-- Where keys have no names one key is made at a time: what the vendor listed before, until it is known what came of it.
CREATE TABLE makings (
    root TEXT NOT NULL PRIMARY KEY,
    credential TEXT NOT NULL,
    listed TEXT NOT NULL,
    opened BIGINT NOT NULL
);
