// A chain, a facilitator, dekeys, and who plays.
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Chain, TOKEN } from "./anvil.mjs";
import { Dekeys } from "./dekeys.mjs";
import { Way, facilitator } from "./facilitator.mjs";

const run = promisify(execFile);
const EACH = 1_000_000n;

export class Scene {
  // `database` is the address of a PostgreSQL database of its own, or nothing for SQLite; `processes` run on it.
  static async open({ name, binary, anvil, dir, database, processes, rounds }) {
    const scene = new Scene();
    Object.assign(scene, { name, rounds, payers: [], minted: 0n, outstanding: [] });
    scene.dir = join(dir, name);
    mkdirSync(scene.dir);
    try {
      await scene.setUp({ binary, anvil, database, processes });
    } catch (error) {
      await scene.close();
      throw error;
    }
    return scene;
  }

  async setUp({ binary, anvil, database, processes }) {
    this.chain = await Chain.start(anvil);
    // Nobody's: money that leaves a payer otherwise than by paying goes here, and is counted as a payer's.
    this.purse = (await this.payer(0n)).address;
    this.payTo = (await this.chain.account()).address;
    this.ways = [];
    const settled = new Set();
    for (let at = 0; at < processes; at += 1) this.ways.push(await Way.open(settled));
    await this.newFacilitator();
    this.way = this.ways[0];
    const payment = (at) => ({
      rail: "http",
      pay_to: this.payTo,
      asset: TOKEN,
      facilitator_url: this.ways[at].url,
      rpc_url: this.chain.url,
      held_keys: 1000,
      // As short as can be: what was refused is looked at once more when its authorization has ended.
      max_timeout: "60s",
    });
    this.dekeys = await Dekeys.start({ binary, dir: this.dir, database, processes, payment });
    this.regular = await this.payer(1_000n * EACH);
  }

  async newFacilitator() {
    const official = await facilitator(this.chain);
    for (const way of this.ways) way.official = official;
  }

  // A new wallet with money.
  async payer(dollars = EACH) {
    const account = await this.chain.account(dollars);
    this.minted += dollars;
    this.payers.push(account.address);
    return account;
  }

  // Where the `at`th of those servers is that run.
  url(at = 0) {
    const alive = this.dekeys.servers.filter(({ child }) => child.exitCode === null && child.signalCode === null);
    return alive[at % alive.length].url;
  }

  // What dekeys has on record of the payment in an answer.
  async payment({ payload }) {
    const { nonce } = payload.payload.authorization;
    const rows = await this.dekeys.payments();
    return rows.find((row) => row.nonce === nonce) ?? { state: "not on record" };
  }

  async close() {
    await this.dekeys?.stop();
    for (const way of this.ways ?? []) await way.close();
    await this.chain?.stop();
  }
}

// A database of its own on a PostgreSQL server, by `psql`.
export class Database {
  static async create(server) {
    const name = `dekeys_x402_${process.pid}_${Date.now()}`;
    await run("psql", ["--no-psqlrc", "--quiet", "--dbname", server, "--command", `CREATE DATABASE ${name}`]);
    const url = new URL(server);
    url.pathname = `/${name}`;
    return Object.assign(new Database(), { server, name, url: url.href });
  }

  async drop() {
    const text = `DROP DATABASE ${this.name} WITH (FORCE)`;
    await run("psql", ["--no-psqlrc", "--quiet", "--dbname", this.server, "--command", text]);
  }
}
