// Checking tokens without asking: with the published keys, and with what the revocation feed told.
//
// It fails closed: when what is known of the feed is older than five seconds, no token is good, because one that ended
// might be among them. Clocks must agree: the age is counted from the time the instance signed to the time here. Not
// known here: how many uses a grant has left, and whether its policy still names the prim.
import { createHash, createPublicKey, verify as verifySignature, type KeyObject } from "node:crypto";

import { DekeysError, TokenRefused } from "./errors.js";
import { base64url, unbase64url } from "./keyfile.js";
import type { Secret } from "./secret.js";
import { verify, type Claims, type LogTerm, type PublicKeys, type Use } from "./token.js";

/** The header of an answer that carries the statement about its body. */
export const STATEMENT = "dekeys-statement";
const TYPE = "dekeys-revocations+jwt";
/** Clocks of the server and here may differ by so many milliseconds. */
const CLOCKS_DIFFER = 30_000;

/** A page of the revocation feed that is not believed. What was known before stays. */
export class FeedRefused extends DekeysError {}

/** What ended early. */
export type Ended = "token" | "grant" | "lease";

/** What a verifier is made with. */
export interface VerifierOptions {
  /**
   * How old the feed may be, in milliseconds; 5,000 if absent. A longer one keeps a service up while the instance is
   * out of reach, and lets tokens live on for as long after they were ended.
   */
  maxAge?: number;
  /** Is told of everything that ends. */
  onEnd?: (kind: Ended, id: string) => void;
}

interface Page {
  instance: string;
  incarnation: string;
  after: number;
  next: number;
  has_more: boolean;
  data: { kind: Ended; id: string; until: string }[];
}

interface Statement {
  iss: string;
  now: number;
  digest: string;
}

/**
 * Checks the tokens of one instance. {@link Dekeys.verifier} gives one that follows the feed by itself; until the feed
 * was read no token is good.
 */
export class Verifier {
  /** The instance's keys, fetched over TLS and kept. */
  keys: PublicKeys;
  /** Whether a token named a root key that is not known: the keys should be fetched again. */
  wantsKeys = false;
  readonly maxAge: number;
  readonly #onEnd: ((kind: Ended, id: string) => void) | undefined;
  /** The log's key, and the one before while it still signs. */
  #logs: KeyObject[];
  #incarnation: string | undefined;
  #after = 0;
  #last: string | undefined;
  #ended = new Map<string, number>();
  #asOf: number | undefined;

  constructor(keys: PublicKeys, options: VerifierOptions = {}) {
    this.keys = keys;
    this.maxAge = options.maxAge ?? 5_000;
    this.#onEnd = options.onEnd;
    this.#logs = [logKey(keys.log ?? "")];
  }

  /**
   * Checks a token for one use, as `verify` does, and that it was not revoked. Throws {@link TokenRefused}, with the
   * reason `revoked` or `feed_stale` beside those of `verify`.
   */
  async check(token: string | Secret, reference: string | undefined, asked: Use = {}): Promise<Claims> {
    this.#refuseStale();
    const claims = await verify(token, this.keys, reference, asked).catch((error: unknown) => {
      this.wantsKeys ||= error instanceof TokenRefused && error.reason === "unknown_root";
      throw error;
    });
    const ofToken = claims.revocationIds.some((id) => this.#ended.has(`token ${id}`));
    if (ofToken || this.#ended.has(`grant ${claims.grant}`)) throw new TokenRefused("revoked", "the token was revoked");
    return claims;
  }

  #refuseStale(): void {
    if (this.age === undefined || this.age > this.maxAge) {
      throw new TokenRefused("feed_stale", "the revocation feed was not heard for too long, so no token is good now");
    }
  }

  /** Whether a lease was ended early, as far as is known. */
  hasEndedLease(leaseId: string): boolean {
    return this.#ended.has(`lease ${leaseId}`);
  }

  /** How old what is known is, in milliseconds; `undefined` while it is not complete, or its time cannot be right. */
  get age(): number | undefined {
    if (this.#asOf === undefined || this.#asOf > Date.now() + CLOCKS_DIFFER) return undefined;
    return Math.max(0, Date.now() - this.#asOf);
  }

  /** The next request of the feed: its path, and its headers. */
  ask(): { path: string; headers: Record<string, string> } {
    const headers: Record<string, string> = this.#last === undefined ? {} : { "if-none-match": `"${this.#last}"` };
    return { path: `/v1/revocations?after=${this.#after}`, headers };
  }

  /**
   * Takes an answer: a page (200) or that nothing changed (304). Answers whether more is there already. Believed is the
   * statement's signature alone, however the answer came. Throws {@link FeedRefused}.
   */
  take(status: number, body: Uint8Array, statement: string): boolean {
    const said = this.#open(statement);
    if (status === 304) {
      if (this.#last !== said.digest) throw new FeedRefused("the statement is about another page");
      this.#asOf = Math.max(this.#asOf ?? 0, said.now);
      return false;
    }
    if (createHash("sha256").update(body).digest("base64url") !== said.digest) {
      throw new FeedRefused("the page is not the one its statement is about");
    }
    return this.#page(readPage(body), said);
  }

  #page(page: Page, said: Statement): boolean {
    if (page.instance !== this.keys.instance) throw new FeedRefused("the page is of another instance");
    if (this.#incarnation !== undefined && this.#incarnation !== page.incarnation) {
      // A restored database: what was known is kept, and everything is read again.
      this.#incarnation = page.incarnation;
      [this.#after, this.#last, this.#asOf] = [0, undefined, undefined];
      return true;
    }
    if (page.after > this.#after) throw new FeedRefused("the page does not follow what was read before");
    this.#incarnation = page.incarnation;
    // Rather twice than not at all: an older page adds nothing and takes nothing away.
    this.#last = page.after === page.next && page.after === this.#after ? said.digest : undefined;
    this.#after = Math.max(this.#after, page.next);
    for (const [name, until] of this.#ended) if (until <= said.now) this.#ended.delete(name);
    for (const { kind, id, until } of page.data) {
      const name = `${kind} ${id}`;
      const known = this.#ended.has(name);
      this.#ended.set(name, Date.parse(until));
      if (!known) this.#onEnd?.(kind, id);
    }
    if (!page.has_more && page.next >= this.#after) this.#asOf = Math.max(this.#asOf ?? 0, said.now);
    return page.has_more;
  }

  /**
   * Takes the instance's keys again. Those of another instance, or another log, are not taken; a log's new key is when the
   * known one names it.
   */
  renewKeys(keys: PublicKeys): void {
    const [known, wanted] = [this.keys.log ?? "", keys.log ?? ""];
    if (keys.instance === this.keys.instance && leads(keys.logs ?? [], known, wanted)) {
      if (wanted !== known) this.#logs = [logKey(wanted), ...this.#logs.slice(0, 1)];
      this.keys = keys;
    }
    this.wantsKeys = false;
  }

  /** Checks the statement: a compact JWS by the log's key (RFC 7515, RFC 8037). */
  #open(statement: string): Statement {
    const parts = statement.length <= 4096 ? statement.split(".") : [];
    const [header, claims, signature] = parts.map(unbase64url);
    if (parts.length !== 3 || !header || !claims || !signature) {
      throw new FeedRefused("the answer carries no signed statement");
    }
    const signed = Buffer.from(`${parts[0]}.${parts[1]}`);
    if (!this.#logs.some((log) => verifySignature(null, signed, log, signature))) {
      throw new FeedRefused("the statement is not signed by the instance's log");
    }
    const [said, read] = [json(header) as { alg?: unknown; typ?: unknown }, json(claims) as Partial<Statement>];
    const good = said?.alg === "EdDSA" && said.typ === TYPE && read?.iss === this.keys.instance;
    if (!good || !Number.isSafeInteger(read.now) || typeof read.digest !== "string") {
      throw new FeedRefused("the statement is about something else");
    }
    return read as Statement;
  }
}

function readPage(body: Uint8Array): Page {
  const page = json(body) as Partial<Page> | undefined;
  const entry = (one: Partial<Page["data"][0]> | null): boolean =>
    typeof one?.kind === "string" && typeof one.id === "string" && !Number.isNaN(Date.parse(one.until ?? ""));
  const numbers = Number.isSafeInteger(page?.after) && Number.isSafeInteger(page?.next);
  const texts = typeof page?.instance === "string" && typeof page.incarnation === "string";
  const rest = typeof page?.has_more === "boolean" && Array.isArray(page.data) && page.data.every(entry);
  if (!numbers || !texts || !rest) throw new FeedRefused("this is not a page of the revocation feed");
  return page as Page;
}

function json(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** Reads a verifier key of C2SP signed notes: `name+hash+base64`, the first byte for Ed25519 being 1. */
/** Whether the log's keys lead from one to another, each named by the one before it. */
function leads(terms: readonly LogTerm[], known: string, wanted: string): boolean {
  let at: string | undefined = known;
  for (let steps = 0; steps < terms.length && at !== undefined && at !== wanted; steps += 1) {
    const old: string = at;
    at = terms.find((term) => names(old, term))?.public_key;
  }
  return at === wanted;
}

/** Whether the key `old` signed that this one follows it: fields with their lengths before them. */
function names(old: string, term: LogTerm): boolean {
  const signature = unbase64url(term.endorsed ?? "");
  const since = Math.floor(Date.parse(term.from) / 1000);
  if (!signature?.length || !Number.isSafeInteger(since) || old.split("+")[0] !== term.public_key.split("+")[0]) {
    return false;
  }
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(value));
    return bytes;
  };
  const fields = ["dekeys.log-succession.v1", old, term.public_key].map((text) => Buffer.from(text));
  const message = [...fields, number(since)].flatMap((field) => [number(field.length), field]);
  return verifySignature(null, Buffer.concat(message), logKey(old), signature);
}

function logKey(text: string): KeyObject {
  const raw = Buffer.from(/^[^+]+\+[^+]+\+(.+)$/.exec(text)?.[1] ?? "", "base64");
  if (raw.length !== 33 || raw[0] !== 1) {
    throw new TokenRefused("malformed", "the document of public keys names no key of the log");
  }
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: base64url(raw.subarray(1)) }, format: "jwk" });
}
