-- What a key may cost at its vendor, in millionths of a dollar: its part of what the policy allows the grant, set before the
-- vendor is asked. Parts of all keys of a grant together never exceed that.
ALTER TABLE credentials ADD COLUMN cost_cap INTEGER;
-- Whether an act was entered for a grant is asked whenever a grant ends early.
CREATE INDEX ledger_grant ON ledger (grant_id, act);
