// The books: what the chain has, what dekeys says, what the vendor holds. They must agree to the atomic unit.
import { until } from "./process.mjs";

const OPEN = new Set(["claimed", "settling", "paid", "provisioning"]);

// Waits until nothing is open any more, and nothing is looked at again.
export async function closed(dekeys) {
  return until(
    "the end of every purchase",
    async () => {
      const rows = await dekeys.payments();
      return rows.every((row) => !OPEN.has(row.state) && !row.next_look) && rows;
    },
    240_000,
  );
}

// What is wrong with the books; nothing, if they agree. `minted` is what all payers were given.
export async function wrong({ chain, dekeys, payTo, payers, minted }, rows) {
  const faults = [];
  const key = (payment) => `${payment.payer.split(":").at(-1)} ${payment.nonce}`;
  const onChain = (await chain.payments()).filter(({ to }) => to === payTo.toLowerCase());
  const paid = new Map(onChain.map((payment) => [key(payment), payment]));
  const counted = rows.filter(({ state }) => state === "settled" || state === "credited");
  for (const row of counted) {
    const moved = paid.get(key(row));
    paid.delete(key(row));
    if (!moved) faults.push(`${row.id} is ${row.state}, and the chain has no transfer`);
    else if (moved.value !== BigInt(row.amount)) faults.push(`${row.id} is ${row.amount}, and ${moved.value} moved`);
    else if (moved.transaction !== row.transaction) faults.push(`${row.id} names ${row.transaction}`);
  }
  for (const { payer, nonce, value } of paid.values()) {
    const row = rows.find((row) => key(row) === `${payer} ${nonce}`);
    faults.push(`${value} of ${payer} moved for nothing: ${row ? `${row.id} ${row.state}` : "no record"}`);
  }
  const sum = counted.reduce((sum, row) => sum + BigInt(row.amount), 0n);
  const has = await chain.balance(payTo);
  if (has !== sum) faults.push(`${has} was received, and ${sum} is on record`);
  let left = 0n;
  for (const payer of payers) left += await chain.balance(payer);
  if (left + has !== minted) faults.push(`${minted} was made, ${left} is left and ${has} was received`);
  const ledger = await dekeys.as("operator", "usage", "--check");
  if (!ledger.agrees) faults.push(`the ledger differs: ${JSON.stringify(ledger.differences)}`);
  if (BigInt(ledger.received) !== has) faults.push(`${has} was received, and ${ledger.received} is in the ledger`);
  faults.push(...(await grants(dekeys, rows)));
  return { faults, transfers: onChain.length, sum };
}

// One grant for each settled payment, one payment for each grant; living keys only for grants that live.
async function grants(dekeys, rows) {
  const faults = [];
  const settled = new Set(rows.filter(({ state }) => state === "settled").map(({ grant }) => grant));
  const all = await dekeys.all("grant", "ls");
  for (const grant of all) {
    const lives = grant.state === "active";
    if (lives && !settled.has(grant.id)) faults.push(`${grant.id} is active, and nobody paid`);
    if (!lives && settled.has(grant.id)) faults.push(`${grant.id} is paid, and ${grant.state}`);
  }
  if (settled.size !== rows.filter(({ state }) => state === "settled").length) faults.push("two payments for one grant");
  const active = all.filter(({ state }) => state === "active").length;
  await until("the end of unpaid keys", async () => (await dekeys.vendorKeys()).length <= active).catch((error) =>
    faults.push(String(error.message)),
  );
  const keys = (await dekeys.vendorKeys()).length;
  if (keys !== active) faults.push(`${active} grants live, and the vendor has ${keys} keys`);
  return faults;
}
