// What payers, strangers, facilitators and chains do to a seller. Each attack answers a line for the table, or throws.
import { parseSignature } from "viem";
import { TOKEN } from "./anvil.mjs";
import { end, until } from "./process.mjs";
import { LIMITED, PRICE, ask, buy, gives, post, sign, told } from "./purchase.mjs";

function want(holds, what) {
  if (!holds) throw new Error(what);
}

// A wallet that paid before: its keys are made before its money moves.
async function trusted(scene) {
  const account = await scene.payer();
  const first = await buy(scene.url(), account);
  want(first.status === 201, `the first purchase: ${told(first)}`);
  return account;
}

async function moved(scene, payload) {
  const { nonce } = payload.payload.authorization;
  return (await scene.chain.payments()).filter((payment) => payment.nonce === nonce).length;
}

function counted(answers) {
  const counts = {};
  for (const answer of answers) counts[told(answer)] = (counts[told(answer)] ?? 0) + 1;
  return Object.entries(counts).map(([what, count]) => `${count}× ${what}`).sort().join(", ");
}

// One payment, 64 times at once, at every server.
export async function atOnce(scene) {
  const all = [];
  for (let round = 0; round < scene.rounds; round += 1) {
    const account = round % 2 === 0 ? await scene.payer() : scene.regular;
    const body = ask();
    const { header, payload } = await sign(scene.url(), body, account);
    const answers = await Promise.all(Array.from({ length: 64 }, (_, at) => post(scene.url(at), body, header)));
    want(answers.filter(gives).length === 1, `${answers.filter(gives).length} tokens: ${counted(answers)}`);
    want((await moved(scene, payload)) === 1, "not one transfer");
    want(!answers.some(({ status }) => status === 402), `asked to pay again: ${counted(answers)}`);
    const first = answers.find(gives);
    want(answers.every(({ json }) => !json.id?.startsWith("grt_") || json.id === first.json.id), "two grants");
    all.push(...answers);
  }
  return counted(all);
}

// The wallet is emptied after the payment was found good.
export async function drained(scene) {
  const lines = [];
  for (const account of [await trusted(scene), await scene.payer()]) {
    scene.way.expect("settle", async (forward) => {
      const has = await scene.chain.balance(account.address);
      await scene.chain.send(account.address, "transfer", [scene.purse, has]);
      return forward();
    });
    const answer = await buy(scene.url(), account);
    want(!gives(answer), "a token for an empty wallet");
    want((await moved(scene, answer.payload)) === 0, "it was paid all the same");
    lines.push(answer);
  }
  return counted(lines);
}

// The payer cancels the authorization while it is being settled.
export async function cancelled(scene) {
  const account = await trusted(scene);
  scene.way.expect("settle", async (forward, { payload }) => {
    const { nonce } = payload.authorization;
    const domain = { name: "USDC", version: "2", chainId: 84532, verifyingContract: TOKEN };
    const types = { CancelAuthorization: [{ name: "authorizer", type: "address" }, { name: "nonce", type: "bytes32" }] };
    const message = { authorizer: account.address, nonce };
    const signed = await account.signTypedData({ domain, types, primaryType: "CancelAuthorization", message });
    const { r, s, v } = parseSignature(signed);
    await scene.chain.send(account.address, "cancelAuthorization", [account.address, nonce, Number(v), r, s]);
    return forward();
  });
  const answer = await buy(scene.url(), account);
  want(!gives(answer), "a token for a cancelled payment");
  return told(answer);
}

async function submit(scene, { payload }) {
  const { authorization: a, signature } = payload;
  const args = [a.from, a.to, BigInt(a.value), BigInt(a.validAfter), BigInt(a.validBefore), a.nonce, signature];
  return scene.chain.send(scene.purse, "transferWithAuthorization", args);
}

// An observer has the authorization in a block before the facilitator: when it is to settle, and when it verifies what
// dekeys has claimed.
export async function observerFirst(scene) {
  const account = await trusted(scene);
  const first = async (forward, payment) => {
    await submit(scene, payment);
    return forward();
  };
  const answers = [];
  for (const verb of ["settle", "verify"]) {
    if (verb === "verify") scene.way.expect("verify", (forward) => forward());
    scene.way.expect(verb, first);
    const answer = await buy(scene.url(), account);
    want((await moved(scene, answer.payload)) === 1, "it was not paid");
    await delivered(scene, answer);
    answers.push(answer);
  }
  return counted(answers);
}

// Whatever was answered at once, the grant is there in the end.
async function delivered(scene, answer) {
  want(answer.status === 201 || answer.status === 202 || answer.status === 0, `answered ${told(answer)}`);
  await until("the grant", async () => (await scene.payment(answer)).state === "settled");
}

// A stranger has what a settled transaction shows to everybody, and with it asks again.
export async function fromChain(scene) {
  const account = await trusted(scene);
  const bought = await buy(scene.url(), account);
  want(bought.status === 201, told(bought));
  const { transaction } = await scene.payment(bought);
  const seen = await scene.chain.calldata(transaction);
  const header = Buffer.from(JSON.stringify({ ...bought.payload, payload: seen })).toString("base64");
  const answers = [];
  for (const body of [bought.body, ask()]) answers.push(await post(scene.url(), body, header));
  want(!answers.some(gives), "a stranger has a token");
  return counted(answers);
}

// The facilitator cannot be reached, for a verification and for a settlement.
export async function down(scene) {
  const account = await trusted(scene);
  scene.way.expect("verify", async () => null);
  const before = await buy(scene.url(), account);
  want(before.status === 503, `no verification: ${told(before)}`);
  scene.way.expect("settle", async () => null);
  const during = await buy(scene.url(), account);
  want(during.status === 202 && !gives(during), `no settlement: ${told(during)}`);
  return counted([before, during]);
}

// Its answer is lost; then it is slow, and the buyer hangs up.
export async function lostAndSlow(scene) {
  const account = await trusted(scene);
  scene.way.expect("settle", async (forward) => {
    await forward();
    return null;
  });
  const lost = await buy(scene.url(), account);
  want((await moved(scene, lost.payload)) === 1, "it was not paid");
  await delivered(scene, lost);
  const body = ask();
  const { header, payload } = await sign(scene.url(), body, account);
  const gone = new AbortController();
  scene.way.expect("settle", async (forward) => {
    gone.abort();
    return forward();
  });
  const headers = { "content-type": "application/json", "payment-signature": header };
  const cut = fetch(`${scene.url()}/v1/grants`, { method: "POST", headers, body, signal: gone.signal });
  want(await cut.then(() => false, () => true), "the buyer did not hang up");
  await delivered(scene, { status: 0, payload });
  const again = await post(scene.url(), body, header);
  want((await moved(scene, payload)) === 1, "not one transfer");
  return `${told(lost)}; hung up, then ${told(again)}`;
}

// It lies: settled when nothing moved, refused when it did.
export async function lies(scene) {
  const account = await trusted(scene);
  const network = "eip155:84532";
  const transaction = `0x${"ab".repeat(32)}`;
  scene.way.expect("settle", async () => ({ success: true, transaction, network, payer: account.address }));
  const nothing = await buy(scene.url(), account);
  want(!gives(nothing) && nothing.status === 202, `called settled: ${told(nothing)}`);
  const other = await trusted(scene);
  scene.way.expect("settle", async (forward) => {
    await forward();
    return { success: false, errorReason: "insufficient_funds", transaction: "", network };
  });
  const refused = await buy(scene.url(), other);
  await delivered(scene, refused);
  return `called settled: ${told(nothing)}; called refused: ${told(refused)}`;
}

// It refuses, and settles afterwards, when the buyer was told that nothing was charged.
export async function refusesThenSettles(scene) {
  const account = await trusted(scene);
  let late;
  scene.way.expect("settle", async (_, payment) => {
    late = payment;
    return { success: false, errorReason: "insufficient_funds", transaction: "", network: "eip155:84532" };
  });
  const answer = await buy(scene.url(), account);
  want(!gives(answer), "a token for a refused payment");
  await submit(scene, late);
  return told(answer);
}

// The chain takes a settled payment back.
export async function reorganised(scene) {
  const account = await trusted(scene);
  const before = await scene.chain.rpc("evm_snapshot");
  const bought = await buy(scene.url(), account);
  want(bought.status === 201, told(bought));
  await scene.chain.rpc("evm_revert", before);
  // Its facilitator starts anew: it had counted transactions that are none any more.
  await scene.newFacilitator();
  want((await moved(scene, bought.payload)) === 0, "it was not taken back");
  scene.outstanding.push(() =>
    until("what was taken back to be settled again", async () => (await moved(scene, bought.payload)) === 1, 120_000),
  );
  return "taken back; to be settled again before the books are closed";
}

// The process dies with four settlements under way: two whose money has moved, two whose has not. It is started again.
export async function killed(scene) {
  const payers = [await trusted(scene), await scene.payer(), await trusted(scene), await scene.payer()];
  const { child } = scene.dekeys.servers[0];
  let waiting = payers.length;
  const arrived = new Set();
  for (const [at] of payers.entries()) {
    scene.way.expect("settle", async (forward, { payload }) => {
      arrived.add(payload.authorization.nonce);
      if (at < 2) await forward();
      waiting -= 1;
      await until("the others", () => waiting === 0);
      await end(child, "SIGKILL");
      return null;
    });
  }
  const answers = await Promise.all(payers.map((account) => buy(scene.url(), account)));
  want(!answers.some(gives), "a token from a dead process");
  await scene.dekeys.serve(0);
  const paid = [];
  for (const answer of answers) {
    const times = await moved(scene, answer.payload);
    want(times < 2, "paid twice");
    if (times === 1) paid.push(answer);
  }
  want(paid.length === 2 && arrived.size === 4, `${paid.length} of ${arrived.size} were paid`);
  // Where another process may be at work on them, their time must be up first.
  for (const answer of paid) {
    await until("the grant", async () => (await scene.payment(answer)).state === "settled", 120_000);
  }
  const states = await Promise.all(answers.map((answer) => scene.payment(answer)));
  return states.map(({ state }) => state).sort().join(", ");
}

// 64 at once want from one wallet what its policy gives four times a day; one of two servers dies among them, when it
// has settled a payment and nobody knows.
export async function limited(scene) {
  const account = await scene.payer();
  if (scene.dekeys.servers.length > 1) {
    const { child } = scene.dekeys.servers[1];
    scene.ways[1].expect("settle", async (forward) => {
      await forward();
      await end(child, "SIGKILL");
      return null;
    });
  }
  const buyer = async (at) => {
    const body = ask(LIMITED);
    return until(`buyer ${at}`, async () => {
      const signed = await sign(scene.url(at), body, account).catch(() => null);
      const answer = signed && (await post(scene.url(at), body, signed.header));
      return (answer?.status === 201 || answer?.json.code === "budget_reached") && answer;
    }, 180_000);
  };
  const answers = await Promise.all(Array.from({ length: 64 }, (_, at) => buyer(at)));
  const paid = (await scene.chain.payments()).filter(({ payer }) => payer === account.address.toLowerCase());
  want(paid.length === 4, `${paid.length} transfers of at most 4: ${counted(answers)}`);
  want(paid.every(({ value }) => value === PRICE), "another price");
  if (scene.dekeys.servers.length > 1) await scene.dekeys.serve(1);
  return counted(answers);
}
