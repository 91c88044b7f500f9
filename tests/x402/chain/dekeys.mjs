// dekeys as operators run it: one instance, served by one process on SQLite or by several on PostgreSQL, and a vendor
// that keeps the truth about its keys. Everything goes through the command and HTTP.
import { execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { end, freePort, until } from "./process.mjs";

const run = promisify(execFile);
// Everything about this process's own dekeys stays out.
const ENV = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("DEKEYS_")));

export class Dekeys {
  // Makes the instance (`payment(at)` are the settings of server `at`), starts `processes` servers, and puts two policies in force.
  static async start({ binary, dir, database, processes, payment }) {
    const dekeys = new Dekeys();
    Object.assign(dekeys, { binary, dir, payment, servers: [] });
    dekeys.env = { ...ENV, ...(database ? { DEKEYS_DATABASE_URL: database } : {}) };
    try {
      await dekeys.init();
      await dekeys.startVendor();
      for (let at = 0; at < processes; at += 1) await dekeys.serve(at);
      await dekeys.furnish();
    } catch (error) {
      await dekeys.stop();
      throw error;
    }
    return dekeys;
  }

  file(name) {
    return join(this.dir, name);
  }

  dataDir(at) {
    const dir = this.file(`data-${at}`);
    mkdirSync(dir, { recursive: true });
    return dir;
  }

  async init() {
    for (const name of ["ada", "grace", "prim-echo", "agent"]) {
      await this.command("key", "new", this.file(`${name}.key`), "--name", name);
      const { stdout } = await this.command("key", "public", this.file(`${name}.key`), "-o", "text");
      writeFileSync(this.file(`${name}.pub`), stdout);
    }
    const approvers = ["ada", "grace"].flatMap((name) => ["--approver", `${name}=${this.file(`${name}.pub`)}`]);
    const keys = ["--new-operator-key", this.file("operator.key"), "--unseal-key-file", this.file("unseal.key")];
    const where = ["--mode", "test", "--data-dir", this.dataDir(0)];
    await this.command("init", ...where, "--operator", "operator", ...keys, ...approvers, "--quorum", "2");
  }

  async startVendor() {
    const log = this.file("vendor.json");
    this.vendor = this.spawn(["vendor", "mock", "demo", "--json"], log, this.file("vendor.log"));
    const facts = await until("the vendor", () => {
      const text = readFileSync(log, "utf8");
      return text.includes("\n") && JSON.parse(text.split("\n")[0]);
    });
    Object.assign(this, { vendorUrl: facts.url, vendorKey: facts.root_fields.key });
  }

  spawn(args, out, log) {
    return spawn(this.binary, args, { env: this.env, stdio: ["ignore", openSync(out, "w"), openSync(log, "a")] });
  }

  // Starts server `at`, again if it ran before, and waits until it is ready.
  async serve(at) {
    const [dir, port] = [this.dataDir(at), await freePort()];
    const set = Object.entries(this.payment(at)).flatMap(([key, value]) => ["--set", `payment.${key}=${value}`]);
    const where = ["--listen", `127.0.0.1:${port}`, "--admin-listen", `unix:${join(dir, "admin")}`];
    const args = ["serve", "--data-dir", dir, "--unseal-key-file", this.file("unseal.key"), ...where, ...set];
    const log = this.file(`serve-${at}.log`);
    const server = { child: this.spawn(args, this.file(`serve-${at}.out`), log), url: `http://127.0.0.1:${port}`, at };
    await until("dekeys", async () => {
      if (server.child.exitCode !== null) throw new Error(`dekeys ended: ${readFileSync(log, "utf8").slice(-2000)}`);
      const answer = await fetch(`${server.url}/readyz`).catch(() => null);
      return answer?.status === 200;
    });
    this.servers[at] = server;
    return server;
  }

  // SIGKILL: nothing is finished, nothing is said.
  async kill(at) {
    await end(this.servers[at].child, "SIGKILL");
  }

  async command(...args) {
    const flags = { env: { ...this.env, DEKEYS_NO_INPUT: "1" }, maxBuffer: 64 * 1024 * 1024 };
    return run(this.binary, args, flags);
  }

  // A command as somebody with a key file; its JSON. Exit code 7 says that people must decide.
  async as(name, ...args) {
    const everywhere = ["--addr", this.alive().url, "--key-file", this.file(`${name}.key`), "-o", "json"];
    const done = await this.command(...args, ...everywhere).catch((error) => {
      if (error.code === 7) return error;
      throw new Error(`dekeys ${args.join(" ")}: ${error.stderr}`);
    });
    return JSON.parse(done.stdout);
  }

  alive() {
    return this.servers.find(({ child }) => child.exitCode === null && child.signalCode === null);
  }

  async furnish() {
    const root = this.file("root.key");
    writeFileSync(root, this.vendorKey);
    await this.as("operator", "vendor", "connect", "demo", "--root-key-file", root, "--base-url", this.vendorUrl);
    for (const [name, kind] of [["prim-echo", "prim"], ["agent", "agent"]]) {
      await this.as("operator", "principal", "create", name, "--kind", kind, "--public-key", this.file(`${name}.pub`));
    }
    await this.approve("sold", "echo:read", "");
    await this.approve("limited", "echo:write", 'paid_per_day = "0.050 USDC"');
  }

  async approve(name, scope, limit) {
    const file = this.file(`${name}.toml`);
    writeFileSync(file, policy(name, scope, limit));
    const { approval, digest } = await this.as("operator", "policy", "apply", file);
    for (const approver of ["ada", "grace"]) {
      await this.as(approver, "approval", "approve", approval, "--digest", digest, "-c", "for the test");
    }
  }

  // All there is of something that is listed in pages.
  async all(...command) {
    const found = [];
    for (;;) {
      const after = found.length > 0 ? ["--after", found.at(-1).id] : [];
      const page = await this.as("operator", ...command, "--limit", "100", ...after);
      found.push(...page.data);
      if (!page.has_more || page.data.length === 0) return found;
    }
  }

  payments() {
    return this.all("payment", "ls");
  }

  // The vendor's own word: its keys that live.
  async vendorKeys() {
    const found = [];
    for (;;) {
      const url = `${this.vendorUrl.replace(/\/$/, "")}/keys?offset=${found.length}&limit=100`;
      const answer = await fetch(url, { headers: { authorization: `Bearer ${this.vendorKey}` } });
      const { data } = await answer.json();
      found.push(...data);
      if (data.length < 100) return found;
    }
  }

  log() {
    return this.servers.map(({ at }) => readFileSync(this.file(`serve-${at}.log`), "utf8")).join("\n");
  }

  async stop() {
    for (const { child } of this.servers) await end(child);
    if (this.vendor) await end(this.vendor);
  }
}

function policy(name, scope, limit) {
  return `name = "${name}"
vendor = "demo"
scopes = ["${scope}"]
[who]
kinds = ["agent"]
wallets = ["*"]
[grant]
max_ttl = "1h"
max_resolves = 100
[reveal]
prims = ["prim-echo"]
max_lease = "30m"
[limits]
live_leases = 1000
rate = "6000/min"
${limit}
[price]
amount = "0.011 USDC"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
`;
}
