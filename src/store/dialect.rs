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

/// Bytes of the database: pages of the file without its log, or what PostgreSQL counts.
pub(super) const SIZE: Text = Text {
    sqlite: "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    postgres: "SELECT pg_database_size(current_database())",
};

/// Table, column and type of everything but the migrations' own tables, in order.
pub(super) const COLUMNS: Text = Text {
    sqlite: "SELECT t.name, c.name, c.type FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c \
         WHERE t.type = 'table' AND t.schema = 'main' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
         AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY t.name, c.cid",
    postgres: "SELECT c.table_name::text, c.column_name::text, c.data_type::text FROM information_schema.columns AS c \
         JOIN information_schema.tables AS t USING (table_schema, table_name) WHERE c.table_schema = current_schema() \
         AND t.table_type = 'BASE TABLE' AND c.table_name NOT LIKE '\\_sqlx%' \
         ORDER BY c.table_name COLLATE \"C\", c.ordinal_position",
};

/// Which table refers to which.
pub(super) const REFERENCES: Text = Text {
    sqlite: "SELECT t.name, f.\"table\" FROM pragma_table_list AS t JOIN pragma_foreign_key_list(t.name) AS f \
         WHERE t.type = 'table' AND t.schema = 'main'",
    postgres: "SELECT a.relname::text, b.relname::text FROM pg_constraint AS c JOIN pg_class AS a ON a.oid = c.conrelid \
         JOIN pg_class AS b ON b.oid = c.confrelid WHERE c.contype = 'f'",
};

/// Where the database is: SQLite's file, or which database of which PostgreSQL server. `system` is asked for apart, since
/// a role may lack the right.
pub(super) const PLACE: Text = Text {
    sqlite: "SELECT file FROM pragma_database_list WHERE name = 'main'",
    postgres: "SELECT oid::text FROM pg_database WHERE datname = current_database()",
};

/// PostgreSQL only: whether the role may ask for the server's own number, and that number.
pub(super) const MAY_ASK_SYSTEM: &str =
    "SELECT CAST(has_function_privilege('pg_control_system()', 'execute') AS INT)::BIGINT";
pub(super) const SYSTEM: &str = "SELECT system_identifier::text FROM pg_control_system()";

/// Puts events on the chain and moves its head. SQLite: the set n, id, kind, object, actor, created, place and length
/// in the blob that follows, which holds each body, then `prev`, then `digest`. PostgreSQL: the set n, id, kind, object,
/// actor, body, prev, digest, created. Then incarnation, n, digest and high-water mark of the chain.
pub(super) const APPEND: Text = Text {
    sqlite: "INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT value ->> 0, value ->> 1, $3, value ->> 2, value ->> 3, value ->> 4, \
         CAST(substr($2, value ->> 6, value ->> 7) AS TEXT), substr($2, (value ->> 6) + (value ->> 7), 32), \
         substr($2, (value ->> 6) + (value ->> 7) + 32, 32), value ->> 5 FROM json_each($1); \
         UPDATE chain SET n = $4, digest = $5, high_water = $6",
    postgres: "WITH head AS (UPDATE chain SET n = $11, digest = $12, high_water = $13) \
         INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT n, id, $10, kind, object, actor, body, prev, digest, created FROM UNNEST($1::bigint[], $2::text[], \
         $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::bigint[]) \
         AS u (n, id, kind, object, actor, body, prev, digest, created)",
};

/// What most batches write, and [`APPEND`], in one: a statement of its own for each table is a hop to another thread
/// or machine for each. Sets: grant, resolves; rate key, theoretical arrival time; lease, resolves; holder, nonce,
/// until. Then as [`APPEND`].
pub(super) const COUNT_AND_APPEND: Text = Text {
    sqlite: "UPDATE grants SET resolves = j.resolves FROM (SELECT value ->> 0 AS id, value ->> 1 AS resolves \
         FROM json_each($1)) AS j WHERE grants.id = j.id; \
         INSERT INTO rates (name, tat) SELECT value ->> 0, value ->> 1 FROM json_each($2) WHERE true \
         ON CONFLICT (name) DO UPDATE SET tat = excluded.tat; \
         UPDATE leases SET resolves = j.resolves FROM (SELECT value ->> 0 AS id, value ->> 1 AS resolves \
         FROM json_each($3)) AS j WHERE leases.id = j.id; \
         INSERT INTO nonces (holder, nonce, until) \
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($4); \
         INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT value ->> 0, value ->> 1, $7, value ->> 2, value ->> 3, value ->> 4, \
         CAST(substr($6, value ->> 6, value ->> 7) AS TEXT), substr($6, (value ->> 6) + (value ->> 7), 32), \
         substr($6, (value ->> 6) + (value ->> 7) + 32, 32), value ->> 5 FROM json_each($5); \
         UPDATE chain SET n = $8, digest = $9, high_water = $10",
    postgres: "WITH counted AS (UPDATE grants SET resolves = j.resolves \
         FROM UNNEST($1::text[], $2::bigint[]) AS j (id, resolves) WHERE grants.id = j.id), \
         arrived AS (INSERT INTO rates (name, tat) SELECT * FROM UNNEST($3::text[], $4::bigint[]) \
         ON CONFLICT (name) DO UPDATE SET tat = excluded.tat), \
         used AS (UPDATE leases SET resolves = j.resolves \
         FROM UNNEST($5::text[], $6::bigint[]) AS j (id, resolves) WHERE leases.id = j.id), \
         claimed AS (INSERT INTO nonces (holder, nonce, until) \
         SELECT * FROM UNNEST($7::text[], $8::text[], $9::bigint[])), \
         head AS (UPDATE chain SET n = $20, digest = $21, high_water = $22) \
         INSERT INTO events (n, id, incarnation, kind, object, actor, body, prev, digest, created) \
         SELECT n, id, $19, kind, object, actor, body, prev, digest, created FROM UNNEST($10::bigint[], $11::text[], \
         $12::text[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::bytea[], $18::bigint[]) \
         AS u (n, id, kind, object, actor, body, prev, digest, created)",
};

/// Set: token revocation ids. Answers those that are revoked.
pub(super) const TOKENS_REVOKED: Text = Text {
    sqlite: "SELECT id FROM revoked_tokens WHERE id IN (SELECT value ->> 0 FROM json_each($1)) ORDER BY id LIMIT 1",
    postgres: "SELECT id FROM revoked_tokens WHERE id IN (SELECT UNNEST($1::text[])) ORDER BY id LIMIT 1",
};

/// Sets: grants; leases; token revocation ids. Answers those that were ended. A lease whose time is over is none: its
/// key is replaced, and what was sent with it may be answered.
pub(super) const OVER: Text = Text {
    sqlite: "SELECT g.id FROM json_each($1) AS j JOIN grants AS g ON g.id = j.value ->> 0 WHERE g.state <> 'active' \
         UNION ALL SELECT l.id FROM json_each($2) AS j JOIN leases AS l ON l.id = j.value ->> 0 \
         WHERE l.state = 'revoked' \
         UNION ALL SELECT t.id FROM json_each($3) AS j JOIN revoked_tokens AS t ON t.id = j.value ->> 0",
    postgres: "SELECT g.id FROM UNNEST($1::text[]) AS j (id) JOIN grants AS g ON g.id = j.id WHERE g.state <> 'active' \
         UNION ALL SELECT l.id FROM UNNEST($2::text[]) AS j (id) JOIN leases AS l ON l.id = j.id \
         WHERE l.state = 'revoked' \
         UNION ALL SELECT t.id FROM UNNEST($3::text[]) AS j (id) JOIN revoked_tokens AS t ON t.id = j.id",
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

/// Sets: grants; rate keys; slots (grant, item, prim); policies; revocation ids; nonces (holder, nonce). Answers one
/// row of six JSON texts, each a list of rows.
pub(super) const READ_BATCH: Text = Text {
    sqlite: "SELECT \
         (SELECT json_group_array(json_array(g.id, g.state, g.expires, g.resolves)) \
          FROM json_each($1) AS j JOIN grants AS g ON g.id = j.value ->> 0), \
         (SELECT json_group_array(json_array(r.name, r.tat)) \
          FROM json_each($2) AS j JOIN rates AS r ON r.name = j.value ->> 0), \
         (SELECT json_group_array(json_array(l.id, l.grant_id, l.item, l.prim, l.vendor, l.policy, l.state, l.resolves, \
          l.created, l.expires, c.id, c.state, c.version, c.expires, c.vendor_expires, hex(c.sealed))) \
          FROM json_each($3) AS j JOIN leases AS l ON l.grant_id = j.value ->> 0 AND l.item = j.value ->> 1 \
          AND l.prim = j.value ->> 2 AND l.state IN ('pending', 'active') JOIN credentials AS c ON c.id = l.credential), \
         (SELECT json_group_array(json_array(c.grant_id, c.item, c.id, c.version, c.expires, c.vendor_expires, \
          hex(c.sealed))) FROM (SELECT DISTINCT value ->> 0 AS grant_id, value ->> 1 AS item FROM json_each($3)) AS j \
          JOIN credentials AS c ON c.grant_id = j.grant_id AND c.item = j.item AND c.state = 'active' AND c.prim IS NULL \
          ORDER BY c.id), \
         (SELECT json_group_array(json_array(k.policy, k.live)) \
          FROM json_each($4) AS j JOIN lease_counters AS k ON k.policy = j.value ->> 0), \
         (SELECT json_group_array(t.id) FROM json_each($5) AS j JOIN revoked_tokens AS t ON t.id = j.value ->> 0), \
         (SELECT json_group_array(json_array(n.holder, n.nonce)) \
          FROM json_each($6) AS j JOIN nonces AS n ON n.holder = j.value ->> 0 AND n.nonce = j.value ->> 1)",
    postgres: "SELECT \
         (SELECT COALESCE(json_agg(json_build_array(g.id, g.state, g.expires, g.resolves)), '[]')::text \
          FROM UNNEST($1::text[]) AS j (id) JOIN grants AS g ON g.id = j.id), \
         (SELECT COALESCE(json_agg(json_build_array(r.name, r.tat)), '[]')::text \
          FROM UNNEST($2::text[]) AS j (name) JOIN rates AS r ON r.name = j.name), \
         (SELECT COALESCE(json_agg(json_build_array(l.id, l.grant_id, l.item, l.prim, l.vendor, l.policy, l.state, \
          l.resolves, l.created, l.expires, c.id, c.state, c.version, c.expires, c.vendor_expires, \
          COALESCE(encode(c.sealed, 'hex'), ''))), '[]')::text \
          FROM UNNEST($3::text[], $4::bigint[], $5::text[]) AS j (grant_id, item, prim) \
          JOIN leases AS l ON l.grant_id = j.grant_id AND l.item = j.item AND l.prim = j.prim \
          AND l.state IN ('pending', 'active') JOIN credentials AS c ON c.id = l.credential), \
         (SELECT COALESCE(json_agg(json_build_array(c.grant_id, c.item, c.id, c.version, c.expires, c.vendor_expires, \
          COALESCE(encode(c.sealed, 'hex'), '')) ORDER BY c.id), '[]')::text \
          FROM (SELECT DISTINCT u.grant_id, u.item FROM UNNEST($3::text[], $4::bigint[]) AS u (grant_id, item)) AS j \
          JOIN credentials AS c ON c.grant_id = j.grant_id AND c.item = j.item AND c.state = 'active' \
          AND c.prim IS NULL), \
         (SELECT COALESCE(json_agg(json_build_array(k.policy, k.live)), '[]')::text \
          FROM UNNEST($6::text[]) AS j (policy) JOIN lease_counters AS k ON k.policy = j.policy), \
         (SELECT COALESCE(json_agg(t.id), '[]')::text \
          FROM UNNEST($7::text[]) AS j (id) JOIN revoked_tokens AS t ON t.id = j.id), \
         (SELECT COALESCE(json_agg(json_build_array(n.holder, n.nonce)), '[]')::text \
          FROM UNNEST($8::text[], $9::text[]) AS j (holder, nonce) \
          JOIN nonces AS n ON n.holder = j.holder AND n.nonce = j.nonce)",
};

/// Set: the columns of leases.
pub(super) const INSERT_LEASES: Text = Text {
    sqlite: "INSERT INTO leases (id, grant_id, item, prim, vendor, policy, credential, state, resolves, created, expires) \
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7, \
         value ->> 8, value ->> 9, value ->> 10 FROM json_each($1)",
    postgres: "INSERT INTO leases (id, grant_id, item, prim, vendor, policy, credential, state, resolves, created, \
         expires) SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], \
         $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[])",
};

/// Set: lease, state.
pub(super) const END_LEASES: Text = Text {
    sqlite: "UPDATE leases SET state = j.state FROM (SELECT value ->> 0 AS id, value ->> 1 AS state \
         FROM json_each($1)) AS j WHERE leases.id = j.id",
    postgres: "UPDATE leases SET state = j.state FROM UNNEST($1::text[], $2::text[]) AS j (id, state) \
         WHERE leases.id = j.id",
};

/// Set: id, vendor, root, grant, item, scopes, prim, lease, state, attempt, expires, next look, version, created, name.
pub(super) const INSERT_INTENTS: Text = Text {
    sqlite: "INSERT INTO credentials (id, vendor, root, grant_id, item, scopes, prim, lease, state, attempt, expires, \
         next_at, version, created, name, incarnation) SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, \
         value ->> 4, value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, \
         value ->> 12, value ->> 13, value ->> 14, (SELECT incarnation FROM chain) FROM json_each($1)",
    postgres: "INSERT INTO credentials (id, vendor, root, grant_id, item, scopes, prim, lease, state, attempt, expires, \
         next_at, version, created, name, incarnation) SELECT u.*, (SELECT incarnation FROM chain) \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], \
         $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[]) AS u",
};

/// Set: credential, prim, lease.
pub(super) const ADOPT_CREDENTIALS: Text = Text {
    sqlite: "UPDATE credentials SET prim = j.prim, lease = j.lease FROM (SELECT value ->> 0 AS id, value ->> 1 AS prim, \
         value ->> 2 AS lease FROM json_each($1)) AS j WHERE credentials.id = j.id",
    postgres: "UPDATE credentials SET prim = j.prim, lease = j.lease \
         FROM UNNEST($1::text[], $2::text[], $3::text[]) AS j (id, prim, lease) WHERE credentials.id = j.id",
};

/// Set: credential, state, next look.
pub(super) const END_CREDENTIALS: Text = Text {
    sqlite: "UPDATE credentials SET state = j.state, next_at = j.next_at FROM (SELECT value ->> 0 AS id, \
         value ->> 1 AS state, value ->> 2 AS next_at FROM json_each($1)) AS j WHERE credentials.id = j.id",
    postgres: "UPDATE credentials SET state = j.state, next_at = j.next_at \
         FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS j (id, state, next_at) WHERE credentials.id = j.id",
};

/// Sets: names; ids at the vendor. Then the vendor. Answers the credentials that a listed key may belong to,
/// and whether this incarnation meant to make each.
pub(super) const CLAIMANTS: Text = Text {
    sqlite: "SELECT c.id, c.state, c.name, c.vendor_key_id, c.root, CASE WHEN c.incarnation = k.incarnation THEN 1 ELSE 0 END \
         FROM chain AS k, credentials AS c WHERE c.vendor = $3 AND c.name IN (SELECT value ->> 0 FROM json_each($1)) \
         UNION SELECT c.id, c.state, c.name, c.vendor_key_id, c.root, CASE WHEN c.incarnation = k.incarnation THEN 1 ELSE 0 END \
         FROM chain AS k, credentials AS c WHERE c.vendor = $3 \
         AND c.vendor_key_id IN (SELECT value ->> 0 FROM json_each($2))",
    postgres: "SELECT c.id, c.state, c.name, c.vendor_key_id, c.root, \
         CASE WHEN c.incarnation = k.incarnation THEN 1::bigint ELSE 0::bigint END \
         FROM chain AS k, credentials AS c WHERE c.vendor = $3 AND c.name = ANY ($1::text[]) \
         UNION SELECT c.id, c.state, c.name, c.vendor_key_id, c.root, \
         CASE WHEN c.incarnation = k.incarnation THEN 1::bigint ELSE 0::bigint END \
         FROM chain AS k, credentials AS c WHERE c.vendor = $3 AND c.vendor_key_id = ANY ($2::text[])",
};

/// Set: leases. Then the state they get. Ends those that live; answers each with its policy and credential.
pub(super) const END_LIVE_LEASES: Text = Text {
    sqlite: "UPDATE leases SET state = $2 WHERE id IN (SELECT value ->> 0 FROM json_each($1)) \
         AND state IN ('pending', 'active') RETURNING id, grant_id, vendor, policy, credential",
    postgres: "UPDATE leases SET state = $2 WHERE id = ANY ($1::text[]) \
         AND state IN ('pending', 'active') RETURNING id, grant_id, vendor, policy, credential",
};

/// Set: credentials. Then the time. Has those ended that are alive or being made; answers them.
pub(super) const END_LIVE_CREDENTIALS: Text = Text {
    sqlite: "UPDATE credentials SET state = CASE state WHEN 'active' THEN 'revoking' ELSE 'probe' END, next_at = $2, \
         attempt = 0 WHERE id IN (SELECT value ->> 0 FROM json_each($1)) AND state IN ('intent', 'active') RETURNING id",
    postgres: "UPDATE credentials SET state = CASE state WHEN 'active' THEN 'revoking' ELSE 'probe' END, next_at = $2, \
         attempt = 0 WHERE id = ANY ($1::text[]) AND state IN ('intent', 'active') RETURNING id",
};
