// A facilitator from the official packages, and in front of it a way that loses, holds up and falsifies what is said.
import { createServer } from "node:http";
import { once } from "node:events";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { nonceManager, privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

// Settles on `chain` from an account of its own.
export async function facilitator(chain) {
  const { key } = await chain.account();
  const account = privateKeyToAccount(key, { nonceManager });
  const client = createWalletClient({ account, chain: baseSepolia, transport: http(chain.url), pollingInterval: 50 });
  const signer = toFacilitatorEvmSigner({ ...client.extend(publicActions), address: account.address });
  return new x402Facilitator().register("eip155:84532", new ExactEvmScheme(signer));
}

// The way to a facilitator, as a server of dekeys is told it.
export class Way {
  // `settled` holds the nonces that were brought to be settled, on all ways to the same facilitator.
  static async open(settled) {
    const way = new Way();
    way.settled = settled;
    way.tricks = { verify: [], settle: [] };
    way.server = createServer((request, response) => way.serve(request, response)).listen(0, "127.0.0.1");
    await once(way.server, "listening");
    way.url = `http://127.0.0.1:${way.server.address().port}`;
    return way;
  }

  // What happens to the next request of a kind: `async (forward, payment) => answer`, where no answer is a connection
  // that breaks. Several wait for their turn. What comes to be settled again has its answer from the facilitator.
  expect(verb, trick) {
    this.tricks[verb].push(trick);
  }

  async serve(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const verb = request.url.slice(1);
    if (verb !== "verify" && verb !== "settle") return response.writeHead(404).end();
    const { paymentPayload, paymentRequirements } = JSON.parse(Buffer.concat(parts));
    const forward = () => this.official[verb](paymentPayload, paymentRequirements);
    const { nonce } = paymentPayload.payload.authorization;
    const trick = this.settled.has(nonce) ? undefined : this.tricks[verb].shift();
    if (verb === "settle") this.settled.add(nonce);
    try {
      const answer = trick ? await trick(forward, paymentPayload) : await forward();
      if (!answer) return response.destroy();
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    } catch (error) {
      if (process.env.DEKEYS_X402_KEEP) console.error(`facilitator: ${verb}: ${error}`);
      response.writeHead(500).end(String(error));
    }
  }

  async close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}
