// Keys that were resolved, and the memory of those whose lease still runs.
import { createHash } from "node:crypto";

import { ForeignAnswer } from "./errors.js";
import { Secret } from "./secret.js";

/** Keys whose lease is over stay in memory no longer than so many milliseconds, while others come. */
const SWEEP = 60_000;

/** Where a key stands in a request, as the server writes it. */
export type Place =
  | { header: string; format: string }
  | { query: string; format: string }
  | { basic_user: string; basic_password: string };

/** One entry of the answer to `POST /v1/resolve`. */
export interface Entry {
  object: "resolution" | "problem";
  reference: string;
  lease_id: string;
  lease_duration: number;
  expires: string;
  event: string;
  unchanged?: boolean;
  credential?: { version: number; fields: Record<string, string>; inject: Place & { base_url: string; also?: Place[] } };
}

interface Parts {
  reference: string;
  leaseId: string;
  expires: Date;
  version: number;
  fields: ReadonlyMap<string, Secret>;
  baseUrl: string;
  places: Place[];
  event: string;
  ends: number;
}

/** A vendor's key for the time of a lease. Prints without the key. */
export class Resolved {
  readonly reference: string;
  readonly leaseId: string;
  /** When the lease ends, by the server's clock. */
  readonly expires: Date;
  /** Counts the keys of this lease. */
  readonly version: number;
  /** The key's fields by name; most keys have the one field `api_key`. */
  readonly fields: ReadonlyMap<string, Secret>;
  /** Where requests to the vendor go. */
  readonly baseUrl: string;
  /** Where the vendor wants its key. */
  readonly places: readonly Place[];
  /** The event on the server's record. */
  readonly event: string;
  readonly #ends: number;

  constructor(parts: Parts) {
    this.reference = parts.reference;
    this.leaseId = parts.leaseId;
    this.expires = parts.expires;
    this.version = parts.version;
    this.fields = parts.fields;
    this.baseUrl = parts.baseUrl;
    this.places = parts.places;
    this.event = parts.event;
    this.#ends = parts.ends;
  }

  /** The key, when it has one field. Throws {@link TypeError} when it has several. */
  get secret(): Secret {
    const [only, ...more] = this.fields.values();
    if (!only || more.length > 0) throw new TypeError(`this key has several fields: ${[...this.fields.keys()].join(", ")}`);
    return only;
  }

  /** An address at the vendor: `path` below {@link Resolved.baseUrl}, whose own path stays. */
  url(path: string): string {
    return `${this.baseUrl.replace(/\/+$/, "")}/${path.replace(/^\/+/, "")}`;
  }

  /** Whether the lease still runs. It may have been revoked all the same. */
  get alive(): boolean {
    return performance.now() < this.#ends;
  }

  /** The headers that carry the key. Do not log them. */
  headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const place of this.places) {
      if ("header" in place) headers[place.header] = this.#filled(place.format);
      if ("basic_user" in place) {
        const pair = `${this.#filled(place.basic_user)}:${this.#filled(place.basic_password)}`;
        headers["Authorization"] = `Basic ${Buffer.from(pair).toString("base64")}`;
      }
    }
    return headers;
  }

  /** The query parameters that carry the key, for vendors that know no other place. */
  params(): Record<string, string> {
    const found = this.places.flatMap((place) => ("query" in place ? [[place.query, this.#filled(place.format)]] : []));
    return Object.fromEntries(found) as Record<string, string>;
  }

  #filled(text: string): string {
    // In one pass: a key that looks like a placeholder is not filled again.
    return text.replace(/\{([a-z0-9_]+)\}/g, (_, name: string) => this.#field(name).expose());
  }

  #field(name: string): Secret {
    const found = this.fields.get(name) ?? (name === "secret" ? this.secret : undefined);
    if (!found) throw new ForeignAnswer(`the vendor's key has no field ${name}`);
    return found;
  }
}

/**
 * Reads one good entry of an answer; `undefined` when it is unchanged and nothing known is left to take. `asked` is
 * when the request began by `performance.now()`: the lease runs from then at the latest.
 */
export function readEntry(entry: Entry, asked: number, known: Resolved | undefined): Resolved | undefined {
  const { reference, lease_id: leaseId, lease_duration: seconds, event, credential } = entry;
  const expires = new Date(entry.expires);
  if (!reference || !leaseId || !Number.isFinite(seconds) || Number.isNaN(expires.getTime())) {
    throw new ForeignAnswer("the answer is not one of `POST /v1/resolve`");
  }
  const lease = { reference, leaseId, expires, event, ends: asked + seconds * 1000 };
  if (!credential) {
    if (known?.leaseId !== leaseId) return undefined;
    const { fields, baseUrl, version } = known;
    return new Resolved({ ...lease, fields, baseUrl, version, places: [...known.places] });
  }
  const fields = new Map(Object.entries(credential.fields).map(([name, value]) => [name, new Secret(value)]));
  const { base_url: baseUrl, also = [], ...first } = credential.inject;
  return new Resolved({ ...lease, fields, baseUrl, version: credential.version, places: [first as Place, ...also] });
}

/** Keys by token and reference, until their lease or their token ends. Holds at most `size`. */
export class Cache {
  readonly #size: number;
  readonly #entries = new Map<string, { resolved: Resolved; tokenEnds: Date }>();
  readonly #ofGrant = new Map<string, Resolved>();
  #swept = performance.now();

  constructor(size: number) {
    this.#size = size;
  }

  /** The key, while lease and token run. */
  get(token: string, reference: string): Resolved | undefined {
    const found = this.#entries.get(nameOf(token, reference));
    return found && found.resolved.alive && new Date() < found.tokenEnds ? found.resolved : undefined;
  }

  /** A live key of the same grant, however its token was narrowed: it need not be sent again. */
  known(grant: string, reference: string): Resolved | undefined {
    const found = this.#ofGrant.get(`${grant} ${reference}`);
    return found?.alive ? found : undefined;
  }

  /** Keeps a key. */
  put(token: string, tokenEnds: Date, grant: string, resolved: Resolved): void {
    this.#entries.set(nameOf(token, resolved.reference), { resolved, tokenEnds });
    this.#ofGrant.set(`${grant} ${resolved.reference}`, resolved);
    if (this.#entries.size > this.#size || performance.now() > this.#swept + SWEEP) this.#trim();
  }

  /** Forgets the keys of a lease. */
  drop(leaseId: string): void {
    this.#keep((resolved) => resolved.leaseId !== leaseId);
  }

  /** Forgets the keys of a grant. */
  dropGrant(grant: string): void {
    const names = [...this.#ofGrant].filter(([name]) => name.startsWith(`${grant} `));
    const leases = new Set(names.map(([, resolved]) => resolved.leaseId));
    this.#keep((resolved) => !leases.has(resolved.leaseId));
  }

  /** Forgets all keys. */
  clear(): void {
    this.#keep(() => false);
  }

  #trim(): void {
    this.#swept = performance.now();
    this.#keep((resolved) => resolved.alive);
    for (const [name, { resolved }] of this.#entries) {
      if (this.#entries.size <= this.#size) return;
      this.#entries.delete(name);
      for (const [grant, kept] of this.#ofGrant) if (kept === resolved) this.#ofGrant.delete(grant);
    }
  }

  #keep(wanted: (resolved: Resolved) => boolean): void {
    for (const [name, { resolved }] of this.#entries) if (!wanted(resolved)) this.#entries.delete(name);
    for (const [name, resolved] of this.#ofGrant) if (!wanted(resolved)) this.#ofGrant.delete(name);
  }
}

function nameOf(token: string, reference: string): string {
  return `${createHash("sha256").update(token).digest("base64")} ${reference}`;
}
