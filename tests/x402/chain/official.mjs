// The official clients, unmodified: each a program of its own that is told an address, a body and a wallet's key.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { PRICE, ask } from "./purchase.mjs";

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
