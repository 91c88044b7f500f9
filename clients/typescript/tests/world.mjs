// The instance the tests run against: `DEKEYS_DEV` is a file with the first line of `dekeys serve --dev --json`.
import { readFileSync } from "node:fs";

import { x402Client } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPayment } from "@x402/fetch";
import { Dekeys, KeyFile, readGrant } from "dekeys";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

export const REFERENCE = "dk://demo/echo:read";
export const dev = JSON.parse(readFileSync(process.env.DEKEYS_DEV, "utf8").split("\n")[0]);
export const holder = KeyFile.generate();
export const agent = agentOf(dev.url);

export function agentOf(url) {
  return new Dekeys({ url, key: holder });
}

export function newPrim(options = {}) {
  return new Dekeys({ url: dev.url, keyFile: dev.prim.key_file, name: dev.prim.name, ...options });
}

/** Buys with the official client, from a new wallet. */
export const buy = () => buyAt(dev.url);

export async function buyAt(url) {
  const account = privateKeyToAccount(generatePrivateKey());
  const pay = wrapFetchWithPayment(fetch, new x402Client().register("eip155:*", new ExactEvmScheme(account)));
  const body = JSON.stringify({ reference: REFERENCE, ttl: "15m", public_key: holder.public });
  const answer = await pay(`${url}/v1/grants`, { method: "POST", headers: { "content-type": "application/json" }, body });
  if (answer.status !== 201) throw new Error(await answer.text());
  return readGrant(await answer.json());
}

/** Sees every request that goes out while `work` runs. */
export async function seen(work) {
  const real = globalThis.fetch;
  const requests = [];
  globalThis.fetch = async (input, init) => {
    const answer = await real(input, init);
    requests.push({ path: new URL(input).pathname, headers: new Headers(init?.headers), answer: answer.clone() });
    return answer;
  };
  try {
    await work();
  } finally {
    globalThis.fetch = real;
  }
  return requests;
}
