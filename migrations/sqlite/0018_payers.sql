-- A wallet that signs in finds what it paid for.
CREATE INDEX grants_payer ON grants (payer, id) WHERE payer IS NOT NULL;

-- A client's `payment-identifier`, by payer: the purchase that it stands for, whatever is signed for it later.
CREATE TABLE payment_ids (
    payer TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    purchase TEXT NOT NULL REFERENCES purchases (id),
    PRIMARY KEY (payer, payment_id)
) STRICT;
