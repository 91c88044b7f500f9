// An agent: it buys a grant with the official x402 client, pins its token to a prim, and lets the prim act.
//   DEKEYS_ADDR=http://127.0.0.1:8402 DEKEYS_KEY_FILE=agent.key PRIM_URL=http://127.0.0.1:8500 node agent.mjs
// Needs @x402/core, @x402/evm, @x402/fetch and viem. The wallet is new: in a test instance no money moves.
import { x402Client } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPayment } from "@x402/fetch";
import { Dekeys, readGrant } from "dekeys";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const { DEKEYS_ADDR = "http://127.0.0.1:8402", DEKEYS_KEY_FILE, PRIM_URL = "http://127.0.0.1:8500" } = process.env;
const dekeys = new Dekeys({ url: DEKEYS_ADDR, keyFile: DEKEYS_KEY_FILE });

const wallet = privateKeyToAccount(generatePrivateKey());
const pay = wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", new ExactEvmScheme(wallet)));
const bought = await pay(`${DEKEYS_ADDR}/v1/grants`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ reference: "dk://demo/echo:read", ttl: "15m", public_key: dekeys.publicKey }),
});
if (bought.status !== 201) throw new Error(await bought.text());
const grant = readGrant(await bought.json());
console.error(`bought ${grant.id}, receipt ${grant.receipt}`);

// The prim gets this token and no other: it is good for this prim alone, for five minutes.
const token = await dekeys.pin(await dekeys.token(grant.id), "prim-echo");
const answer = await fetch(`${PRIM_URL}/echo`, { headers: { authorization: `Bearer ${token.expose()}` } });
console.log(answer.status, JSON.stringify(await answer.json()));
await dekeys.revokeGrant(grant.id, "done");
