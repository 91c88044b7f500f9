// A key that dies at its vendor before its time: reported, replaced, and the request sent once more. On an instance and a
// vendor of their own, since the vendor's root credential is needed to kill a key there.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { Dekeys, Unsupported } from "dekeys";

import { agentOf, buyAt, REFERENCE } from "./world.mjs";

const running = [];
let [dev, vendor, agent, prim] = [];

/** A program that tells on its first line where it is. */
async function started(...words) {
  const env = { ...process.env, TMPDIR: mkdtempSync(join(tmpdir(), "dekeys-")) };
  const child = spawn(process.env.DEKEYS_BIN, [...words, "--json"], { env, stdio: ["ignore", "pipe", "ignore"] });
  running.push(child);
  for await (const line of createInterface(child.stdout)) return JSON.parse(line);
}

before(async () => {
  [dev, vendor] = await Promise.all([started("serve", "--dev", "--port", "0"), started("vendor", "mock", "demo")]);
  const operator = new Dekeys({ url: dev.url, keyFile: dev.operator.key_file });
  await operator.call("PUT", "/v1/vendors/demo/root-credential", { fields: vendor.root_fields, base_url: vendor.url });
  agent = agentOf(dev.url);
  prim = new Dekeys({ url: dev.url, keyFile: dev.prim.key_file });
});
after(() => running.forEach((child) => child.kill()));

/** Somebody deletes every key in the vendor's own console. */
async function killAll() {
  const headers = { authorization: `Bearer ${vendor.root_fields.key}` };
  const { data } = await (await fetch(new URL("/keys", vendor.url), { headers })).json();
  assert.ok(data.length > 0);
  for (const { id } of data) await fetch(new URL(`/keys/${id}`, vendor.url), { method: "DELETE", headers });
}

test("a dead key is reported and replaced within one request", async () => {
  const grant = await buyAt(dev.url);
  const token = await agent.pin(grant.token, "prim-echo");
  const dead = await prim.resolve(REFERENCE, token);
  const call = prim.fetch(REFERENCE, token);
  assert.equal((await call("/echo")).status, 200);
  await killAll();
  const answer = await call("/echo");
  try {
    await prim.report(dead);
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    // Said once as a warning; the vendor's answer is handed on.
    assert.equal(answer.status, 401);
    return;
  }
  assert.deepEqual([answer.status, await answer.json()], [200, { hello: "agent" }]);
  assert.ok(!(await prim.resolve(REFERENCE, token)).secret.equals(dead.secret));
});

test("a refusal that is not the key's is handed on", async () => {
  const token = await agent.pin((await buyAt(dev.url)).token, "prim-echo");
  const key = await prim.resolve(REFERENCE, token);
  const call = prim.fetch(REFERENCE, token);
  // The vendor's list of keys wants another credential than this one.
  assert.ok([401, 403].includes((await call("/keys")).status));
  assert.equal((await call("/echo")).status, 200);
  assert.ok((await prim.resolve(REFERENCE, token)).secret.equals(key.secret));
});
