// The client of a prim or an agent.
import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./api.js";
import { checked, ForeignAnswer, NotFound, ofProblem, Refused, Unsupported, TokenRefused, Unreachable } from "./errors.js";
import type { Problem } from "./errors.js";
import { KeyFile } from "./keyfile.js";
import { Cache, readEntry, type Entry, type Resolved } from "./lease.js";
import { exposed, Secret } from "./secret.js";
import { Sessions, signWithKey, type Outgoing } from "./signature.js";
import * as tokens from "./token.js";
import type { Claims, Narrowing, PublicKeys, Use } from "./token.js";
import { STATEMENT, Verifier, type Ended } from "./verifier.js";

type Schemas = components["schemas"];

/** How long the instance's public keys are believed before they are fetched again, in milliseconds. */
const KEYS_LIFE = 300_000;
/** A kept token is replaced so long before its end, in milliseconds. */
const TOKEN_MARGIN = 60_000;

/** What a client is made with. */
export interface Options {
  /** The server's address: `https://dekeys.example.org`. */
  url: string;
  /** Signs requests. Without it and `keyFile` only public things can be asked for. */
  key?: KeyFile;
  /** The path of a file of `dekeys key new`. */
  keyFile?: string;
  /** The prim's own name: tokens pinned to others are then refused before a request. */
  name?: string;
  /** Sign with the key once in five minutes and by HMAC in between; worth it for many requests to one server. */
  sessions?: boolean;
  /** Milliseconds until a request is given up; 30,000 if absent. */
  timeout?: number;
  /** How many keys are kept at most; 10,000 if absent. */
  cacheSize?: number;
}

/** A verifier that keeps itself up to date until it is closed; within `maxAge` after that no token is good any more. */
export type Followed = Verifier & { close: () => void };

/** A grant as its owner sees it. Prints without its token. */
export interface Grant {
  id: string;
  /** `active`, or where else it stands. */
  state: string;
  expires: Date;
  /** What it allows: `dk://vendor/scope`. */
  references: string[];
  /** The receipt's id, once there is one. */
  receipt: string | undefined;
  /** Its token, where the answer brought one. */
  token: Secret | undefined;
  /** The whole answer without the token. */
  view: Schemas["GrantView"];
}

/** Reads what `POST /v1/grants` answers, also to an x402 client. */
export function readGrant(answer: unknown): Grant {
  const { token, ...rest } = answer as Schemas["GrantView"] & { token?: string };
  const view = rest as Schemas["GrantView"];
  return {
    id: view.id,
    state: view.state,
    expires: new Date(view.expires),
    references: view.items.flatMap((item) => item.scopes.map((scope) => `dk://${item.vendor}/${scope}`)),
    receipt: view.receipt ?? undefined,
    token: token === undefined ? undefined : new Secret(token),
    view,
  };
}

/** A client of one server. Share it: it keeps keys, and lets callers that want the same share one request. */
export class Dekeys {
  /** The server's address. */
  readonly url: string;
  /** Every operation of `/openapi.json`, typed and signed: `dekeys.api.GET("/v1/leases")`. */
  readonly api: Client<paths>;
  readonly #key: KeyFile | undefined;
  readonly #name: string | undefined;
  readonly #timeout: number;
  readonly #sessions: Sessions | undefined;
  readonly #cache: Cache;
  readonly #underWay = new Map<string, Promise<Resolved>>();
  readonly #tokens = new Map<string, { token: Secret; until: number }>();
  #keys: { keys: PublicKeys; until: number } | undefined;

  /** Throws {@link KeyFileError} and {@link TypeError}. */
  constructor(options: Options) {
    this.url = address(options.url);
    if (options.key && options.keyFile !== undefined) throw new TypeError("give a key or a key file, not both");
    this.#key = options.keyFile === undefined ? options.key : KeyFile.load(options.keyFile);
    this.#name = options.name;
    this.#timeout = options.timeout ?? 30_000;
    this.#cache = new Cache(options.cacheSize ?? 10_000);
    if (options.sessions && this.#key) this.#sessions = new Sessions(this.#key, this.url, (out) => this.#once(out));
    this.api = createClient<paths>({ baseUrl: this.url, fetch: (request) => this.#signed(request) });
  }

  /** The public half of the key that signs: what a grant names as its holder. */
  get publicKey(): string | undefined {
    return this.#key?.public;
  }

  /**
   * Swaps an agent's token for a vendor's key. Within the lease the same token and reference need no request. Throws
   * {@link Refused}, {@link TokenRefused} and {@link Unreachable}.
   */
  async resolve(reference: string, token: string | Secret): Promise<Resolved> {
    const text = textOf(token);
    const found = this.#cache.get(text, reference);
    if (found) return found;
    const name = `${reference} ${text}`;
    const shared = this.#underWay.get(name);
    if (shared) return shared;
    const own = this.#resolveOne(reference, text).finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, own);
    return own;
  }

  async #resolveOne(reference: string, token: string): Promise<Resolved> {
    const [outcome] = await this.resolveAll([reference], token);
    if (outcome instanceof Error || outcome === undefined) throw outcome ?? foreign();
    return outcome;
  }

  /** Several keys with one token, in one request for up to 20. Each answer stands alone. */
  async resolveAll(references: string[], token: string | Secret): Promise<(Resolved | Refused)[]> {
    if (new Set(references).size !== references.length) throw new TypeError("a reference stands here twice");
    const text = textOf(token);
    const claims = this.#readable(text);
    const outcomes = new Map<string, Resolved | Refused>();
    for (const reference of references) {
      const kept = this.#cache.get(text, reference);
      if (kept) outcomes.set(reference, kept);
    }
    const wanted = references.filter((reference) => !outcomes.has(reference));
    for (let start = 0; start < wanted.length; start += 20) {
      const part = wanted.slice(start, start + 20).map((reference) => {
        return { reference, known: this.#cache.known(claims.grant, reference) };
      });
      for (const [reference, outcome] of await this.#ask(part, text, claims)) outcomes.set(reference, outcome);
    }
    return references.map((reference) => outcomes.get(reference) ?? fail(foreign()));
  }

  async #ask(
    wanted: { reference: string; known?: Resolved | undefined }[],
    token: string,
    claims: Claims,
  ): Promise<Map<string, Resolved | Refused>> {
    const items = wanted.map(({ reference, known }) => {
      return known ? { reference, known: { lease_id: known.leaseId, version: known.version } } : { reference };
    });
    const asked = performance.now();
    const outcomes = new Map<string, Resolved | Refused>();
    let entries: (Entry & { problem?: Problem })[];
    try {
      const answer = await this.#call("POST", "/v1/resolve", { items }, new Secret(token));
      entries = (answer as { data: typeof entries }).data;
    } catch (error) {
      const [only] = wanted;
      if (!(error instanceof Refused) || !only || wanted.length > 1) throw error;
      return outcomes.set(only.reference, error);
    }
    for (const [place, { reference, known }] of wanted.entries()) {
      const entry = entries[place] ?? fail(foreign());
      if (entry.problem) {
        outcomes.set(reference, ofProblem(entry.problem, entry.problem.status));
        continue;
      }
      const resolved = readEntry(entry, asked, known);
      if (!resolved) {
        for (const [again, outcome] of await this.#ask([{ reference }], token, claims)) outcomes.set(again, outcome);
        continue;
      }
      this.#cache.put(token, claims.until, claims.grant, resolved);
      outcomes.set(reference, resolved);
    }
    return outcomes;
  }

  /** What the token says. Refuses at once what no server would take: too late, or another prim's. */
  #readable(token: string): Claims {
    const claims = tokens.read(token);
    if (claims.until <= new Date()) throw tokens.expired(claims);
    if (this.#name !== undefined && claims.pinned !== undefined && claims.pinned !== this.#name) {
      throw new TokenRefused("not_pinned", `the token is pinned to ${claims.pinned}, not to ${this.#name}`);
    }
    return claims;
  }

  /**
   * A `fetch` that carries the vendor's key, to the vendor's address and to no other. A path is one below the vendor's
   * base address. A 401 is reported, and the request sent once more with the key that takes the dead one's place.
   */
  fetch(reference: string, token: string | Secret): (input: string | URL | Request, init?: RequestInit) => Promise<Response> {
    return async (input, init) => {
      const key = await this.resolve(reference, token);
      const whole = typeof input !== "string" || /^[a-z][a-z0-9+.-]*:/i.test(input);
      const target = whole ? input : key.url(input);
      const request = new Request(target, init);
      // Kept whole: a body that flows could not be sent a second time.
      const body = request.body === null ? undefined : await request.arrayBuffer();
      const answer = await toVendor(request, body, key);
      if (answer.status !== 401) return answer;
      const fresh = await this.#replaced(key, token);
      if (!fresh) return answer;
      await answer.body?.cancel();
      return toVendor(request, body, fresh);
    };
  }

  /**
   * Tells dekeys that the vendor refuses the key: it looks, and makes another if the key is dead. Throws
   * {@link Unsupported} where the server is too old for it.
   */
  async report(resolved: Resolved, status = 401): Promise<unknown> {
    this.#cache.drop(resolved.leaseId);
    try {
      const body = { status, version: resolved.version };
      return await this.#call("POST", `/v1/leases/${encodeURIComponent(resolved.leaseId)}/report`, body);
    } catch (error) {
      throw unsupported(error, "to be told of a dead key");
    }
  }

  /** A key in place of one that the vendor refuses; `undefined` when there is no other. */
  async #replaced(dead: Resolved, token: string | Secret): Promise<Resolved | undefined> {
    this.#cache.drop(dead.leaseId);
    if (dead.alive) {
      try {
        const reported = (await this.report(dead, 401)) as { outcome?: string };
        // The vendor takes the key, or cannot be asked: its answer had another reason.
        if (reported.outcome !== "replaced" && reported.outcome !== "ended") return undefined;
      } catch (error) {
        if (!(error instanceof Unsupported)) throw error;
        process.emitWarning(`${error.message}; the vendor's answer to lease ${dead.leaseId} is handed on`);
        return undefined;
      }
    }
    const fresh = await this.resolve(dead.reference, token);
    return fresh.leaseId === dead.leaseId && fresh.version === dead.version ? undefined : fresh;
  }

  /** The instance's public keys; fetched anew every five minutes. */
  async keys(): Promise<PublicKeys> {
    if (this.#keys && performance.now() < this.#keys.until) return this.#keys.keys;
    return this.#fetchKeys();
  }

  async #fetchKeys(): Promise<PublicKeys> {
    const document = await this.call("GET", "/.well-known/dekeys-keys.json").catch((error: unknown) => {
      if (error instanceof NotFound) return this.call("GET", "/v1/keys");
      throw error;
    });
    const keys = tokens.parseKeys(document);
    this.#keys = { keys, until: performance.now() + KEYS_LIFE };
    return keys;
  }

  /** Narrows a token to one prim for at most five minutes: what is handed to that prim. */
  pin(token: string | Secret, prim: string, less: Narrowing = {}): Promise<Secret> {
    return this.#withKeys((keys) => tokens.pin(token, keys, prim, less));
  }

  /** Adds a block that allows less. */
  narrow(token: string | Secret, less: Narrowing): Promise<Secret> {
    return this.#withKeys((keys) => tokens.narrow(token, keys, less));
  }

  /** Checks a token without asking the server about it; revocation is not seen. */
  verify(token: string | Secret, reference: string | undefined, asked: Use = {}): Promise<Claims> {
    return this.#withKeys((keys) => tokens.verify(token, keys, reference, asked));
  }

  /**
   * A verifier that follows the revocation feed every `look` milliseconds (1,000 if absent) until it is closed. Keys of
   * this client whose lease or grant ends are forgotten at once. The client's key must be of somebody enrolled. Throws
   * {@link Unsupported} where the server has no feed.
   */
  async verifier(options: { maxAge?: number; look?: number } = {}): Promise<Followed> {
    const onEnd = (kind: Ended, id: string): void => this.#ended(kind, id);
    const maxAge = options.maxAge === undefined ? {} : { maxAge: options.maxAge };
    const verifier = new Verifier(await this.keys(), { ...maxAge, onEnd });
    await this.#catchUp(verifier);
    // Said once that the feed cannot be read, and once that it can again; in between it is tried without a word.
    let outage = false;
    const look = async (): Promise<void> => {
      try {
        await this.#catchUp(verifier);
        if (outage) process.emitWarning("the revocation feed can be read again");
        outage = false;
      } catch (error) {
        const why = (error as Error).message;
        if (!outage) process.emitWarning(`the revocation feed cannot be read, so soon no token is good: ${why}`);
        outage = true;
      }
    };
    const timer = setInterval(() => void look(), options.look ?? 1_000);
    timer.unref();
    return Object.assign(verifier, { close: () => clearInterval(timer) });
  }

  #ended(kind: Ended, id: string): void {
    if (kind === "lease") this.#cache.drop(id);
    if (kind === "grant") {
      this.#cache.dropGrant(id);
      this.#tokens.delete(id);
    }
  }

  async #catchUp(verifier: Verifier): Promise<void> {
    for (;;) {
      const { path, headers } = verifier.ask();
      const out = { method: "GET", url: `${this.url}${path}`, headers: new Headers(headers), body: new Uint8Array() };
      const answer = await this.#send(out);
      if (answer.status !== 304) {
        await checked(answer.clone()).catch((error: unknown) => fail(unsupported(error, "to have a revocation feed")));
      }
      const page = new Uint8Array(await answer.arrayBuffer());
      if (!verifier.take(answer.status, page, answer.headers.get(STATEMENT) ?? "")) break;
    }
    if (verifier.wantsKeys) verifier.renewKeys(await this.#fetchKeys());
  }

  /** Once more with new keys when a token names a root that is new. */
  async #withKeys<T>(work: (keys: PublicKeys) => Promise<T>): Promise<T> {
    const fetched = this.#keys === undefined;
    try {
      return await work(await this.keys());
    } catch (error) {
      if (fetched || !(error instanceof TokenRefused) || error.reason !== "unknown_root") throw error;
      return work(await this.#fetchKeys());
    }
  }

  /** Asks for a grant that is free. One with a price throws {@link PaymentRequired}: use an x402 client. */
  async createGrant(ask: Partial<Schemas["BuyAsk"]>): Promise<Grant> {
    return readGrant(await this.call("POST", "/v1/grants", ask));
  }

  /** Prolongs a grant by `ttl` (`15m`) from now. */
  async renewGrant(grantId: string, ttl?: string): Promise<Grant> {
    return readGrant(await this.#call("POST", `/v1/grants/${encodeURIComponent(grantId)}/renew`, ttl ? { ttl } : {}));
  }

  /** A token of this holder's grant that still lasts: a fresh one is fetched when the last is near its end. */
  async token(grantId: string): Promise<Secret> {
    const kept = this.#tokens.get(grantId);
    if (kept && Date.now() < kept.until) return kept.token;
    const grant = readGrant(await this.#call("POST", `/v1/grants/${encodeURIComponent(grantId)}/tokens`));
    const token = grant.token ?? fail(new ForeignAnswer("the answer brought no token"));
    const until = tokens.read(token).until.getTime();
    // Near the grant's end tokens live less long than the margin: half of what is left must do.
    this.#tokens.set(grantId, { token, until: until - Math.min(TOKEN_MARGIN, (until - Date.now()) / 2) });
    return token;
  }

  /** Gives a key back before its lease ends. */
  async revokeLease(leaseId: string, reason?: string): Promise<Schemas["Ended"]> {
    this.#cache.drop(leaseId);
    return this.#end(`/v1/leases/${encodeURIComponent(leaseId)}/revoke`, reason);
  }

  /** Ends a grant: no token of it works any more, its keys are ended at their vendors. */
  async revokeGrant(grantId: string, reason?: string): Promise<Schemas["Ended"]> {
    this.#tokens.delete(grantId);
    return this.#end(`/v1/grants/${encodeURIComponent(grantId)}/revoke`, reason);
  }

  async #end(path: string, reason: string | undefined): Promise<Schemas["Ended"]> {
    return (await this.#call("POST", path, reason ? { reason } : {})) as Schemas["Ended"];
  }

  /** Any operation of `/openapi.json`: signed, answered with JSON or thrown as {@link Refused}. */
  call(method: string, path: string, body?: unknown, bearer?: Secret): Promise<unknown> {
    return this.#call(method, path, body, bearer, method === "GET");
  }

  /** `again`: whether it may be sent twice. */
  async #call(method: string, path: string, body?: unknown, bearer?: Secret, again = true): Promise<unknown> {
    const headers = new Headers({ accept: "application/json" });
    if (body !== undefined) headers.set("content-type", "application/json");
    if (bearer) headers.set("authorization", `Bearer ${bearer.expose()}`);
    const bytes = body === undefined ? new Uint8Array() : new TextEncoder().encode(JSON.stringify(body));
    const out = { method, url: new URL(path, this.url).href, headers, body: bytes };
    return checked(await this.#send(out, again));
  }

  /** Forgets all keys and tokens. */
  close(): void {
    this.#cache.clear();
    this.#tokens.clear();
  }

  async #signed(request: Request): Promise<Response> {
    const body = new Uint8Array(await request.arrayBuffer());
    return this.#send({ method: request.method, url: request.url, headers: new Headers(request.headers), body });
  }

  async #send(out: Outgoing, again = out.method === "GET"): Promise<Response> {
    if (new URL(out.url).origin !== this.url) throw new TypeError(`${out.url} is not at ${this.url}`);
    try {
      if (this.#sessions) return await this.#sessions.send(out);
      if (this.#key) signWithKey(out, this.#key);
      return await this.#once(out);
    } catch (error) {
      // A server closes a connection that was idle at the very moment it is used.
      if (again && broke(error)) return this.#send(out, false);
      throw error;
    }
  }

  async #once({ method, url, headers, body }: Outgoing): Promise<Response> {
    const signal = AbortSignal.timeout(this.#timeout);
    try {
      return await fetch(url, { method, headers, redirect: "manual", signal, ...(body.length > 0 && { body }) });
    } catch (error) {
      throw new Unreachable(`${this.url} cannot be reached or did not answer in time`, { cause: error });
    }
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Dekeys(${this.url}, ${this.publicKey ?? "no key"})`;
  }

  toJSON(): unknown {
    return { url: this.url, publicKey: this.publicKey };
  }
}

/** Whether a connection broke before an answer came. */
function broke(error: unknown): boolean {
  const cause = error instanceof Unreachable ? (error.cause as Error | undefined) : undefined;
  const codes = [cause, cause?.cause].map((one) => (one as { code?: string } | undefined)?.code ?? "");
  return codes.some((code) => ["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"].includes(code));
}

/** A server's origin. Warns where tokens and keys could be read on the way. */
function address(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.pathname !== "/") {
    throw new TypeError(`${text} is not an address such as https://dekeys.example.org`);
  }
  if (url.search || url.hash || url.username || url.password) {
    throw new TypeError("an address has no query, fragment, user or password");
  }
  const loopback = url.hostname === "localhost" || url.hostname === "[::1]" || url.hostname.startsWith("127.");
  if (url.protocol === "http:" && !loopback) {
    process.emitWarning(`${text}: tokens and keys can be read on the way; use https`);
  }
  return url.origin;
}

async function toVendor(request: Request, body: ArrayBuffer | undefined, key: Resolved): Promise<Response> {
  const url = new URL(request.url);
  const home = new URL(key.baseUrl);
  if (url.origin !== home.origin) throw new TypeError(`the key of ${key.reference} belongs to ${home.host}, not to ${url.host}`);
  const headers = new Headers(request.headers);
  for (const [name, value] of Object.entries(key.headers())) headers.set(name, value);
  for (const [name, value] of Object.entries(key.params())) url.searchParams.set(name, value);
  const { method, signal } = request;
  // A redirect is handed on: the key goes to no other place.
  return fetch(url, { method, headers, signal, redirect: "manual", ...(body && { body }) });
}

/** A token's text, without the line end of the file it came from. */
function textOf(token: string | Secret): string {
  const text = exposed(token).trim();
  if (!/^[A-Za-z0-9_=-]+$/.test(text)) throw new TokenRefused("malformed", "this is not a dekeys token");
  return text;
}

/** What exists not, or belongs to others, is answered like an address that the server does not know; but for words. */
function unsupported(error: unknown, what: string): Error {
  if (!(error instanceof NotFound) || !error.detail.includes("path")) return error as Error;
  return new Unsupported(`this dekeys server is too old ${what}`, { cause: error });
}

function foreign(): ForeignAnswer {
  return new ForeignAnswer("the answer is not one of `POST /v1/resolve`");
}

function fail(error: Error): never {
  throw error;
}
