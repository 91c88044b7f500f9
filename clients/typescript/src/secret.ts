// Secrets that do not show themselves.
import { timingSafeEqual } from "node:crypto";

/**
 * A secret text: a token, a vendor's key, a part of one.
 *
 * `toString`, `JSON.stringify`, `console.log` and `util.inspect` show nothing; {@link Secret.expose} alone gives the
 * text. Not protected: the process's memory. JavaScript does not wipe text.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself. Do not log what you get. */
  expose(): string {
    return this.#text;
  }

  /** Whether both hold the same text. */
  equals(other: Secret): boolean {
    const [one, two] = [Buffer.from(this.#text), Buffer.from(other.#text)];
    return one.length === two.length && timingSafeEqual(one, two);
  }

  toString(): string {
    return "Secret(…)";
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** The text of what callers may give either way. */
export function exposed(text: string | Secret): string {
  return text instanceof Secret ? text.expose() : text;
}
