// A prim: it takes an agent's token, swaps it for the vendor's key, makes the call, and hands on the answer.
//   DEKEYS_ADDR=http://127.0.0.1:8402 DEKEYS_KEY_FILE=prim-echo.key node prim.mjs
import { createServer } from "node:http";

import { Dekeys, Refused, TokenRefused } from "dekeys";

const { DEKEYS_ADDR = "http://127.0.0.1:8402", DEKEYS_KEY_FILE, PORT = "8500" } = process.env;
const dekeys = new Dekeys({ url: DEKEYS_ADDR, keyFile: DEKEYS_KEY_FILE, name: "prim-echo", sessions: true });

async function echo(token) {
  const vendor = dekeys.fetch("dk://demo/echo:read", token);
  const answer = await vendor("/echo");
  return [answer.status, await answer.json()];
}

/** What the agent is told: whose fault it is, and the request that dekeys' log knows. Never the key. */
function refusal(error) {
  if (error instanceof TokenRefused) return [401, { code: error.reason, detail: error.message }];
  if (error instanceof Refused) {
    const { code, detail, fix, requestId, retryable } = error;
    return [error.status, { code, detail, fix, request_id: requestId, retryable }];
  }
  console.error(error);
  return [502, { code: "unreachable", detail: "the prim could not do it" }];
}

const server = createServer(async (request, response) => {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
  const known = request.method === "GET" && request.url === "/echo";
  const [status, body] = known ? await echo(token).catch(refusal) : [404, { code: "not_found" }];
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
