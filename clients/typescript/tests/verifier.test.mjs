// The revocation feed: what is believed of it, and a verifier that follows it.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { FeedRefused, KeyFile, TokenRefused, Unsupported, Verifier } from "dekeys";

import { agent, buy, newPrim, REFERENCE } from "./world.mjs";

const LOG = KeyFile.generate();
const raw = Buffer.from(LOG.public.slice(8), "base64url");
const KEYS = { instance: "ins_1", roots: new Map([[1, LOG.public]]), log: `x+0+${Buffer.concat([Buffer.from([1]), raw]).toString("base64")}` };
const digestOf = (body) => createHash("sha256").update(body).digest("base64url");

function statement(body, { key = LOG, typ = "dekeys-revocations+jwt", ...other } = {}) {
  const claims = { iss: "ins_1", now: Date.now(), digest: digestOf(body), ...other };
  const signed = [{ alg: "EdDSA", kid: "k", typ }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${Buffer.from(key.sign(Buffer.from(signed))).toString("base64url")}`;
}

function page(after = 0, next = 0, ended = [], other = {}) {
  const data = ended.map(([kind, id]) => ({ n: 1, kind, id, at: "2026-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z" }));
  return Buffer.from(JSON.stringify({ object: "revocations", instance: "ins_1", incarnation: "inc_1", after, next, has_more: false, data, ...other }));
}

test("what ended is told once and remembered", () => {
  const told = [];
  const verifier = new Verifier(KEYS, { onEnd: (kind, id) => told.push(`${kind} ${id}`) });
  assert.equal(verifier.age, undefined);
  assert.deepEqual(verifier.ask(), { path: "/v1/revocations?after=0", headers: {} });
  const first = page(0, 7, [["lease", "lea_1"], ["grant", "grt_1"]]);
  assert.equal(verifier.take(200, first, statement(first)), false);
  verifier.take(200, first, statement(first));
  assert.deepEqual(told, ["lease lea_1", "grant grt_1"]);
  const empty = page(7, 7);
  verifier.take(200, empty, statement(empty, { now: Date.now() - 4_000 }));
  assert.deepEqual(verifier.ask(), { path: "/v1/revocations?after=7", headers: { "if-none-match": `"${digestOf(empty)}"` } });
  verifier.take(304, Buffer.alloc(0), statement(empty));
  assert.ok(verifier.age < 2_000 && verifier.hasEndedLease("lea_1") && !verifier.hasEndedLease("lea_2"));
});

test("a page with more behind it is not all that is known, and another incarnation is read anew", () => {
  const verifier = new Verifier(KEYS);
  const part = page(0, 3, [["lease", "lea_1"]], { has_more: true });
  assert.equal(verifier.take(200, part, statement(part)), true);
  assert.equal(verifier.age, undefined);
  const other = page(3, 3, [], { incarnation: "inc_2" });
  assert.equal(verifier.take(200, other, statement(other)), true);
  assert.ok(verifier.ask().path.endsWith("after=0") && verifier.hasEndedLease("lea_1"));
});

test("what the log did not say is not believed", () => {
  const good = page();
  const cases = [
    [200, good, ""],
    [200, good, "a.b"],
    [200, good, "x".repeat(5000)],
    [200, good, statement(good, { key: KeyFile.generate() })],
    [200, good, statement(good, { iss: "ins_2" })],
    [200, good, statement(good, { typ: "other+jwt" })],
    [200, good, statement(good, { digest: 7 })],
    [200, Buffer.concat([good, Buffer.from(" ")]), statement(good)],
    ...["{}", "null", "<html>"].map((text) => [200, Buffer.from(text), statement(text)]),
    [200, page(0, 0, [], { instance: "ins_2" }), statement(page(0, 0, [], { instance: "ins_2" }))],
    [200, page(5, 9), statement(page(5, 9))],
    [304, Buffer.alloc(0), statement(good)],
  ];
  for (const [status, body, said] of cases) {
    const verifier = new Verifier(KEYS);
    assert.throws(() => verifier.take(status, body, said), FeedRefused);
    assert.equal(verifier.age, undefined);
  }
});

test("old knowledge and knowledge of the future is none", async () => {
  const good = page();
  for (const now of [Date.now() - 6_000, Date.now() + 60_000]) {
    const verifier = new Verifier(KEYS);
    verifier.take(200, good, statement(good, { now }));
    await assert.rejects(verifier.check("dkt_test_AAAA", REFERENCE), (error) => error instanceof TokenRefused && error.reason === "feed_stale");
  }
});

test("a verifier that follows sees a revocation, and the key is no longer handed out of memory", async (context) => {
  const prim = newPrim();
  let verifier;
  try {
    verifier = await prim.verifier({ look: 100 });
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    return context.skip(error.message);
  }
  const grant = await buy();
  const token = await agent.pin(grant.token, "prim-echo");
  assert.equal((await verifier.check(token, REFERENCE, { prim: "prim-echo" })).grant, grant.id);
  await prim.resolve(REFERENCE, token);
  await agent.revokeGrant(grant.id);
  const end = performance.now() + 20_000;
  for (;;) {
    const reason = await verifier.check(token, REFERENCE, { prim: "prim-echo" }).then(() => "", (error) => error.reason);
    if (reason === "revoked") break;
    assert.ok(performance.now() < end, "the feed did not bring it");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await assert.rejects(prim.resolve(REFERENCE, token));
  verifier.close();
});

test("a log's key is followed to the one that it names", () => {
  const known = { ...KEYS, log: "ins_x+42a265dc+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c" };
  const log = "ins_x+8557f863+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
  const endorsed = "FUnDBt6U0W6gnTTk0Algfu4ppNvXLMNwjxC8_0U-fA3apodh5lca5SACbty203xRP4RwR57tJ3Q-DXU5msa5Cw";
  const named = { public_key: log, from: "2025-11-20T19:51:07Z", endorsed };
  for (const logs of [[], [{ ...named, from: "2025-11-20T19:51:08Z" }], [{ ...named, endorsed: undefined }]]) {
    const verifier = new Verifier(known);
    verifier.renewKeys({ ...known, log, logs });
    assert.equal(verifier.keys, known);
  }
  const verifier = new Verifier(known);
  verifier.renewKeys({ ...known, log, logs: [named] });
  assert.equal(verifier.keys.log, log);
  verifier.renewKeys(known);
  assert.equal(verifier.keys.log, log);
});

test("keys of another instance are not taken", () => {
  const verifier = new Verifier(KEYS);
  verifier.renewKeys({ ...KEYS, instance: "ins_2" });
  assert.equal(verifier.keys, KEYS);
  verifier.renewKeys({ ...KEYS, roots: new Map([[2, LOG.public]]) });
  assert.ok(verifier.keys.roots.has(2));
  assert.throws(() => new Verifier({ ...KEYS, log: "x+y" }), TokenRefused);
});
