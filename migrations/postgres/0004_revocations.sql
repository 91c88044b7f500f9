-- What ended early, by kind and time: the revocation feed reads the last hour of it.
CREATE INDEX events_ended ON events (kind, created) WHERE kind IN ('grant.revoked', 'lease.revoked', 'token.revoked');
