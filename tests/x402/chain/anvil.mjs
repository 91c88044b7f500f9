// A chain of its own: anvil with the test dollar at the address of USDC on Base Sepolia, so that clients whose defaults
// allow known tokens only pay it without being told.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { decodeEventLog, decodeFunctionData, encodeFunctionData } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { end, freePort, until } from "./process.mjs";

export const CHAIN_ID = 84532;
export const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
export const { abi: ABI, code } = JSON.parse(readFileSync(new URL("TestDollar.json", import.meta.url)));

export class Chain {
  static async start(binary) {
    const chain = new Chain();
    const port = await freePort();
    chain.url = `http://127.0.0.1:${port}`;
    // A block for every transaction, and one each second.
    const flags = ["--silent", "--port", port, "--chain-id", CHAIN_ID, "--block-time", 1, "--mixed-mining"];
    chain.child = spawn(binary, flags.map(String), { stdio: ["ignore", "ignore", "inherit"] });
    await until("the chain", () => chain.rpc("eth_chainId").catch(() => null));
    await chain.rpc("anvil_setCode", TOKEN, code);
    chain.bank = (await chain.rpc("eth_accounts"))[0];
    return chain;
  }

  async rpc(method, ...params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const answer = await fetch(this.url, { method: "POST", headers: { "content-type": "application/json" }, body });
    const { result, error } = await answer.json();
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  // A new account with `dollars` atomic units, and coin for its own transactions.
  async account(dollars = 0n) {
    const key = generatePrivateKey();
    const account = Object.assign(privateKeyToAccount(key), { key });
    await this.rpc("anvil_setBalance", account.address, "0x8ac7230489e80000");
    await this.rpc("anvil_impersonateAccount", account.address);
    if (dollars > 0n) await this.send(this.bank, "mint", [account.address, dollars]);
    return account;
  }

  // Calls the token as `from`; waits for the block.
  async send(from, functionName, args) {
    const data = encodeFunctionData({ abi: ABI, functionName, args });
    const hash = await this.rpc("eth_sendTransaction", { from, to: TOKEN, data, gas: "0x40000" });
    const receipt = await until("a block", () => this.rpc("eth_getTransactionReceipt", hash));
    if (receipt.status !== "0x1") throw new Error(`${functionName} was reverted`);
    return hash;
  }

  async balance(address) {
    const data = encodeFunctionData({ abi: ABI, functionName: "balanceOf", args: [address] });
    return BigInt(await this.rpc("eth_call", { to: TOKEN, data }, "latest"));
  }

  // Every transfer by authorization: payer, nonce, receiver, value, transaction. Read from all blocks.
  async payments() {
    const logs = await this.rpc("eth_getLogs", { address: TOKEN, fromBlock: "0x0", toBlock: "latest" });
    const events = logs.map((log) => ({ ...decodeEventLog({ abi: ABI, ...log }), transaction: log.transactionHash }));
    return events.flatMap(({ eventName, args, transaction }, at) => {
      if (eventName !== "AuthorizationUsed") return [];
      const { from, to, value } = events[at + 1].args;
      if (from !== args.authorizer) throw new Error(`no transfer beside ${args.nonce}`);
      return [{ payer: from.toLowerCase(), nonce: args.nonce, to: to.toLowerCase(), value, transaction }];
    });
  }

  // What everybody sees who looks at a transaction: the authorization and its signature.
  async calldata(transaction) {
    const { input } = await this.rpc("eth_getTransactionByHash", transaction);
    const { args } = decodeFunctionData({ abi: ABI, data: input });
    const [from, to, value, validAfter, validBefore, nonce, v, r, s] = args;
    const signature = args.length === 7 ? v : `${r}${s.slice(2)}${Number(v).toString(16).padStart(2, "0")}`;
    const texts = { value: `${value}`, validAfter: `${validAfter}`, validBefore: `${validBefore}` };
    return { signature, authorization: { from, to, ...texts, nonce } };
  }

  // The chain's time goes ahead by so many seconds.
  async advance(seconds) {
    await this.rpc("evm_increaseTime", seconds);
    await this.rpc("evm_mine");
  }

  async stop() {
    await end(this.child);
  }
}
