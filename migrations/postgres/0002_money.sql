-- Grants that people decide before they are paid for, payments that are settled before anything is made, and credit.

-- What was asked for a grant that people decide (JSON; covered by the row's MAC), and the request that finds it again.
ALTER TABLE grants ADD COLUMN asked TEXT;
ALTER TABLE grants ADD COLUMN request TEXT;
CREATE INDEX grants_request ON grants (principal, request) WHERE request IS NOT NULL;
DROP INDEX grants_due;
CREATE INDEX grants_due ON grants (expires) WHERE state IN ('active', 'pending_approval', 'payment_required');

-- Whether the money moves before the keys are made.
ALTER TABLE purchases ADD COLUMN settle_first BIGINT NOT NULL DEFAULT 0;

-- How many keys a purchase may have made at a vendor before it is paid: what counts against the vendor's held budget.
CREATE TABLE held_keys (
    purchase TEXT NOT NULL REFERENCES purchases (id),
    vendor TEXT NOT NULL,
    keys BIGINT NOT NULL CHECK (keys > 0),
    PRIMARY KEY (purchase, vendor)
);
CREATE INDEX held_keys_vendor ON held_keys (vendor, purchase);

-- Credit is money: what is left of it carries a mark, and so does what was taken for a grant that may still fail.
ALTER TABLE credits ADD COLUMN remaining BIGINT NOT NULL DEFAULT 0 CHECK (remaining >= 0);
ALTER TABLE credits ADD COLUMN mac BYTEA NOT NULL DEFAULT '';
CREATE TABLE credit_uses (
    grant_id TEXT NOT NULL,
    purchase TEXT NOT NULL REFERENCES credits (purchase),
    amount BIGINT NOT NULL CHECK (amount > 0),
    created BIGINT NOT NULL,
    mac BYTEA NOT NULL,
    PRIMARY KEY (grant_id, purchase)
);
