//! The statements that need one text for each engine: locks, and sets of rows (`json_each` on SQLite, `UNNEST`
//! on PostgreSQL). A set is `$1` on SQLite and `$1` … `$k`, one for each column, on PostgreSQL.

use super::Engine;

/// One statement in two texts.
#[derive(Clone, Copy)]
pub(super) struct Text {
    sqlite: &'static str,
    postgres: &'static str,
}

impl Text {
    pub(super) const fn on(self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

/// Locks the chain for this transaction; on SQLite `BEGIN IMMEDIATE` did.
pub(super) const LOCK_CHAIN: Text = Text {
    sqlite: "SELECT incarnation, n, digest, high_water FROM chain",
    postgres: "SELECT incarnation, n, digest, high_water FROM chain FOR UPDATE",
};

/// Set: n, id, kind, object, actor, body, prev, digest, created. Then the incarnation.
pub(super) const INSERT_EVENTS: Text = Text {
    sqlite: "INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT value ->> 0, value ->> 1, $2, value ->> 2, value ->> 3, value ->> 4, value ->> 5, \
         unhex(value ->> 6), unhex(value ->> 7), value ->> 8 FROM json_each($1)",
    postgres: "INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT n, id, $10, kind, object, actor, body, prev, digest, created FROM UNNEST($1::bigint[], $2::text[], \
         $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::bigint[]) \
         AS u (n, id, kind, object, actor, body, prev, digest, created)",
};

/// Set: token revocation ids. Answers those that are revoked.
pub(super) const TOKENS_REVOKED: Text = Text {
    sqlite: "SELECT id FROM revoked_tokens WHERE id IN (SELECT value ->> 0 FROM json_each($1)) ORDER BY id LIMIT 1",
    postgres: "SELECT id FROM revoked_tokens WHERE id IN (SELECT UNNEST($1::text[])) ORDER BY id LIMIT 1",
};

/// Set: event id, leaf.
pub(super) const NUMBER_LEAVES: Text = Text {
    sqlite: "UPDATE events SET leaf = j.leaf FROM (SELECT value ->> 0 AS id, value ->> 1 AS leaf FROM json_each($1)) \
         AS j WHERE events.id = j.id AND events.leaf IS NULL",
    postgres: "UPDATE events SET leaf = j.leaf FROM UNNEST($1::text[], $2::bigint[]) AS j (id, leaf) \
         WHERE events.id = j.id AND events.leaf IS NULL",
};

/// Set: level, place, hash.
pub(super) const INSERT_NODES: Text = Text {
    sqlite: "INSERT INTO tree_nodes (level, place, hash) \
         SELECT value ->> 0, value ->> 1, unhex(value ->> 2) FROM json_each($1)",
    postgres: "INSERT INTO tree_nodes (level, place, hash) \
         SELECT * FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[])",
};

/// Set: level, place.
pub(super) const NODES: Text = Text {
    sqlite: "SELECT t.level, t.place, t.hash FROM json_each($1) AS j \
         JOIN tree_nodes AS t ON t.level = j.value ->> 0 AND t.place = j.value ->> 1",
    postgres: "SELECT t.level, t.place, t.hash FROM UNNEST($1::bigint[], $2::bigint[]) AS j (level, place) \
         JOIN tree_nodes AS t ON t.level = j.level AND t.place = j.place",
};
