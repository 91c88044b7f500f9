// Lets the official clients buy on a chain, and attackers try: node main.mjs, told everything by its environment.
// Prints a table; fails when anything is not as it should be.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as attacks from "./attacks.mjs";
import { closed, wrong } from "./books.mjs";
import { buysTwice, extensions } from "./official.mjs";
import { Database, Scene } from "./scene.mjs";

const { DEKEYS_BIN: binary, X402_ANVIL: anvil, X402_RUST: rust, DEKEYS_TEST_POSTGRES: postgres } = process.env;
const rounds = Number(process.env.DEKEYS_X402_ROUNDS ?? 20);
const only = process.env.DEKEYS_X402_ONLY;

const clients = [
  ["@x402/fetch (npm)", ["node", "buy.mjs"]],
  ["x402 (PyPI)", ["venv/bin/python", "buy.py"]],
  ["x402-reqwest (cargo)", rust ? [rust] : null],
];
const trials = [
  ["official extensions", extensions],
  [`64 at once × ${rounds}`, attacks.atOnce],
  ["a stranger with calldata", attacks.fromChain],
  ["wallet emptied", attacks.drained],
  ["authorization cancelled", attacks.cancelled],
  ["an observer is first", attacks.observerFirst],
  ["facilitator down", attacks.down],
  ["facilitator loses, buyer hangs up", attacks.lostAndSlow],
  ["facilitator lies", attacks.lies],
  ["facilitator refuses, then settles", attacks.refusesThenSettles],
  ["chain reorganised", attacks.reorganised],
  ["killed while settling", attacks.killed],
  ["a limit, 64 buyers", attacks.limited],
];

let bad = 0;
const rows = [];
function note(setup, what, began, result, good) {
  const row = [setup, what, good ? "ok" : "FAILED", `${((Date.now() - began) / 1000).toFixed(1)} s`, result];
  console.log(row.join(" | "));
  rows.push(row);
  if (!good) bad += 1;
}

async function attempt(setup, what, work) {
  if (only && !what.includes(only)) return;
  const began = Date.now();
  try {
    note(setup, what, began, await work(), true);
  } catch (error) {
    note(setup, what, began, error.stack ?? String(error), false);
  }
}

async function play(options) {
  const scene = await Scene.open(options);
  const { name } = options;
  try {
    for (const [what, command] of clients) {
      if (command) await attempt(name, what, () => buysTwice(scene, command));
      else note(name, what, Date.now(), "SKIPPED: it was not built", true);
    }
    for (const [what, attack] of trials) await attempt(name, what, () => attack(scene));
    await attempt(name, "books", () => balance(scene));
  } finally {
    await scene.close();
  }
}

// After the last authorization's end, and a minute of blocks that makes it final.
async function balance(scene) {
  for (const wait of scene.outstanding) await wait();
  await scene.chain.advance(300);
  const found = await wrong(scene, await closed(scene.dekeys));
  if (found.faults.length > 0) throw new Error(found.faults.join("\n"));
  return `${found.transfers} transfers, ${found.sum} received and on record`;
}

const dir = mkdtempSync(join(tmpdir(), "dekeys-x402-"));
async function pair() {
  const name = "postgres×2";
  if (!postgres) return note(name, "all", Date.now(), "SKIPPED: DEKEYS_TEST_POSTGRES names no server", true);
  const database = await Database.create(postgres);
  try {
    await play({ name, binary, anvil, dir, database: database.url, processes: 2, rounds });
  } finally {
    await database.drop();
  }
}

try {
  // Side by side: most of the time somebody's time has to pass.
  const both = [play({ name: "sqlite", binary, anvil, dir, processes: 1, rounds }), pair()];
  const ended = await Promise.allSettled(both);
  for (const { reason } of ended.filter(({ status }) => status === "rejected")) {
    note("all", "set-up", Date.now(), reason.stack ?? String(reason), false);
  }
  rows.sort(([one], [two]) => (one < two ? 1 : one > two ? -1 : 0));
} finally {
  if (process.env.DEKEYS_X402_KEEP) console.log(`kept: ${dir}`);
  else rmSync(dir, { recursive: true, force: true });
}
const width = (at) => Math.max(...rows.map((row) => row[at].length));
console.log(`\n${rows.map((row) => row.map((text, at) => (at < 4 ? text.padEnd(width(at)) : text.split("\n")[0])).join("  ")).join("\n")}`);
if (bad > 0) console.log(`\n${bad} FAILED`);
process.exit(bad > 0 ? 1 : 0);
