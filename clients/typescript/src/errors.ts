/**
 * Owns the one error that a failed call throws.
 *
 * A session that is not good is no error: it is an answer. An error that is `unavailable` says
 * nothing of the session: answer your own caller with 503, and never with 401.
 */

/** A status of gRPC, by its name. */
export type StatusCode =
  | "OK"
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** What a caller can do about an error. The vectors of all clients have the same names. */
export type ErrorKind =
  /** The request breaks rules; `violations` has each field and its rule. */
  | "invalid_request"
  /** A `requestId` came back with other contents. */
  | "request_id_reused"
  /** The session that a `requestId` started was since used, replaced or ended: use another ID. */
  | "request_id_spent"
  /** The user is signed in on as many devices as the service allows. */
  | "device_limit_reached"
  /** The user has no such device. */
  | "device_not_found"
  /** The user is not signed in on the device. */
  | "session_not_found"
  /** Other calls for the user kept interfering; nothing was done, call again. */
  | "conflict"
  /** A watch can't go on without missing events: drop what you cache, and watch anew. */
  | "cursor_expired"
  /** The service does not know the caller: no certificate or token of a known caller. */
  | "caller_unknown"
  /** The access policy does not let this caller do that. */
  | "caller_not_allowed"
  /** A fault of the service; its log has more under `metadata.error_id`. */
  | "internal_error"
  /** There is no answer in time. It says nothing of the session; the work may have been done. */
  | "unavailable"
  /** The change is made, but too few replicas had it in time. Repeat the call. */
  | "not_replicated"
  /** The service has too much to do; nothing was done. Wait for `retryAfterMs`. */
  | "overloaded"
  /** A status that this version has no kind for; see `code`. */
  | "other";

/** A field of the request that breaks its rule. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** What a `SessionAuthorityError` is made of. */
export interface ErrorFacts {
  readonly kind: ErrorKind;
  readonly code: StatusCode;
  readonly reason?: string;
  readonly retriable?: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly violations?: readonly FieldViolation[];
  readonly metadata?: Readonly<Record<string, string>>;
}

// The wider kind that an error of a kind is, too.
const WIDER: Readonly<Partial<Record<ErrorKind, ErrorKind>>> = {
  not_replicated: "unavailable",
  overloaded: "unavailable",
  request_id_reused: "invalid_request",
};

/** A call that failed. */
export class SessionAuthorityError extends Error {
  override readonly name = "SessionAuthorityError";
  /** What a caller can do about it. */
  readonly kind: ErrorKind;
  /** The status of gRPC. */
  readonly code: StatusCode;
  /** A name of the contract's `ErrorReason`, without its prefix; empty if the service said none. */
  readonly reason: string;
  /** True if a call that fails so is made again by the client itself, before it throws. */
  readonly retriable: boolean;
  /** How many milliseconds to wait before the next try, if the service said it. */
  readonly retryAfterMs: number | undefined;
  /** The fields that break their rules. */
  readonly violations: readonly FieldViolation[];
  /** What else the service said, such as `error_id`. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(message: string, facts: ErrorFacts) {
    super(message);
    this.kind = facts.kind;
    this.code = facts.code;
    this.reason = facts.reason ?? "";
    this.retriable = facts.retriable ?? false;
    this.retryAfterMs = facts.retryAfterMs;
    this.violations = facts.violations ?? [];
    this.metadata = facts.metadata ?? {};
  }

  /** Returns true if it is of a kind, or of a narrower one: `overloaded` is `unavailable`. */
  is(kind: ErrorKind): boolean {
    return this.kind === kind || WIDER[this.kind] === kind;
  }

  /** True if there was no answer: nothing is known of the session. Answer 503, never 401. */
  get unavailable(): boolean {
    return this.is("unavailable");
  }
}

/** Returns true if an error says nothing of the session: a call had no answer. */
export function isUnavailable(error: unknown): error is SessionAuthorityError {
  return error instanceof SessionAuthorityError && error.unavailable;
}
