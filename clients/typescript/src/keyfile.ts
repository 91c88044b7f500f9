// The private key of an agent, prim or operator, as `dekeys key new` writes it.
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import process from "node:process";

import { KeyFileError } from "./errors.js";

const PREFIX = "dekeys-key-1 ed25519 ";
/** What stands before the seed in the PKCS#8 form of an Ed25519 key (RFC 8410). */
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

/** An Ed25519 key that signs requests. Shows only its public half. */
export class KeyFile {
  readonly #key: KeyObject;
  /** The public half, `ed25519:…`: what an operator enrols and a grant names as its holder. */
  readonly public: string;

  private constructor(key: KeyObject) {
    if (key.asymmetricKeyType !== "ed25519") {
      throw new KeyFileError("the PKCS#8 file holds no unencrypted Ed25519 key");
    }
    this.#key = key;
    this.public = `ed25519:${createPublicKey(key).export({ format: "jwk" }).x}`;
  }

  /** A new key that is kept nowhere. */
  static generate(): KeyFile {
    return new KeyFile(generateKeyPairSync("ed25519").privateKey);
  }

  /** Reads a key file. Warns when others on the machine can read it too. Throws {@link KeyFileError}. */
  static load(path: string): KeyFile {
    const file = openSync(path, "r");
    try {
      if (process.platform !== "win32" && (fstatSync(file).mode & 0o077) !== 0) {
        process.emitWarning(`others can read ${path}: chmod 600 it`);
      }
      return KeyFile.parse(readFileSync(file, "utf8"));
    } finally {
      closeSync(file);
    }
  }

  /** Reads the text of a key file, or of a PKCS#8 PEM file (RFC 8410). Throws {@link KeyFileError}. */
  static parse(text: string): KeyFile {
    if (text.trimStart().startsWith("-----BEGIN")) {
      return new KeyFile(pem(text.trim()));
    }
    const lines = text.split(/\r?\n/).map((line) => line.trim());
    const [line, ...more] = lines.filter((line) => line !== "" && !line.startsWith("#"));
    if (line === undefined || more.length > 0 || !line.startsWith(PREFIX)) {
      throw new KeyFileError("this is no key file: it holds neither `dekeys-key-1 ed25519 …` nor a PKCS#8 key");
    }
    const seed = unbase64url(line.slice(PREFIX.length));
    if (seed?.length !== 32) {
      throw new KeyFileError("the key file is damaged: its key is not 43 characters of base64url");
    }
    return new KeyFile(createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: "der", type: "pkcs8" }));
  }

  /** Signs `message` as it is (RFC 8032): 64 bytes. */
  sign(message: Uint8Array): Uint8Array {
    return sign(null, message, this.#key);
  }

  toString(): string {
    return `KeyFile(${this.public})`;
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** Base64url without padding (RFC 4648 §5). */
export function base64url(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64url");
}

/** The bytes of base64url without padding; `undefined` for anything that does not encode to the same text again. */
export function unbase64url(text: string): Uint8Array | undefined {
  const data = Buffer.from(text, "base64url");
  return data.toString("base64url") === text ? new Uint8Array(data) : undefined;
}

function pem(text: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch {
    throw new KeyFileError("the PKCS#8 file holds no unencrypted Ed25519 key");
  }
}
