// What can go wrong, as types. Everything here is a DekeysError.
import type { components } from "./api.js";

/** An RFC 9457 problem of dekeys. */
export type Problem = components["schemas"]["Problem"];

/** Anything this library refuses or cannot do. */
export class DekeysError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** A file that is not a private key. Says nothing of what stands in it. */
export class KeyFileError extends DekeysError {}

/** Nobody answered, or the answer broke off. Whether the request arrived is not known; resolving again is safe. */
export class Unreachable extends DekeysError {}

/** Something answered, but not as dekeys does: another server, or a proxy between. */
export class ForeignAnswer extends DekeysError {}

/** The server is too old for this: it has no lease report, or no revocation feed. */
export class Unsupported extends DekeysError {}

/** Why a token is refused on this side. */
export type TokenReason =
  | "malformed"
  | "too_large"
  | "profile"
  | "unknown_root"
  | "signature"
  | "foreign_instance"
  | "expired"
  | "not_yet"
  | "narrowed"
  | "not_granted"
  | "not_pinned"
  | "revoked"
  | "feed_stale"
  /** Says nothing about the token. */
  | "timed_out";

/** A token that is refused on this side, before any request. */
export class TokenRefused extends DekeysError {
  /** What programs switch on. */
  readonly reason: TokenReason;

  constructor(reason: TokenReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** dekeys said no, or not yet: an RFC 9457 problem. */
export class Refused extends DekeysError {
  /** The HTTP status. 202 is "not known yet" or "people decide". */
  readonly status: number;
  /** What programs switch on: `vault_sealed`. Each has a page at `/problems/<code>` of the server. */
  readonly code: string;
  /** What happened. */
  readonly title: string;
  /** Why, in this case. */
  readonly detail: string;
  /** What to do about it. */
  readonly fix: string;
  /** The request, for the server's log. */
  readonly requestId: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** Seconds to wait before that, when the server says. */
  readonly retryAfter: number | undefined;
  /** The whole problem. */
  readonly problem: Problem;

  constructor(problem: Problem, status: number, retryAfter?: number) {
    const { code = "", title = "", detail = "", fix = "", request_id = "" } = problem;
    super(`${title} [${code}]${detail && `: ${detail}`}${fix && ` fix: ${fix}`}${request_id && ` (${request_id})`}`);
    this.status = status;
    this.code = code;
    this.title = title;
    this.detail = detail;
    this.fix = fix;
    this.requestId = request_id;
    this.retryable = problem.retryable === true;
    this.retryAfter = retryAfter;
    this.problem = problem;
  }
}

/** 401: the token or the signature counts for nothing (any more). */
export class Unauthenticated extends Refused {}
/** 402: pay with an x402 client. */
export class PaymentRequired extends Refused {}
/** 403: known, but not for this. */
export class NotAllowed extends Refused {}
/** 404: it does not exist, or belongs to somebody else. */
export class NotFound extends Refused {}
/** 410: the grant or lease has ended. */
export class GrantOver extends Refused {}
/** 429: wait `retryAfter` seconds. */
export class RateLimited extends Refused {}
/** 502, 503, 504: sealed, overloaded, or the vendor does not answer. */
export class Unavailable extends Refused {}

const BY_STATUS: Readonly<Record<number, typeof Refused>> = {
  401: Unauthenticated,
  402: PaymentRequired,
  403: NotAllowed,
  404: NotFound,
  410: GrantOver,
  429: RateLimited,
  502: Unavailable,
  503: Unavailable,
  504: Unavailable,
};

/** The error for a problem document. */
export function ofProblem(problem: Problem, status: number, retryAfter?: number): Refused {
  return new (BY_STATUS[status] ?? Refused)(problem, status, retryAfter);
}

/**
 * The JSON of a good answer. Throws {@link Refused} for every problem, also one that is answered with 202, and
 * {@link ForeignAnswer}.
 */
export async function checked(answer: Response): Promise<unknown> {
  const kind = answer.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  const json = kind === "application/json" || kind === "application/problem+json";
  const body: unknown = json ? await answer.json().catch(unreadable) : undefined;
  if (!json) await answer.body?.cancel();
  if (kind === "application/problem+json" && typeof body === "object" && body !== null && "code" in body) {
    const after = answer.headers.get("retry-after") ?? "";
    throw ofProblem(body as Problem, answer.status, /^\d+$/.test(after) ? Number(after) : undefined);
  }
  if (!answer.ok || body === undefined) {
    throw new ForeignAnswer(`${new URL(answer.url || "http://?").host} answered ${answer.status}, but not as dekeys does`);
  }
  return body;
}

/** Text that is no JSON is nobody's answer; anything else is a connection that broke. */
function unreadable(error: unknown): undefined {
  if (error instanceof SyntaxError) return undefined;
  throw new Unreachable("the answer broke off", { cause: error });
}
