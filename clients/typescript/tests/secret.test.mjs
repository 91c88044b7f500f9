import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";

import { Dekeys, KeyFile, KeyFileError, Resolved, Secret } from "dekeys";

const LINE = "dekeys-key-1 ed25519 nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PUBLIC = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const show = {
  String,
  json: JSON.stringify,
  inspect: (value) => inspect(value, { showHidden: true, depth: null, getters: true }),
  template: (value) => `${value}`,
  spread: (value) => JSON.stringify({ ...value }),
  clone: (value) => inspect(structuredClone(value), { showHidden: true }),
};

function resolved(fields, places) {
  const kept = new Map(Object.entries(fields).map(([name, value]) => [name, new Secret(value)]));
  const expires = new Date();
  return new Resolved({ reference: "dk://a/b:c", leaseId: "lea_1", expires, version: 1, fields: kept, baseUrl: "http://127.0.0.1:1/", places, event: "evt_1", ends: 0 });
}

for (const [how, print] of Object.entries(show)) {
  test(`a secret, a key and a client do not show themselves: ${how}`, () => {
    const key = KeyFile.parse(LINE);
    const values = [new Secret("sk-canary"), [new Secret("sk-canary")], resolved({ api_key: "sk-canary" }, []), key, new Dekeys({ url: "http://127.0.0.1:1", key })];
    for (const value of values) {
      let text = "";
      try {
        text = print(value);
      } catch (error) {
        if (how !== "clone") throw error;
      }
      assert.ok(!text.includes("sk-canary") && !text.includes("nWGxne"), text);
    }
  });
}

test("keys of several fields and places are put where the vendor wants them", () => {
  const key = resolved({ id: "{secret}", secret: "s:1" }, [
    { header: "X-Key", format: "{id}" },
    { query: "k", format: "{secret}" },
    { basic_user: "{id}", basic_password: "{secret}" },
  ]);
  assert.deepEqual(key.headers(), { "X-Key": "{secret}", Authorization: "Basic e3NlY3JldH06czox" });
  assert.deepEqual(key.params(), { k: "s:1" });
  assert.throws(() => key.secret, /several fields/);
  assert.equal(key.url("/echo"), "http://127.0.0.1:1/echo");
  const dollar = resolved({ api_key: "$&$1" }, [{ header: "A", format: "Bearer {secret}" }]);
  assert.deepEqual(dollar.headers(), { A: "Bearer $&$1" });
});

test("secrets compare by their text", () => {
  assert.ok(new Secret("a").equals(new Secret("a")));
  assert.ok(!new Secret("a").equals(new Secret("b")) && !new Secret("a").equals(new Secret("ab")));
});

test("the file of `dekeys key new` is read", () => {
  const path = join(mkdtempSync(join(tmpdir(), "dekeys-")), "agent.key");
  const made = execFileSync(process.env.DEKEYS_BIN, ["key", "new", path], { encoding: "utf8" });
  assert.equal(KeyFile.load(path).public, made.trim());
});

test("comments and line ends are no matter, and PKCS#8 is read", () => {
  assert.equal(KeyFile.parse(`\r\n# ada\r\n\r\n  ${LINE}  \r\n# second\r\n`).public, PUBLIC);
  const pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
  assert.equal(KeyFile.parse(pem).public, PUBLIC);
});

test("other files are refused without quoting them", () => {
  const others = ["", "# only", `${LINE}\n${LINE}`, LINE.replace("key-1", "key-2"), `${LINE}A`, `${LINE.slice(0, -1)}B`, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"];
  for (const text of others) {
    assert.throws(() => KeyFile.parse(text), (error) => error instanceof KeyFileError && !error.message.includes("nWGxne"));
  }
});

test("a file that others can read is warned about", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "dekeys-")), "loose.key");
  writeFileSync(path, LINE);
  chmodSync(path, 0o644);
  const warned = new Promise((resolve) => process.once("warning", resolve));
  KeyFile.load(path);
  assert.match((await warned).message, /chmod 600/);
});
