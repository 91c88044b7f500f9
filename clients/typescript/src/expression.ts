// Expressions in checks: a fixed list of operations, typed here so that evaluating one cannot fail. Regular expressions,
// closures, arithmetic and foreign functions are not on the list.
import { BYTES, Message, NotPlain, VARINT, type Known } from "./wire.js";

/** What a check can look at: the predicate's name and the word for it. */
export const SUBJECTS: ReadonlyMap<string, string> = new Map([
  ["ask_vendor", "vendor"],
  ["ask_scope", "scope"],
  ["ask_use", "use"],
  ["ask_prim", "prim"],
  ["ask_method", "method"],
  ["ask_path", "path"],
  ["time", "time"],
]);

export const TERM: Known = { 1: VARINT, 2: VARINT, 3: VARINT, 4: VARINT, 5: BYTES, 6: VARINT, 7: BYTES, 8: BYTES, 9: BYTES, 10: BYTES };
const OP: Known = { 1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES };
const KIND: Known = { 1: VARINT, 2: VARINT };
const EQUAL = [4, 20, 21, 22];
const [LESS, LESS_EQUAL, GREATER_EQUAL] = [0, 2, 3];
const [CONTAINS, PREFIX, SUFFIX, AND, OR] = [5, 6, 7, 13, 14];

/** A block that says what no block may say. */
export class Breach extends Error {}

/** One thing that must hold. */
export type Condition =
  | { kind: "is" | "begins"; subject: string; words: string[] }
  | { kind: "present"; subject: string }
  /** `at` in seconds since 1970. */
  | { kind: "before" | "from"; subject: "time"; at: number }
  | { kind: "holds"; subject: "" };

/** What symbols and variables stand for within one alternative of a check. */
export class Names {
  readonly #symbols: readonly (string | undefined)[];
  readonly #bound = new Map<bigint, string>();
  readonly authority: boolean;

  constructor(symbols: readonly (string | undefined)[], authority: boolean) {
    this.#symbols = symbols;
    this.authority = authority;
  }

  /** The text of a symbol. */
  symbol(index: bigint): string {
    const text = index < BigInt(this.#symbols.length) ? this.#symbols[Number(index)] : undefined;
    if (text === undefined) throw new Breach("names a symbol that is missing");
    return text;
  }

  /** Remembers that the variable is the subject. */
  bind(variable: bigint, subject: string): void {
    this.symbol(variable);
    if (this.#bound.has(variable)) throw new Breach("binds a variable twice");
    this.#bound.set(variable, subject);
  }

  /** The subject of a variable. */
  subject(variable: bigint): string {
    const subject = this.#bound.get(variable);
    if (subject === undefined) throw new Breach("has an expression that does not fit together");
    return subject;
  }

  /** The subjects that have a variable. */
  bound(): string[] {
    return [...this.#bound.values()];
  }
}

type Kind = "text" | "set" | "number" | "truth";
type Operand =
  | { kind: "asked" | "text"; text: string }
  | { kind: "set"; words: string[] }
  | { kind: "date"; at: number }
  | { kind: "number" | "truth" };

/** The operations of an expression, in the postfix order biscuit keeps. */
export function opsOf(expression: Uint8Array): Uint8Array[] {
  return new Message(expression, { 1: BYTES }, [1]).all(1);
}

/** Reads one expression as a condition; {@link Breach} when it is not on the list. */
export function read(ops: Uint8Array[], names: Names): Condition {
  const parts = ops.map((op) => new Message(op, OP).one());
  const simple = simpleOf(parts, names);
  if (simple) return simple;
  const stack: Kind[] = [];
  for (const [number, value] of parts) {
    if (!(value instanceof Uint8Array) || number === 4) throw new Breach("uses a closure, which no check may");
    if (number === 1) {
      stack.push(typed(operand(value, names)));
    } else if (number === 2) {
      stack.push(unary(kindOf(value), pop(stack)));
    } else {
      const [right, left] = [pop(stack), pop(stack)];
      stack.push(binary(kindOf(value), left, right));
    }
  }
  if (stack.length !== 1 || stack[0] !== "truth") throw new Breach("has an expression that does not fit together");
  return { kind: "holds", subject: "" };
}

/** The shapes that have plain words, and the only ones in which the time may stand. */
function simpleOf(parts: [number, bigint | Uint8Array][], names: Names): Condition | undefined {
  const [left, right, operation] = parts;
  if (parts.length !== 3 || left?.[0] !== 1 || right?.[0] !== 1 || operation?.[0] !== 3) return undefined;
  const values = [left[1], right[1], operation[1]];
  const [one, two, kind] = values;
  if (!(one instanceof Uint8Array && two instanceof Uint8Array && kind instanceof Uint8Array)) return undefined;
  return relation(operand(one, names), operand(two, names), kindOf(kind), names);
}

function relation(one: Operand, two: Operand, kind: number, names: Names): Condition | undefined {
  if (isTime(one) || isTime(two)) {
    if (isTime(one) && two.kind === "date") {
      if (kind === LESS) return { kind: "before", subject: "time", at: two.at };
      if (kind === LESS_EQUAL) return { kind: "before", subject: "time", at: two.at + 1 };
      if (kind === GREATER_EQUAL && names.authority) return { kind: "from", subject: "time", at: two.at };
    }
    throw new Breach("uses the time otherwise than `$time < a date`");
  }
  if (one.kind === "set" && two.kind === "asked" && kind === CONTAINS) {
    return { kind: "is", subject: two.text, words: one.words };
  }
  if (kind === 4 || kind === 21) {
    if (one.kind === "asked" && two.kind === "text") return { kind: "is", subject: one.text, words: [two.text] };
    if (one.kind === "text" && two.kind === "asked") return { kind: "is", subject: two.text, words: [one.text] };
  }
  if (one.kind === "asked" && two.kind === "text" && kind === PREFIX) {
    return { kind: "begins", subject: one.text, words: [two.text] };
  }
  return undefined;
}

function isTime(operand: Operand): boolean {
  return operand.kind === "asked" && operand.text === "time";
}

function operand(term: Uint8Array, names: Names): Operand {
  const [number, value] = new Message(term, TERM).one();
  if (typeof value === "bigint") {
    if (number === 1) return { kind: "asked", text: names.subject(value) };
    if (number === 3) return { kind: "text", text: names.symbol(value) };
    if (number === 4) return { kind: "date", at: Number(value) };
    return { kind: number === 2 ? "number" : "truth" };
  }
  if (number === 7) return { kind: "set", words: words(value, names) };
  throw new Breach("uses bytes, null, an array or a map, which no check may");
}

function words(terms: Uint8Array, names: Names): string[] {
  const found = new Message(terms, { 1: BYTES }, [1]).all(1).map((term) => {
    const [number, value] = new Message(term, TERM).one();
    if (number !== 3 || typeof value !== "bigint") {
      throw new Breach("uses a set of anything but text, which no check may");
    }
    return names.symbol(value);
  });
  return [...new Set(found)].sort();
}

function typed(operand: Operand): Kind {
  if (operand.kind === "date" || isTime(operand)) throw new Breach("uses the time otherwise than `$time < a date`");
  return operand.kind === "asked" ? "text" : operand.kind;
}

function kindOf(operation: Uint8Array): number {
  const message = new Message(operation, KIND);
  const kind = message.number(1);
  if (kind === undefined) throw new NotPlain();
  if (message.has(2)) throw new Breach("uses a foreign function, which no check may");
  return Number(kind);
}

function pop(stack: Kind[]): Kind {
  const top = stack.pop();
  if (top === undefined) throw new Breach("has an expression that does not fit together");
  return top;
}

function unary(kind: number, of: Kind): Kind {
  if (kind === 0 && of === "truth") return "truth";
  if (kind === 1) return of;
  if (kind === 2 && (of === "text" || of === "set")) return "number";
  throw new Breach("uses an operation that no check may");
}

function binary(kind: number, left: Kind, right: Kind): Kind {
  const both = (one: Kind, two: Kind): boolean => left === one && right === two;
  const fits =
    (kind <= 3 && both("number", "number")) ||
    ((kind === PREFIX || kind === SUFFIX) && both("text", "text")) ||
    ((kind === AND || kind === OR) && both("truth", "truth")) ||
    (kind === CONTAINS && (both("set", "set") || both("set", "text") || both("text", "text"))) ||
    (EQUAL.includes(kind) && left === right);
  if (!fits) throw new Breach("uses an operation that no check may, or one that does not fit");
  return "truth";
}
