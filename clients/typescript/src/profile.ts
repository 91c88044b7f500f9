// What a token may contain, checked by a walk of its protobuf before any Datalog runs.
//
// Anybody who holds a token may add a block, and a few hundred bytes of Datalog can keep an engine busy for minutes. So
// added blocks may only check, over a fixed list of facts, with operations that always end. Nothing is printed and
// parsed again on the way. The server keeps the same rules; here they are kept so that a token which it would refuse is
// neither made nor believed.
import { TokenRefused } from "./errors.js";
import { Breach, Names, opsOf, read, SUBJECTS, TERM, type Condition } from "./expression.js";
import { base64url, unbase64url } from "./keyfile.js";
import { BYTES, Message, NotPlain, VARINT, type Known } from "./wire.js";

/** The largest token, in bytes before base64url. */
export const MAX_BYTES = 8 * 1024;
const PREFIXES = ["dkt_test_", "dkt_live_"];
const SYMBOLS = (
  "read write resource operation right time role owner tenant namespace user team service admin email group member " +
  "ip_address client client_ip domain path version cluster node hostname nonce query"
).split(" ");
const OFFSET = 1024;
const TOKEN: Known = { 1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES };
const SIGNED: Known = { 1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT };
const PUBLIC: Known = { 1: VARINT, 2: BYTES };
const BLOCK: Known = { 1: BYTES, 2: BYTES, 3: VARINT, 4: BYTES, 5: BYTES, 6: BYTES, 7: BYTES, 8: BYTES };
const RULE: Known = { 1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES };
const PREDICATE: Known = { 1: VARINT, 2: BYTES };

/** One check: alternatives, each of which is conditions that must all hold. */
export type Check = Condition[][];

/** One fact of the authority block. Dates are seconds since 1970; other terms are `undefined`. */
export interface Fact {
  name: string;
  terms: (string | number | undefined)[];
}

/** A token that keeps to the profile. Its signatures were not checked. */
export interface Walked {
  rootKeyId: number | undefined;
  facts: Fact[];
  /** The checks of each block. */
  blocks: Check[][];
  /** Hexadecimal, authority block first. */
  revocationIds: string[];
  /** Nothing can be added to it. */
  sealed: boolean;
}

/** Takes a token's text apart: its prefix and the biscuit. The size is checked before anything is decoded. */
export function decode(token: string): [prefix: string, data: Uint8Array] {
  const prefix = PREFIXES.find((prefix) => token.startsWith(prefix));
  if (prefix === undefined) throw new TokenRefused("malformed", "this is not a dekeys token");
  const encoded = token.slice(prefix.length);
  if (encoded.length > Math.ceil(MAX_BYTES / 3) * 4) throw tooLarge();
  const data = unbase64url(encoded.length % 4 === 0 ? encoded.replace(/={1,2}$/, "") : encoded);
  if (data === undefined) throw new TokenRefused("malformed", "this is not a dekeys token");
  return [prefix, data];
}

/** Puts the text together. */
export function encode(prefix: string, data: Uint8Array): string {
  if (data.length > MAX_BYTES) throw tooLarge();
  return prefix + base64url(data);
}

function tooLarge(): TokenRefused {
  return new TokenRefused("too_large", "the token is larger than 8 KiB");
}

/** Walks the bytes of a token. Throws {@link TokenRefused}. */
export function walk(data: Uint8Array): Walked {
  if (data.length > MAX_BYTES) throw tooLarge();
  const [walked, blocks] = outline(data);
  if (blocks.length > 5) {
    throw new TokenRefused("profile", `the token breaks the profile: ${blocks.length} blocks where 5 may stand`);
  }
  const symbols: (string | undefined)[] = [...SYMBOLS];
  symbols.length = OFFSET;
  // Who signs is looked at for all blocks first: what others wrote is not read.
  blocks.forEach((signed, place) => at(place, () => chained(signed)));
  blocks.forEach((signed, place) => at(place, () => block(signed, symbols, walked, place === 0)));
  return walked;
}

function outline(data: Uint8Array): [Walked, Uint8Array[]] {
  try {
    const token = new Message(data, TOKEN, [3]);
    const [proof] = new Message(token.data(4), { 1: BYTES, 2: BYTES }).one();
    const root = token.number(1);
    const rootKeyId = root === undefined ? undefined : Number(root);
    const walked = { rootKeyId, facts: [], blocks: [], revocationIds: [], sealed: proof === 2 };
    return [walked, [token.data(2), ...token.all(3)]];
  } catch (error) {
    if (error instanceof NotPlain) throw new TokenRefused("malformed", "this is not a dekeys token");
    throw error;
  }
}

function at(place: number, step: () => void): void {
  try {
    step();
  } catch (error) {
    if (!(error instanceof Breach || error instanceof NotPlain)) throw error;
    const why = error instanceof Breach ? error.message : "is not plain protobuf of a biscuit block";
    throw new TokenRefused("profile", `the token breaks the profile: block ${place} ${why}`);
  }
}

function chained(signed: Uint8Array): void {
  const outer = new Message(signed, SIGNED);
  if (outer.has(4)) throw new Breach("was signed by a third party");
  if (new Message(outer.data(2), PUBLIC).number(1) !== 0n) throw new Breach("hands on to a key that is not Ed25519");
}

function block(signed: Uint8Array, symbols: (string | undefined)[], walked: Walked, authority: boolean): void {
  const outer = new Message(signed, SIGNED);
  const inner = new Message(outer.data(1), BLOCK, [1, 4, 5, 6, 7, 8]);
  const version = inner.number(3);
  if (version === undefined || version < 3n || version > 6n) {
    throw new Breach("has a Datalog version that is not known here");
  }
  for (const symbol of inner.all(1)) {
    const text = utf8(symbol);
    if (symbols.includes(text)) throw new Breach("repeats symbols");
    symbols.push(text);
  }
  if (inner.has(5)) throw new Breach("has rules");
  if (inner.has(7)) throw new Breach("says whom to trust");
  if (inner.has(8)) throw new Breach("names public keys");
  if (authority) walked.facts.push(...facts(inner, symbols));
  else if (inner.has(4)) throw new Breach("states facts");
  const checks = inner.all(6);
  if (checks.length > 8) throw new Breach(`has ${checks.length} checks where 8 may stand`);
  walked.blocks.push(checks.map((check) => checkOf(check, symbols, authority)));
  walked.revocationIds.push(Buffer.from(outer.data(3)).toString("hex"));
}

function utf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new NotPlain();
  }
}

function facts(block: Message, symbols: (string | undefined)[]): Fact[] {
  const found = block.all(4);
  if (found.length > 64) throw new Breach(`states ${found.length} facts where 64 may stand`);
  const names = new Names(symbols, true);
  return found.map((fact) => {
    const predicate = new Message(new Message(fact, { 1: BYTES }).data(1), PREDICATE, [2]);
    const terms = predicate.all(2).map((term) => {
      const [number, value] = new Message(term, TERM).one();
      if (typeof value !== "bigint") return undefined;
      return number === 3 ? names.symbol(value) : number === 4 ? Number(value) : undefined;
    });
    return { name: nameOf(predicate, names), terms };
  });
}

function nameOf(predicate: Message, names: Names): string {
  const name = predicate.number(1);
  if (name === undefined) throw new NotPlain();
  return names.symbol(name);
}

function checkOf(check: Uint8Array, symbols: (string | undefined)[], authority: boolean): Check {
  const message = new Message(check, { 1: BYTES, 2: VARINT }, [1]);
  if ((message.number(2) ?? 0n) !== 0n) throw new Breach("has a check that is not `check if`");
  const queries = message.all(1);
  if (queries.length < 1 || queries.length > 4) {
    throw new Breach(`has a check of ${queries.length} alternatives where 1 to 4 may stand`);
  }
  return queries.map((query) => alternative(query, new Names(symbols, authority)));
}

function alternative(query: Uint8Array, names: Names): Condition[] {
  const rule = new Message(query, RULE, [2, 3, 4]);
  if (rule.has(4)) throw new Breach("says whom to trust");
  const head = new Message(rule.data(1), PREDICATE, [2]);
  if (nameOf(head, names) !== "query" || head.has(2)) throw new Breach("has a check with a head");
  const [body, expressions] = [rule.all(2), rule.all(3).map(opsOf)];
  if (body.length > 2) throw new Breach(`joins ${body.length} facts where 2 may stand`);
  const operations = expressions.reduce((sum, ops) => sum + ops.length, 0);
  if (operations > 32) throw new Breach(`has ${operations} operations where 32 may stand`);
  const conditions = body.map((predicate) => asked(predicate, names)).filter((condition) => condition !== undefined);
  conditions.push(...expressions.map((ops) => read(ops, names)));
  const spoken = new Set(conditions.map((condition) => condition.subject));
  const unused = names.bound().filter((subject) => subject !== "time" && !spoken.has(subject));
  return [...conditions, ...unused.map((subject): Condition => ({ kind: "present", subject }))];
}

/** Reads `ask_prim("x")` as a condition, and remembers `ask_prim($x)` for the expressions. */
function asked(predicate: Uint8Array, names: Names): Condition | undefined {
  const message = new Message(predicate, PREDICATE, [2]);
  const name = nameOf(message, names);
  const subject = SUBJECTS.get(name);
  if (subject === undefined) throw new Breach(`asks for ${JSON.stringify(name.slice(0, 80))}, which no check may`);
  const [term, ...more] = message.all(2);
  if (term === undefined || more.length > 0) throw new Breach(`asks for ${name} in a form that never holds`);
  const [number, value] = new Message(term, TERM).one();
  if (number === 1 && typeof value === "bigint") {
    names.bind(value, subject);
    return undefined;
  }
  if (number === 3 && typeof value === "bigint" && subject !== "time") {
    return { kind: "is", subject, words: [names.symbol(value)] };
  }
  throw new Breach(`asks for ${name} in a form that never holds`);
}
