// The official clients, unmodified: each a program of its own that is told an address, a body and a wallet's key.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { decodePaymentRequiredHeader } from "@x402/core/http";
import {
  extractOffersFromPaymentRequired,
  extractReceiptFromResponse,
  verifyOfferSignatureJWS,
  verifyReceiptSignatureJWS,
} from "@x402/extensions/offer-receipt";
import { createSIWxClientHook } from "@x402/extensions/sign-in-with-x";
import { PRICE, ask, buy, gives, post, told } from "./purchase.mjs";

const run = promisify(execFile);

// Buys twice, first as a stranger who pays before anything is made, then as somebody who has paid: 201, a token and a
// settled payment each time, and both prices gone from the wallet.
export async function buysTwice(scene, command) {
  const account = await scene.payer();
  const before = await scene.chain.balance(account.address);
  for (const at of [0, 1]) {
    const [program, ...args] = [...command, `${scene.url(at)}/v1/grants`, ask()];
    const { stdout } = await run(program, args, { env: { ...process.env, DEKEYS_X402_KEY: account.key } });
    const { status, body, paymentResponse } = JSON.parse(stdout.trim().split("\n").at(-1));
    const good = status === 201 && body.token && paymentResponse?.success === true && paymentResponse.transaction;
    if (!good) throw new Error(`no paid grant: ${stdout}`);
  }
  const paid = before - (await scene.chain.balance(account.address));
  if (paid !== 2n * PRICE) throw new Error(`${paid} was taken, and two cost ${2n * PRICE}`);
  return `2 grants for ${paid}`;
}

// What the official package checks: the signed offer of a 402, the receipt of what was paid, and a wallet that signs in at
// a 402 and has its grant back without paying.
export async function extensions(scene) {
  const want = (holds, what) => {
    if (!holds) throw new Error(what);
  };
  const account = await scene.payer();
  const bought = await buy(scene.url(), account);
  want(bought.status === 201, told(bought));
  const receipt = await verifyReceiptSignatureJWS(extractReceiptFromResponse(bought));
  want(receipt.payer.toLowerCase() === account.address.toLowerCase(), `a receipt for ${receipt.payer}`);
  const asked = await post(scene.url(), bought.body);
  const required = decodePaymentRequiredHeader(asked.headers.get("payment-required"));
  const offer = await verifyOfferSignatureJWS(extractOffersFromPaymentRequired(required)[0]);
  want(offer.amount === String(PRICE) && offer.resourceUrl === receipt.resourceUrl, "another offer");
  const hook = createSIWxClientHook(account);
  const signed = await hook({ paymentRequired: required, requestUrl: `${scene.url()}/v1/grants` });
  want(signed, "the 402 has no challenge that the client takes");
  const send = () =>
    fetch(`${scene.url()}/v1/grants`, {
      method: "POST",
      headers: { "content-type": "application/json", ...signed.headers },
      body: bought.body,
    });
  const answer = await send();
  const back = { status: answer.status, json: await answer.json() };
  want(back.status === 200 && gives(back) && back.json.id === bought.json.id, `signed in: ${told(back)}`);
  const again = await send();
  want(again.status === 401, `the same sign-in again: ${again.status}`);
  const paid = (await scene.chain.payments()).filter(({ payer }) => payer === account.address.toLowerCase());
  want(paid.length === 1, `${paid.length} transfers`);
  return "an offer, a receipt, and a grant for a sign-in";
}
