// Protobuf read strictly: what encodes otherwise than it stands, or is not known, is refused. Unknown fields would be
// passed over otherwise, and one token would have many texts.

/** The wire types used here. */
export const VARINT = 0;
export const BYTES = 2;

/** Bytes that are not the one encoding of a known message. */
export class NotPlain extends Error {}

/** Each field's wire type. */
export type Known = Readonly<Record<number, number>>;

/** The fields of one message, in their order. */
export class Message {
  readonly #fields = new Map<number, (bigint | Uint8Array)[]>();

  /** Reads `data`; only the fields `repeated` may stand twice. */
  constructor(data: Uint8Array, known: Known, repeated: readonly number[] = []) {
    let [at, last] = [0, 0];
    while (at < data.length) {
      const [tag, after] = varint(data, at);
      const [number, kind] = [Number(tag >> 3n), Number(tag & 7n)];
      if (known[number] !== kind || number < last || (number === last && !repeated.includes(number))) {
        throw new NotPlain();
      }
      last = number;
      let value: bigint | Uint8Array;
      [value, at] = varint(data, after);
      if (kind === BYTES) {
        const end = BigInt(at) + value;
        if (end > BigInt(data.length)) throw new NotPlain();
        value = data.subarray(at, Number(end));
        at = Number(end);
      }
      const values = this.#fields.get(number);
      if (values) values.push(value);
      else this.#fields.set(number, [value]);
    }
  }

  /** Every value of a field of bytes. */
  all(number: number): Uint8Array[] {
    return (this.#fields.get(number) ?? []).filter((value) => value instanceof Uint8Array);
  }

  /** The value of a field of bytes that must be there. */
  data(number: number): Uint8Array {
    const value = this.#fields.get(number)?.[0];
    if (!(value instanceof Uint8Array)) throw new NotPlain();
    return value;
  }

  /** The value of a field of numbers, if it is there. */
  number(number: number): bigint | undefined {
    const value = this.#fields.get(number)?.[0];
    return typeof value === "bigint" ? value : undefined;
  }

  /** Whether the field is there. */
  has(number: number): boolean {
    return this.#fields.has(number);
  }

  /** The one field of a `oneof`. */
  one(): [number, bigint | Uint8Array] {
    const [entry, ...more] = this.#fields;
    const value = entry?.[1][0];
    if (!entry || more.length > 0 || value === undefined) throw new NotPlain();
    return [entry[0], value];
  }
}

function varint(data: Uint8Array, start: number): [bigint, number] {
  let [value, at] = [0n, start];
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = data[at];
    if (byte === undefined) throw new NotPlain();
    at += 1;
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) {
      // A last byte of nothing is another encoding of the same number.
      if ((byte === 0 && shift > 0n) || value >= 1n << 64n) throw new NotPlain();
      return [value, at];
    }
  }
  throw new NotPlain();
}
