/**
 * Owns the one class of errors that failed calls throw.
 *
 * A session that is not good is no error: it is an answer. An error that is `unavailable` says
 * nothing about the session: answer your own caller with 503, and never with 401.
 */

/** The name of a gRPC status code. */
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

/**
 * The kind of an error. Each kind stands for another reaction of the caller. The shared test
 * vectors of all clients use the same names.
 */
export type ErrorKind =
  /** The request breaks rules. `violations` has each field and its rule. */
  | "invalid_request"
  /** A `requestId` was sent again with other contents. */
  | "request_id_reused"
  /**
   * The session that a `requestId` started was since used, replaced or ended: sign in with another
   * `requestId`.
   */
  | "request_id_spent"
  /** The user is signed in on as many devices as the service allows. */
  | "device_limit_reached"
  /** The user has no such device. */
  | "device_not_found"
  /** The user is not signed in on the device. */
  | "session_not_found"
  /** Other calls for the user kept interfering, and nothing was done. Call again. */
  | "conflict"
  /** A watch can't go on without missing events. Drop everything that you cache, and watch anew. */
  | "cursor_expired"
  /** The service does not know who calls: no certificate or token of a known caller. */
  | "caller_unknown"
  /** The access policy does not allow this call to this caller. */
  | "caller_not_allowed"
  /** The service failed internally. Its log has more under the ID `metadata.error_id`. */
  | "internal_error"
  /**
   * There was no answer in time. This says nothing about the session, and the service may have done
   * what the call requested.
   */
  | "unavailable"
  /**
   * The change is done, but too few replicas had it in time, and the call had `requireReplicated`.
   * Repeat the call: a sign-in with the same `requestId`, a renewal with the same token.
   */
  | "not_replicated"
  /** The service has too much to do, and nothing was done. Wait for `retryAfterMs`. */
  | "overloaded"
  /** A status for which this version has no kind. See `code`. */
  | "other";

/** A field of the request that breaks a rule, and the rule. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

/** The fields of a `SessionAuthorityError`. */
export interface ErrorFacts {
  readonly kind: ErrorKind;
  readonly code: StatusCode;
  readonly reason?: string;
  readonly retriable?: boolean;
  readonly retryAfterMs?: number | undefined;
  readonly violations?: readonly FieldViolation[];
  readonly metadata?: Readonly<Record<string, string>>;
}

// For each narrower kind, the wider kind that it belongs to.
const WIDER: Readonly<Partial<Record<ErrorKind, ErrorKind>>> = {
  not_replicated: "unavailable",
  overloaded: "unavailable",
  request_id_reused: "invalid_request",
};

/** The error that every failed call throws. */
export class SessionAuthorityError extends Error {
  override readonly name = "SessionAuthorityError";
  /** The kind of the error: by it a caller decides how to react. */
  readonly kind: ErrorKind;
  /** The gRPC status code. */
  readonly code: StatusCode;
  /**
   * A name of the contract's `ErrorReason`, without its prefix. Empty if the service gave no
   * reason.
   */
  readonly reason: string;
  /** True if the client itself retries a call with this status before it throws. */
  readonly retriable: boolean;
  /** How many milliseconds to wait before the next attempt, if the service gave a time. */
  readonly retryAfterMs: number | undefined;
  /** The fields of the request that break rules, with the rules. */
  readonly violations: readonly FieldViolation[];
  /** Further facts from the service, such as `error_id`. */
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

  /**
   * Returns true if the error is of this kind or of a narrower kind. For example, an `overloaded`
   * error is `unavailable`, too.
   */
  is(kind: ErrorKind): boolean {
    return this.kind === kind || WIDER[this.kind] === kind;
  }

  /**
   * True if there was no answer, so that nothing is known about the session. Answer your own caller
   * with 503, and never with 401.
   */
  get unavailable(): boolean {
    return this.is("unavailable");
  }
}

/** Returns true if the error is `unavailable`: the call had no answer about the session. */
export function isUnavailable(error: unknown): error is SessionAuthorityError {
  return error instanceof SessionAuthorityError && error.unavailable;
}
