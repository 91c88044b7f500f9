// Narrowing and verifying, with tokens of the server and with hostile ones.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { narrow, pin, read, Secret, TokenRefused, verify } from "dekeys";

// Not part of what users import, but what the tests bend.
const inside = (name) => import(new URL(name, import.meta.resolve("dekeys")));
const [{ biscuit }, profile] = await Promise.all([inside("./biscuit.js"), inside("./profile.js")]);
const library = await biscuit();
const { agent, buy, REFERENCE } = await import("./world.mjs");

let grant;
let keys;
before(async () => {
  grant = await buy();
  keys = await agent.keys();
});

async function refused(reason, work) {
  await assert.rejects(async () => work(), (error) => {
    assert.ok(error instanceof TokenRefused, String(error));
    assert.equal(error.reason, reason, error.message);
    return true;
  });
}

test("a pinned token says whose it is and serves nobody else", async () => {
  const pinned = await agent.pin(grant.token, "prim-echo");
  const claims = await agent.verify(pinned, REFERENCE, { prim: "prim-echo" });
  assert.deepEqual([claims.pinned, claims.grant, claims.rights], ["prim-echo", grant.id, [REFERENCE]]);
  assert.ok(claims.pinnedUntil - Date.now() <= 300_000);
  await refused("narrowed", () => agent.verify(pinned, REFERENCE, { prim: "prim-other" }));
  await refused("narrowed", () => agent.verify(pinned, REFERENCE));
  await refused("not_granted", () => agent.verify(pinned, "dk://demo/echo:write", { prim: "prim-echo" }));
});

test("a narrower token cannot be widened", async () => {
  const narrower = await narrow(grant.token, keys, { scopes: ["echo:write", "other:read"], uses: ["resolve"], ttl: 60 });
  await refused("narrowed", () => verify(narrower, keys, REFERENCE, { prim: "prim-echo" }));
  const again = await narrow(narrower, keys, { scopes: ["echo:read"] });
  await refused("narrowed", () => verify(again, keys, REFERENCE, { prim: "prim-echo" }));
  assert.equal(read(again).revocationIds.length, 3);
});

test("time, method and path are checked", async () => {
  const narrower = await narrow(grant.token, keys, { methods: ["GET"], pathPrefixes: ["/echo", "/v1/"], ttl: 30 });
  const asked = { use: "forward", method: "GET", path: "/echo/1" };
  assert.equal((await verify(narrower, keys, REFERENCE, asked)).pinned, undefined);
  assert.equal((await verify(narrower, keys, REFERENCE, { ...asked, path: "/v1/x" })).grant, grant.id);
  await refused("narrowed", () => verify(narrower, keys, REFERENCE, { ...asked, path: "/keys" }));
  await refused("profile", () => narrow(grant.token, keys, { pathPrefixes: [..."abcde"] }));
  await refused("narrowed", () => verify(narrower, keys, REFERENCE, { ...asked, method: "POST" }));
  await refused("expired", () => verify(narrower, keys, REFERENCE, { ...asked, now: new Date(Date.now() + 60_000) }));
  await refused("not_yet", () => verify(narrower, keys, REFERENCE, { ...asked, now: new Date(Date.now() - 3_600_000) }));
});

test("a pin of more than five minutes is not made", () => {
  for (const ttl of [301, 0, Number.NaN]) assert.throws(() => pin(grant.token, keys, "prim-echo", { ttl }), RangeError);
});

test("names that look like Datalog stay words", async () => {
  const hostile = 'x"), allow if true; check if ask_prim("';
  const narrower = await narrow(grant.token, keys, { prims: [hostile] });
  await refused("narrowed", () => verify(narrower, keys, REFERENCE, { prim: "prim-echo" }));
  assert.equal((await verify(narrower, keys, REFERENCE, { prim: hostile })).grant, grant.id);
});

test("any changed bit is refused", async () => {
  const [prefix, data] = profile.decode(grant.token.expose());
  for (let at = 0; at < data.length; at += 3) {
    const bent = Uint8Array.from(data);
    bent[at] ^= 0x10;
    await assert.rejects(verify(profile.encode(prefix, bent), keys, REFERENCE, { prim: "prim-echo" }), TokenRefused);
  }
  for (let end = 0; end < data.length; end += 7) {
    await assert.rejects(verify(profile.encode(prefix, data.slice(0, end)), keys, REFERENCE, {}), TokenRefused);
  }
});

test("tokens of another instance or root are refused", async () => {
  const swapped = { instance: keys.instance, roots: new Map([[1, keys.roots.get(2)], [2, keys.roots.get(1)]]) };
  await refused("signature", () => verify(grant.token, swapped, REFERENCE, { prim: "prim-echo" }));
  await refused("unknown_root", () => verify(grant.token, { ...keys, roots: new Map([[9, keys.roots.get(1)]]) }, REFERENCE));
  await refused("foreign_instance", () => verify(grant.token, { ...keys, instance: "ins_other" }, REFERENCE));
});

test("what is no token is refused, and size comes first", async () => {
  for (const text of ["", "x", "dkt_test_", "dkt_test_*", "dkt_prod_YQ", "YWJj", "dkt_test_YWJjZB", "dkt_test_YW Jj"]) {
    await refused("malformed", () => read(text));
  }
  await refused("too_large", () => read(`dkt_test_${"*".repeat(12_000)}`));
});

/** Makes tokens as the server does, to bend them. */
const pair = new library.KeyPair(library.SignatureAlgorithm.Ed25519);
function mint(blocks = [], authority = "") {
  const at = (ms) => new Date(Date.now() + ms).toISOString().replace(/\.\d+Z/, "Z");
  const end = at(600_000);
  const builder = new library.BiscuitBuilder();
  builder.setRootKeyId(1);
  builder.addCode(`instance("ins_1"); grant("grt_1"); principal("pri_1"); expires(${end}); right("demo", "echo:read");
    check if time($query), $query >= ${at(-30_000)}, $query < ${end};
    check if ask_use($query), {"forward", "manage", "resolve"}.contains($query); ${authority}`);
  let token = builder.build(pair.getPrivateKey());
  for (const code of blocks) {
    const block = new library.BlockBuilder();
    block.addCode(code);
    token = token.appendBlock(block);
  }
  return new Secret(profile.encode("dkt_test_", token.toBytes()));
}
const raw = new Uint8Array(32);
pair.getPublicKey().toBytes(raw);
const mintKeys = { instance: "ins_1", roots: new Map([[1, `ed25519:${Buffer.from(raw).toString("base64url")}`]]) };

const FAIR = [
  'check if ask_prim("p")',
  'check if ask_prim($p), {"p", "q"}.contains($p)',
  'check if ask_prim($p), $p == "p" or ask_prim("q")',
  'check if ask_path($p), $p.starts_with("/v1/"), $p.length() < 64, !$p.contains("..")',
  "check if time($t), $t <= 2100-01-01T00:00:00Z",
  'check if ask_vendor($v), ask_scope($s), $v != "x", $s.ends_with(":read")',
];
const HOSTILE = [
  'right("demo", "echo:write")',
  'right("demo", "echo:write") <- time($t)',
  'check if right("demo", "echo:read")',
  "check if time($t), $t > 2000-01-01T00:00:00Z",
  "check if time($t), $t >= 2000-01-01T00:00:00Z",
  "check if time(2020-01-01T00:00:00Z)",
  'check if ask_path($p), $p.matches("(a+)+$")',
  "check if ask_path($p), $p.length() + 1 > 2",
  'check if ask_path($p), {"x", "y"}.any($q -> $q == $p)',
  'check if ask_path($p), $p == "a" || $p == "b"',
  'check all ask_prim($p), $p == "p"',
  'reject if ask_prim("p")',
  "check if ask_prim($p) trusting previous",
  'check if ask_prim("a", "b")',
  "check if ask_prim(1)",
  'check if ask_prim($p), $p.type() == "string"',
  "check if ask_prim($p), $p.extern::f()",
  'check if ask_prim("p"), ask_use("resolve"), ask_vendor("demo")',
  "check if true; ".repeat(9),
  `check if true${" or true".repeat(4)}`,
  `check if ${Array(11).fill("1 < 2").join(", ")}`,
  "check if ask_prim($p), $p",
  "check if hex:00 == hex:00",
  "check if null == null",
  "check if ask_prim($p), {1}.contains(1)",
  "check if ask_prim($a), ask_use($a)",
];

for (const block of FAIR) {
  test(`a block of official libraries passes if it keeps to the profile: ${block}`, async () => {
    const claims = await verify(mint([block]), mintKeys, REFERENCE, { use: "forward", prim: "p", path: "/v1/x" });
    assert.equal(claims.instance, "ins_1");
  });
}
for (const block of HOSTILE) {
  test(`a hostile block is refused before Datalog: ${block.slice(0, 70)}`, async () => {
    await refused("profile", () => verify(mint([block]), mintKeys, REFERENCE, { use: "forward", prim: "p", path: "/v1/x" }));
  });
}

test("too many blocks and strange authorities are refused", async () => {
  await refused("profile", () => read(mint(Array(5).fill("check if true"))));
  for (const extra of ["admin(true);", 'grant("grt_2");', "check if true;", 'right("a");', 'check if ask_use("resolve");', 'constructor("x");']) {
    await refused("profile", () => read(mint([], extra)));
  }
});

test("a final token is not narrowed", async () => {
  const [prefix, data] = profile.decode(mint().expose());
  const sealed = library.Biscuit.fromBytes(data, pair.getPublicKey()).sealToken().toBytes();
  await refused("narrowed", () => narrow(profile.encode(prefix, sealed), mintKeys, { ttl: 5 }));
});

test("the samples of biscuit are refused as the server refuses them", async (context) => {
  const folder = process.env.DEKEYS_VECTORS;
  if (!folder) return context.skip("DEKEYS_VECTORS is not set");
  const listed = readFileSync(join(process.env.DEKEYS_SOURCES, "tests/it/token_profile_refusals.txt"), "utf8").trim().split("\n");
  const files = readdirSync(join(folder, "biscuit"), { recursive: true }).filter((name) => name.endsWith(".bc"));
  assert.ok(listed.length > 30);
  for (const line of listed) {
    const [name, why] = line.split(/: (.*)/);
    const data = readFileSync(join(folder, "biscuit", files.find((file) => file.endsWith(name))));
    if (why.includes("breaks the profile")) {
      const block = / block (\d)/.exec(why)[1];
      assert.throws(() => profile.walk(data), (error) => error.reason === "profile" && error.message.includes(` block ${block} `), name);
    } else {
      profile.walk(data);
    }
  }
});
