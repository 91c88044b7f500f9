-- When a key stopped signing; NULL while it signs, or is the next to. What it signed is still checked for a while.
ALTER TABLE signing_keys ADD COLUMN retired INTEGER;
