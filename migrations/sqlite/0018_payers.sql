-- A wallet that signs in finds what it paid for.
CREATE INDEX grants_payer ON grants (payer, id) WHERE payer IS NOT NULL;
