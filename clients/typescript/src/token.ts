// Tokens in the hands of their holder: narrowed, read and verified offline.
import type * as Library from "@biscuit-auth/biscuit-wasm";

import { biscuit, type Biscuit } from "./biscuit.js";
import { TokenRefused } from "./errors.js";
import type { Condition } from "./expression.js";
import { unbase64url } from "./keyfile.js";
import { decode, encode, walk, type Check, type Walked } from "./profile.js";
import { exposed, Secret } from "./secret.js";

/** The longest pin that dekeys accepts, in seconds, and what {@link pin} takes unless told otherwise. */
export const LONGEST_PIN = 300;
/** A token that keeps to the profile takes far less than a millisecond: the time is for a machine that does not get on. */
const LIMITS = { max_facts: 256, max_iterations: 20, max_time_micro: 5_000_000 };
const FACTS: Readonly<Record<string, string[]>> = {
  instance: ["string"],
  grant: ["string"],
  principal: ["string"],
  holder: ["string"],
  expires: ["number"],
  right: ["string", "string"],
};

/** The public keys of one instance, as `/.well-known/dekeys-keys.json` gives them. They are believed: fetch them over TLS. */
export interface PublicKeys {
  /** The instance's id. */
  instance: string;
  /** The keys that sign tokens, by root key id: `ed25519:…`. */
  roots: ReadonlyMap<number, string>;
  /** The key that signs the log and the revocation feed, as C2SP writes verifier keys. */
  log?: string;
  /** All keys the log ever had; `endorsed` is the signature by which the key before names this one. */
  logs?: readonly LogTerm[];
}

/** A key of the log, and since when it signs. */
export interface LogTerm {
  public_key: string;
  from: string;
  endorsed?: string;
}

/** What a token says. Nothing here lets anybody use it. */
export interface Claims {
  /** Test tokens reach only test vendors. */
  livemode: boolean;
  instance: string;
  grant: string;
  /** Whose grant it is. */
  principal: string;
  /** The key its holder signs with; `undefined` is bearer class. */
  holder: string | undefined;
  /** `dk://vendor/scope` of everything the grant allows. */
  rights: string[];
  /** The prims it was minted for; empty is any. */
  audience: string[];
  /** When it ends, all blocks considered. */
  until: Date;
  /** The prim that an added block pins it to, and until when. */
  pinned: string | undefined;
  pinnedUntil: Date | undefined;
  /** Revoking one of these ends the token. Hexadecimal, one for each block. */
  revocationIds: string[];
}

/** What a narrower token may still do. What is absent is not narrowed. */
export interface Narrowing {
  prims?: string[];
  vendors?: string[];
  scopes?: string[];
  /** `resolve`, `forward`, `manage`. */
  uses?: string[];
  /** Compared byte by byte; forwarding only. */
  methods?: string[];
  /** At most 4, compared byte by byte: end one with `/` to mean a folder. Forwarding only. */
  pathPrefixes?: string[];
  /** Seconds from now. */
  ttl?: number;
}

/** One use that a token is checked for. */
export interface Use {
  /** `resolve` unless said otherwise. */
  use?: "resolve" | "forward" | "manage";
  /** Which prim asks. */
  prim?: string;
  method?: string;
  path?: string;
  /** The time, if not now. */
  now?: Date;
}

/** Reads what `/.well-known/dekeys-keys.json` answers; members that are not known here do not matter. Throws {@link TokenRefused}. */
export function parseKeys(document: unknown): PublicKeys {
  const { instance, token_roots, log, logs } = (document ?? {}) as Record<string, unknown>;
  const roots = Array.isArray(token_roots) ? token_roots : [];
  const good = roots.every((root) => Number.isSafeInteger(root?.id) && typeof root.public_key === "string");
  if (typeof instance !== "string" || roots.length === 0 || !good) {
    throw new TokenRefused("malformed", "this is no document of public keys");
  }
  const found = new Map(roots.map((root) => [root.id as number, root.public_key as string]));
  return { instance, roots: found, ...(typeof log === "string" && { log }), ...(Array.isArray(logs) && { logs }) };
}

/** Reads a token without believing it: signatures are not checked. Throws {@link TokenRefused}. */
export function read(token: string | Secret): Claims {
  const [prefix, data] = decode(exposed(token).trim());
  return claimsOf(prefix, walk(data));
}

/**
 * Adds a block that allows less. Needs no server and no private key. Throws {@link TokenRefused} for a token that is
 * none of this instance's, or that nothing can be added to.
 */
export async function narrow(token: string | Secret, keys: PublicKeys, less: Narrowing): Promise<Secret> {
  const library = await biscuit();
  const [prefix, data] = decode(exposed(token).trim());
  const [verified, walked] = verifiedOf(library, data, keys);
  if (walked.sealed) throw new TokenRefused("narrowed", "the token is final: it cannot be narrowed further");
  const checks = checksOf(library, less);
  if (checks.length === 0) return new Secret(encode(prefix, data));
  const block = new library.BlockBuilder();
  for (const check of checks) block.addCheck(check);
  const narrower = verified.appendBlock(block).toBytes();
  walk(narrower);
  return new Secret(encode(prefix, narrower));
}

/**
 * Narrows a token to one prim, as that prim needs it to resolve: for at most 300 seconds, and for what else `less`
 * says. Throws {@link RangeError} for a longer time.
 */
export function pin(token: string | Secret, keys: PublicKeys, prim: string, less: Narrowing = {}): Promise<Secret> {
  const ttl = less.ttl ?? LONGEST_PIN;
  if (!(ttl > 0 && ttl <= LONGEST_PIN)) throw new RangeError("a pin lasts at most 300 seconds");
  return narrow(token, keys, { ...less, prims: [prim], ttl });
}

/**
 * Checks a token offline: shape, signatures, instance, time, and that it allows what is asked. `reference`
 * (`dk://vendor/scope`) must be given unless the use is `manage`. Throws {@link TokenRefused}.
 *
 * Not checked: whether it was revoked (see {@link Verifier}), and what its grant has left.
 */
export async function verify(
  token: string | Secret,
  keys: PublicKeys,
  reference: string | undefined,
  asked: Use = {},
): Promise<Claims> {
  const library = await biscuit();
  const [prefix, data] = decode(exposed(token).trim());
  const [verified, walked] = verifiedOf(library, data, keys);
  const claims = claimsOf(prefix, walked);
  if (claims.instance !== keys.instance) {
    throw new TokenRefused("foreign_instance", "the token belongs to another dekeys instance");
  }
  inTime(walked, claims, asked.now ?? new Date());
  authorize(library, verified, claims, reference, asked);
  return claims;
}

type Checks = Library.Check[];

function checksOf(library: Biscuit, less: Narrowing): Checks {
  const words: [string, string[] | undefined][] = [
    ["ask_prim", less.prims],
    ["ask_vendor", less.vendors],
    ["ask_scope", less.scopes],
    ["ask_use", less.uses],
    ["ask_method", less.methods],
  ];
  const checks = words.flatMap(([predicate, some]) => (some?.length ? [oneOf(library, predicate, some)] : []));
  if (less.pathPrefixes?.length) {
    const begins = less.pathPrefixes.map((_, n) => `ask_path($query), $query.starts_with({p${n}})`);
    const check = library.Check.fromString(`check if ${begins.join(" or ")}`);
    less.pathPrefixes.forEach((prefix, n) => check.set(`p${n}`, prefix));
    checks.push(check);
  }
  if (less.ttl !== undefined) {
    const until = new Date(Date.now() + less.ttl * 1000);
    checks.push(filled(library.Check, "check if time($query), $query < {it}", date(until)));
  }
  return checks;
}

function oneOf(library: Biscuit, predicate: string, some: string[]): Library.Check {
  const [only, ...more] = some;
  if (more.length === 0) return filled(library.Check, `check if ${predicate}({it})`, only);
  return filled(library.Check, `check if ${predicate}($query), {it}.contains($query)`, { set: [...new Set(some)] });
}

/** Parses our own text and puts a value in: what callers give is never parsed. */
function filled<T extends { set(name: string, value: unknown): void }>(
  kind: { fromString(source: string): T },
  source: string,
  it: unknown,
): T {
  const made = kind.fromString(source);
  made.set("it", it);
  return made;
}

/** Whole seconds, rounded down. */
function date(at: Date): { date: string } {
  return { date: at.toISOString().replace(/\.\d+Z$/, "Z") };
}

/** Profile, root key, signatures, in this order. */
function verifiedOf(library: Biscuit, data: Uint8Array, keys: PublicKeys): [Library.Biscuit, Walked] {
  const walked = walk(data);
  const text = walked.rootKeyId === undefined ? undefined : keys.roots.get(walked.rootKeyId);
  const raw = unbase64url(text?.replace(/^ed25519:/, "") ?? "");
  if (raw?.length !== 32) {
    throw new TokenRefused("unknown_root", "the token was signed with a root key that is not in use");
  }
  try {
    const root = library.PublicKey.fromBytes(raw, library.SignatureAlgorithm.Ed25519);
    return [library.Biscuit.fromBytes(data, root), walked];
  } catch {
    throw new TokenRefused("signature", "a signature of the token is wrong");
  }
}

function authorize(
  library: Biscuit,
  verified: Library.Biscuit,
  claims: Claims,
  reference: string | undefined,
  asked: Use,
): void {
  const use = asked.use ?? "resolve";
  if (reference === undefined && use !== "manage") {
    throw new TokenRefused("not_granted", "say what the token is wanted for: a reference such as dk://openai/chat:write");
  }
  const [vendor, scope] = reference === undefined ? [] : partsOf(reference);
  const builder = new library.AuthorizerBuilder();
  const facts = { use, prim: asked.prim, vendor, scope, method: asked.method, path: asked.path };
  for (const [subject, word] of Object.entries(facts)) {
    if (word !== undefined) builder.addFact(filled(library.Fact, `ask_${subject}({it})`, word));
  }
  builder.addFact(filled(library.Fact, "time({it})", date(asked.now ?? new Date())));
  const right = reference === undefined ? "grant({grant})" : "right({vendor}, {scope})";
  const policy = library.Policy.fromString(`allow if instance({instance}), ${right} trusting authority`);
  policy.set("instance", claims.instance);
  if (reference === undefined) policy.set("grant", claims.grant);
  else [["vendor", vendor] as const, ["scope", scope] as const].forEach(([name, word]) => policy.set(name, word));
  builder.addPolicy(policy);
  try {
    builder.buildAuthenticated(verified).authorizeWithLimits(LIMITS);
  } catch (error) {
    if (error !== null && typeof error === "object" && "RunLimit" in error) {
      throw new TokenRefused("timed_out", "checking the token took too long; this says nothing about it");
    }
    const mintedFor = claims.audience.length === 0 || use === "manage" || claims.audience.includes(asked.prim ?? "");
    const granted = reference === undefined || claims.rights.includes(reference);
    if (mintedFor && granted) throw new TokenRefused("narrowed", "a block that was added to the token forbids this");
    throw new TokenRefused("not_granted", "the token gives no right to this");
  }
}

function partsOf(reference: string): [vendor: string, scope: string] {
  const found = /^dk:\/\/([^/]+)\/(.+)$/.exec(reference);
  if (!found?.[1] || !found[2]) throw new TypeError(`${reference} is not a reference such as dk://openai/chat:write`);
  return [found[1], found[2]];
}

function inTime(walked: Walked, claims: Claims, now: Date): void {
  if (claims.until <= now) throw expired(claims);
  const begins = conditions(walked.blocks[0] ?? []).flatMap((one) => (one.kind === "from" ? [one.at] : []));
  if (begins.some((at) => now.getTime() < at * 1000)) throw new TokenRefused("not_yet", "the token is not valid yet");
}

/** The refusal of a token whose time is over. */
export function expired(claims: Claims): TokenRefused {
  return new TokenRefused("expired", `the token expired at ${date(claims.until).date}`);
}

/** Reads the authority block back; one that dekeys does not mint is refused. */
function claimsOf(prefix: string, walked: Walked): Claims {
  for (const { name, terms } of walked.facts) {
    const shape = terms.map((term) => typeof term).join();
    if (!Object.hasOwn(FACTS, name) || FACTS[name]?.join() !== shape) throw notMinted("it states other facts");
  }
  const [authority = [], ...added] = walked.blocks;
  const all = (name: string): string[][] =>
    walked.facts.filter((fact) => fact.name === name).map((fact) => fact.terms.map(String));
  const one = (name: string): string => {
    const [terms, ...more] = all(name);
    if (!terms?.[0] || more.length > 0) throw notMinted("it needs one instance, one grant, one principal and one end");
    return terms[0];
  };
  const rights = all("right").map(([vendor, scope]) => `dk://${vendor}/${scope}`);
  if (rights.length === 0 || walked.rootKeyId === undefined) throw notMinted("it gives no right");
  const expires = Number(one("expires"));
  return {
    livemode: prefix === "dkt_live_",
    instance: one("instance"),
    grant: one("grant"),
    principal: one("principal"),
    holder: all("holder").length === 0 ? undefined : one("holder"),
    rights,
    audience: audienceOf(authority, expires),
    until: moment(Math.min(expires, ...walked.blocks.flatMap(bounds))),
    ...pinOf(added),
    revocationIds: walked.revocationIds,
  };
}

/** The two mandatory checks, the audience if there is one, and nothing else. */
function audienceOf(checks: Check[], expires: number): string[] {
  let [times, uses] = [0, 0];
  const audiences: string[][] = [];
  for (const check of checks) {
    const shape = check.map((all) => all.map((one) => `${one.kind} ${one.subject}`).join(" & ")).join(" | ");
    const [first, second] = [check[0]?.[0], check[1]?.[0]];
    const end = check[0]?.[1];
    if (shape === "from time & before time" && end?.kind === "before" && end.at === expires) times += 1;
    else if (shape === "is use") uses += 1;
    else if (shape === "is prim | is use" && first?.kind === "is" && second?.kind === "is" && second.words.join() === "manage") {
      audiences.push(first.words);
    } else throw notMinted("it has other checks");
  }
  if (times !== 1 || uses !== 1 || audiences.length > 1) throw notMinted("it does not check time and use once each");
  return audiences[0] ?? [];
}

/** The last block that names exactly one prim, and the earliest end of those that do. */
function pinOf(added: Check[][]): { pinned: string | undefined; pinnedUntil: Date | undefined } {
  let pinned: string | undefined;
  const ends: number[] = [];
  for (const checks of added) {
    const prim = checks.map(onePrim).find((name) => name !== undefined);
    if (prim === undefined) continue;
    pinned = prim;
    const all = bounds(checks);
    if (all.length > 0) ends.push(Math.min(...all));
  }
  return { pinned, pinnedUntil: ends.length > 0 ? moment(Math.min(...ends)) : undefined };
}

function onePrim(check: Check): string | undefined {
  if (check.length !== 1) return undefined;
  const found = check[0]?.find((one) => one.kind === "is" && one.subject === "prim" && one.words.length === 1);
  return found?.kind === "is" ? found.words[0] : undefined;
}

/** For each check that must end: the time from which on it cannot hold. */
function bounds(checks: Check[]): number[] {
  return checks.flatMap((check) => {
    const ends = check.map((all) => all.flatMap((one) => (one.kind === "before" ? [one.at] : [])));
    return ends.every((of) => of.length > 0) ? [Math.max(...ends.map((of) => Math.min(...of)))] : [];
  });
}

function conditions(checks: Check[]): Condition[] {
  return checks.flat(2);
}

function moment(seconds: number): Date {
  return new Date(Math.min(seconds * 1000, 8.64e15));
}

function notMinted(words: string): TokenRefused {
  return new TokenRefused("profile", `the token breaks the profile: block 0 is not one that dekeys mints: ${words}`);
}
