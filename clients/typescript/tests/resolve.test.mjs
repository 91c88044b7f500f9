// A prim's and an agent's day against a real server and its demo vendor.
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { before, test } from "node:test";
import { inspect } from "node:util";

import { Dekeys, KeyFile, NotAllowed, NotFound, PaymentRequired, Refused, TokenRefused, Unauthenticated, Unavailable, Unreachable } from "dekeys";

import { agent, buy, dev, newPrim, REFERENCE, seen } from "./world.mjs";

let grant;
before(async () => {
  grant = await buy();
});

test("a key is resolved and works at the vendor", async () => {
  const key = await newPrim().resolve(REFERENCE, await agent.pin(grant.token, "prim-echo"));
  const answer = await fetch(key.url("/echo"), { headers: key.headers() });
  assert.deepEqual([answer.status, await answer.json()], [200, { hello: "agent" }]);
  assert.ok(key.alive && !inspect(key, { depth: null, showHidden: true }).includes(key.secret.expose()));
});

test("within the lease no request is made, and callers that want the same share one", async () => {
  const [prim, token] = [newPrim(), await agent.pin(grant.token, "prim-echo")];
  const requests = await seen(async () => {
    const [first, ...others] = await Promise.all(Array.from({ length: 8 }, () => prim.resolve(REFERENCE, token)));
    for (const other of others) assert.equal(other, first);
    assert.equal(await prim.resolve(REFERENCE, token), first);
  });
  assert.deepEqual(requests.map(({ path }) => path), ["/v1/resolve"]);
});

test("another token of the grant does not send the key again", async () => {
  const prim = newPrim();
  const first = await prim.resolve(REFERENCE, await agent.pin(grant.token, "prim-echo"));
  const token = await agent.pin(grant.token, "prim-echo", { ttl: 200 });
  let second;
  const [request] = await seen(async () => {
    second = await prim.resolve(REFERENCE, token);
  });
  const entry = (await request.answer.json()).data[0];
  assert.ok(entry.unchanged === true && !("credential" in entry));
  assert.ok(second.leaseId === first.leaseId && second.secret.equals(first.secret));
});

test("a vendor's fetch carries the key, and only to the vendor", async () => {
  const prim = newPrim();
  const vendor = prim.fetch(REFERENCE, await agent.pin(grant.token, "prim-echo"));
  assert.deepEqual(await (await vendor("/echo")).json(), { hello: "agent" });
  const base = (await prim.resolve(REFERENCE, await agent.pin(grant.token, "prim-echo"))).baseUrl;
  assert.equal((await vendor(new Request(`${base}echo`))).status, 200);
  await assert.rejects(vendor("http://127.0.0.1:1/echo"), /belongs to/);
});

test("refusals are typed and say what to do", async () => {
  const [prim, token] = [newPrim(), await agent.pin(grant.token, "prim-echo")];
  await assert.rejects(prim.resolve("dk://demo/echo:write", token), (error) => {
    assert.ok(error instanceof NotAllowed && error instanceof Refused);
    assert.deepEqual([error.status, error.code, error.retryable], [403, "insufficient_scope", false]);
    assert.ok(error.fix && error.requestId.startsWith("req_") && error.message.includes(error.requestId));
    return true;
  });
  await assert.rejects(prim.call("GET", "/v1/leases/lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3"), NotFound);
  await assert.rejects(agent.createGrant({ reference: REFERENCE }), PaymentRequired);
  await assert.rejects(agent.resolve(REFERENCE, token), Unauthenticated);
});

test("tokens that no server would take are refused without a request", async () => {
  const prim = newPrim();
  const tokens = [
    [await agent.pin(grant.token, "prim-other"), "not_pinned"],
    [await agent.narrow(grant.token, { ttl: -5 }), "expired"],
    ["dkt_test_AAAA", "malformed"],
    ["dkt_test_AAAA\r\nx: y", "malformed"],
  ];
  const requests = await seen(async () => {
    for (const [token, reason] of tokens) {
      await assert.rejects(prim.resolve(REFERENCE, token), (error) => error instanceof TokenRefused && error.reason === reason);
    }
  });
  assert.equal(requests.length, 0);
});

test("several are answered each on its own", async () => {
  const [prim, token] = [newPrim(), await agent.pin(grant.token, "prim-echo")];
  const [good, bad] = await prim.resolveAll([REFERENCE, "dk://demo/echo:write"], token);
  assert.ok(good.headers() && bad instanceof Refused && bad.code === "insufficient_scope");
  assert.equal(await prim.resolve(REFERENCE, token), good);
  await assert.rejects(prim.resolveAll([REFERENCE, REFERENCE], token), /twice/);
});

test("sessions sign many requests, and where they are refused the key signs", async () => {
  const prim = newPrim({ sessions: true });
  const requests = await seen(async () => {
    const both = await Promise.all([prim.call("GET", "/v1/whoami"), prim.call("GET", "/v1/whoami")]);
    for (const who of [...both, await prim.call("GET", "/v1/whoami")]) assert.equal(who.name, "prim-echo");
  });
  const kinds = requests.map(({ headers }) => (headers.get("signature-input").includes("hmac-sha256") ? "h" : "e"));
  assert.equal(kinds.join(""), "ehhh");
  const stranger = new Dekeys({ url: dev.url, key: KeyFile.generate(), sessions: true });
  await assert.rejects(stranger.call("GET", "/v1/leases"), Unauthenticated);
});

test("a session that a server forgot is opened anew", async () => {
  const prim = newPrim({ sessions: true });
  await prim.call("GET", "/v1/whoami");
  const real = globalThis.fetch;
  const kinds = [];
  let lost = true;
  // The server that forgot: what it would say of a session it does not know.
  globalThis.fetch = async (input, init) => {
    const input_ = new Headers(init.headers).get("signature-input");
    kinds.push(input_.includes("hmac-sha256") ? "h" : "e");
    if (kinds.at(-1) === "h" && lost) {
      lost = false;
      init.headers.set("signature", "dekeys=:AAAA:");
    }
    return real(input, init);
  };
  try {
    assert.equal((await prim.call("GET", "/v1/whoami")).name, "prim-echo");
  } finally {
    globalThis.fetch = real;
  }
  assert.equal(kinds.join(""), "heh");
});

test("the typed interface signs queries and odd paths as sent", async () => {
  const prim = newPrim();
  const { data } = await prim.api.GET("/v1/leases", { params: { query: { limit: 1 } } });
  assert.equal(data.object, "list");
  const { error } = await prim.api.GET("/v1/leases/{id}", { params: { path: { id: "../x" } } });
  assert.equal(error.code, "not_found");
  await assert.rejects(prim.call("GET", "//elsewhere.example/v1/keys"), TypeError);
});

test("a holder gets fresh tokens and keeps one", async () => {
  let token;
  const requests = await seen(async () => {
    token = await agent.token(grant.id);
    assert.equal(await agent.token(grant.id), token);
  });
  assert.deepEqual(requests.map(({ path }) => path), [`/v1/grants/${grant.id}/tokens`]);
  assert.ok(!token.equals(grant.token));
  assert.ok((await newPrim().resolve(REFERENCE, await agent.pin(token, "prim-echo"))).alive);
});

test("keys are given back and grants ended", async () => {
  const [prim, own] = [newPrim(), await buy()];
  const token = await agent.pin(own.token, "prim-echo");
  const key = await prim.resolve(REFERENCE, token);
  assert.equal((await prim.revokeLease(key.leaseId, "done")).object, "lease");
  assert.notEqual((await prim.resolve(REFERENCE, token)).leaseId, key.leaseId);
  assert.equal((await agent.revokeGrant(own.id)).object, "grant");
  await assert.rejects(newPrim().resolve(REFERENCE, token), (error) => error instanceof Unauthenticated && error.code === "invalid_token");
});

test("nobody there is an error of its own", async () => {
  await assert.rejects(new Dekeys({ url: "http://127.0.0.1:9", key: KeyFile.generate() }).keys(), Unreachable);
});

test("addresses are bare, and plain http to others is warned about", async () => {
  for (const url of ["127.0.0.1:8402", "ftp://x", "http://127.0.0.1/v1", "http://u:p@127.0.0.1", "https://x?y", ""]) {
    assert.throws(() => new Dekeys({ url }), TypeError);
  }
  const warned = new Promise((resolve) => process.once("warning", resolve));
  new Dekeys({ url: "http://dekeys.internal:8402" });
  assert.match((await warned).message, /https/);
});

/** Answers nothing and hangs up, so many times; then refuses like dekeys. */
async function closingServer(times) {
  const seen = [];
  const body = JSON.stringify({ code: "vault_sealed", title: "sealed", status: 503, retryable: true });
  const server = createServer((socket) => {
    socket.once("data", (data) => {
      seen.push(/nonce="([^"]+)"/.exec(data)[1]);
      if (seen.length <= times) return socket.destroy();
      socket.end(`HTTP/1.1 503 x\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
    socket.on("error", () => {});
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return [server, `http://127.0.0.1:${server.address().port}`, seen];
}

test("a connection that breaks is tried once more and signed anew", async () => {
  const token = await agent.pin(grant.token, "prim-echo");
  for (const [times, error] of [[1, Unavailable], [2, Unreachable]]) {
    const [server, url, seen] = await closingServer(times);
    await assert.rejects(new Dekeys({ url, key: KeyFile.generate() }).resolve(REFERENCE, token), error);
    server.close();
    assert.equal(new Set(seen).size, 2);
  }
  const [server, url, seen] = await closingServer(1);
  await assert.rejects(new Dekeys({ url, key: KeyFile.generate() }).createGrant({ reference: REFERENCE }), Unreachable);
  server.close();
  assert.equal(seen.length, 1, "what might make two grants is sent once");
});
