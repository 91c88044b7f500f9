/**
 * dekeys: short-lived tokens for agents, vendor keys for the moment of use.
 *
 * @packageDocumentation
 */
export type { components, operations, paths } from "./api.js";
export { Dekeys, readGrant, type Followed, type Grant, type Options } from "./client.js";
export {
  DekeysError,
  ForeignAnswer,
  GrantOver,
  KeyFileError,
  NotAllowed,
  NotFound,
  PaymentRequired,
  RateLimited,
  Refused,
  TokenRefused,
  Unauthenticated,
  Unavailable,
  Unreachable,
  Unsupported,
  type Problem,
  type TokenReason,
} from "./errors.js";
export { KeyFile } from "./keyfile.js";
export { Resolved, type Place } from "./lease.js";
export { Secret } from "./secret.js";
export { narrow, parseKeys, pin, read, verify, type Claims, type Narrowing, type PublicKeys, type Use } from "./token.js";
export { FeedRefused, Verifier, type Ended, type VerifierOptions } from "./verifier.js";
