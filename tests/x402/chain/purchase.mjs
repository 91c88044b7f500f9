// Buying over HTTP, step by step: what an attacker has in hand. Payments are signed by the official client.
import { generateKeyPairSync } from "node:crypto";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm";

export const READ = "dk://demo/echo:read";
// The same under a limit for a payer and day: four of them.
export const LIMITED = "dk://demo/echo:write";
export const PRICE = 11_000n;

// A request for a grant, for a holder of its own whose key nobody keeps.
export function ask(reference = READ) {
  const { x } = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
  return JSON.stringify({ reference, ttl: "30m", public_key: `ed25519:${x}` });
}

// Sends it; the answer, read. A connection that breaks is status 0.
export async function post(url, body, payment) {
  const headers = { "content-type": "application/json", ...(payment ? { "payment-signature": payment } : {}) };
  let answer;
  try {
    answer = await fetch(`${url}/v1/grants`, { method: "POST", headers, body });
    return { status: answer.status, headers: answer.headers, json: await answer.json() };
  } catch {
    return { status: 0, headers: new Headers(), json: {} };
  }
}

// What is asked for it, and a payment of it: `{header, payload}`.
export async function sign(url, body, account) {
  const asked = await post(url, body);
  if (asked.status !== 402) throw new Error(`asked for a price, and got ${asked.status} ${JSON.stringify(asked.json)}`);
  const client = new x402Client().register("eip155:*", new ExactEvmScheme(account));
  const over = new x402HTTPClient(client);
  const required = over.getPaymentRequiredResponse((name) => asked.headers.get(name), asked.json);
  const payload = await client.createPaymentPayload(required);
  return { header: over.encodePaymentSignatureHeader(payload)["PAYMENT-SIGNATURE"], payload };
}

// Buys once.
export async function buy(url, account, body = ask()) {
  const { header, payload } = await sign(url, body, account);
  return { ...(await post(url, body, header)), header, payload, body };
}

// Whether an answer has anything in it that gives access.
export function gives(answer) {
  return typeof answer.json.token === "string";
}

export function told(answer) {
  return `${answer.status} ${answer.json?.code ?? answer.json?.state ?? ""}`.trim();
}
