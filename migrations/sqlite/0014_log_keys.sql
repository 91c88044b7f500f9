-- The signature by which the key before names this one as its successor; NULL for the first.
ALTER TABLE signing_keys ADD COLUMN endorsed TEXT;
