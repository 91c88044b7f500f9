// One day of a prim and an agent under another runtime: bun bun.mjs
import assert from "node:assert/strict";

import { agent, buy, newPrim, REFERENCE } from "./world.mjs";

const grant = await buy();
const prim = newPrim({ sessions: true });
const token = await agent.pin(await agent.token(grant.id), "prim-echo");
const key = await prim.resolve(REFERENCE, token);
assert.equal(await prim.resolve(REFERENCE, token), key);
assert.deepEqual(await (await prim.fetch(REFERENCE, token)("/echo")).json(), { hello: "agent" });
assert.ok(!Bun.inspect(key).includes(key.secret.expose()) && !Bun.inspect(token).includes(token.expose()));
await agent.verify(token, REFERENCE, { prim: "prim-echo" });
await agent.revokeGrant(grant.id);
console.log(`resolved and used under bun ${Bun.version}`);
