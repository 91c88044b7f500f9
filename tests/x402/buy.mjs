// Buys with the unmodified TypeScript client: node buy.mjs URL BODY
// Pays from the key in DEKEYS_X402_KEY, or from a new wallet. Prints one JSON line {status, body, paymentResponse}.
import { x402Client } from "@x402/core/client";
import { ExactEvmScheme } from "@x402/evm";
import { decodePaymentResponseHeader, wrapFetchWithPayment } from "@x402/fetch";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

const [url, body] = process.argv.slice(2);
const account = privateKeyToAccount(process.env.DEKEYS_X402_KEY ?? generatePrivateKey());
const client = new x402Client().register("eip155:*", new ExactEvmScheme(account));
const buy = wrapFetchWithPayment(fetch, client);

const answer = await buy(url, { method: "POST", headers: { "content-type": "application/json" }, body });
const text = await answer.text();
const header = answer.headers.get("PAYMENT-RESPONSE");
console.log(
  JSON.stringify({
    status: answer.status,
    body: parsed(text),
    paymentResponse: header ? decodePaymentResponseHeader(header) : null,
  }),
);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
