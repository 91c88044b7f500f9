// HTTP message signatures (RFC 9421) as dekeys asks for them: Ed25519 with a key file, HMAC-SHA256 in a session.
import { createHash, createHmac, randomBytes } from "node:crypto";

import { base64url, unbase64url, type KeyFile } from "./keyfile.js";

const TAG = "dekeys";
/** A session is left for a new one so many milliseconds before its end. */
const SESSION_MARGIN = 20_000;

/** A request whose body is at hand. */
export interface Outgoing {
  method: string;
  url: string;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
}

/** Sends a request as it is. */
export type Send = (request: Outgoing) => Promise<Response>;

interface Signer {
  keyid: string;
  nonce: string;
  algorithm: string;
  make: (base: Uint8Array) => Uint8Array;
}

/**
 * Puts `content-digest`, `signature-input` and `signature` among the headers. Covered are method, authority, path,
 * query, body and `authorization`; other headers are not.
 */
export function signWithKey(request: Outgoing, key: KeyFile): void {
  const nonce = base64url(randomBytes(18));
  sign(request, { keyid: key.public, nonce, algorithm: "ed25519", make: (base) => key.sign(base) });
}

function sign(request: Outgoing, signer: Signer): void {
  const url = new URL(request.url);
  request.headers.set("content-digest", `sha-256=:${createHash("sha256").update(request.body).digest("base64")}:`);
  const values: [string, string | null][] = [
    ["@method", request.method],
    ["@authority", url.host],
    ["@path", url.pathname],
    ["@query", url.search || null],
    ["content-digest", request.headers.get("content-digest")],
    ["authorization", request.headers.get("authorization")],
  ];
  const covered = values.filter(([, value]) => value !== null);
  const names = covered.map(([name]) => `"${name}"`).join(" ");
  const created = Math.floor(Date.now() / 1000);
  const input = `(${names});created=${created};nonce="${signer.nonce}";keyid="${signer.keyid}";alg="${signer.algorithm}";tag="${TAG}"`;
  const lines = covered.map(([name, value]) => `"${name}": ${value}`);
  const base = Buffer.from([...lines, `"@signature-params": ${input}`].join("\n"));
  request.headers.set("signature-input", `${TAG}=${input}`);
  request.headers.set("signature", `${TAG}=:${Buffer.from(signer.make(base)).toString("base64")}:`);
}

/**
 * Signs once with the key, and then more cheaply inside a session of five minutes (`POST /v1/sessions`).
 *
 * A session lives in the memory of one server: when it is not known there any more, a new one is opened; when that is
 * not known either (several servers behind one address), requests are signed with the key from then on.
 */
export class Sessions {
  readonly #key: KeyFile;
  readonly #url: string;
  readonly #send: Send;
  #session: Promise<Session | undefined> | undefined;
  #useless = false;

  constructor(key: KeyFile, url: string, send: Send) {
    this.#key = key;
    this.#url = url;
    this.#send = send;
  }

  /** Signs and sends, and signs again when the session is gone. */
  async send(request: Outgoing): Promise<Response> {
    for (const attempt of [1, 2]) {
      const session = await this.#current();
      if (session === undefined) break;
      session.sign(request);
      const answer = await this.#send(request);
      if (!(await namesNoSession(answer))) return answer;
      this.#useless ||= attempt === 2;
      session.until = 0;
    }
    signWithKey(request, this.#key);
    return this.#send(request);
  }

  async #current(): Promise<Session | undefined> {
    if (this.#useless) return undefined;
    const last = this.#session;
    const kept = await last?.catch(() => undefined);
    if (kept && kept.until > performance.now()) return kept;
    // The first opens one, the others wait for the same.
    if (this.#session === last) this.#session = this.#open();
    return this.#session;
  }

  async #open(): Promise<Session | undefined> {
    const headers = new Headers({ "content-type": "application/json", accept: "application/json" });
    const opening: Outgoing = { method: "POST", url: `${this.#url}/v1/sessions`, headers, body: Buffer.from('{"use":"sign"}') };
    signWithKey(opening, this.#key);
    const answer = await this.#send(opening);
    const session = answer.status === 201 ? Session.read(await answer.json()) : undefined;
    // Whoever may not open sessions signs each request.
    this.#useless = session === undefined;
    return session;
  }
}

class Session {
  readonly #id: string;
  readonly #key: Uint8Array;
  #count = 0;
  /** By `performance.now()`. */
  until: number;

  private constructor(id: string, key: Uint8Array, until: number) {
    this.#id = id;
    this.#key = key;
    this.until = until;
  }

  static read(body: { session_id?: string | null; secret: string; expires: string }): Session | undefined {
    const key = unbase64url(body.secret);
    if (!key || !body.session_id) return undefined;
    const life = Math.min(Date.parse(body.expires) - Date.now(), 300_000);
    return new Session(body.session_id, key, performance.now() + life - SESSION_MARGIN);
  }

  sign(request: Outgoing): void {
    this.#count += 1;
    const make = (base: Uint8Array): Uint8Array => createHmac("sha256", this.#key).update(base).digest();
    sign(request, { keyid: this.#id, nonce: String(this.#count), algorithm: "hmac-sha256", make });
  }
}

async function namesNoSession(answer: Response): Promise<boolean> {
  if (answer.status !== 401) return false;
  const body: unknown = await answer.clone().json().catch(() => undefined);
  return (body as { code?: string } | undefined)?.code === "signature_invalid";
}
