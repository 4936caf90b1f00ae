/**
 * Owns `SessionAuthorityError`, the one class of errors of failed calls.
 *
 * A validation of a session that is not good does not throw. It returns an answer with
 * `active: false`. If a call throws an `unavailable` error, nothing is known about the session:
 * answer your own caller with 503, and never with 401.
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
 * The kind of an error. The caller decides by the kind how to react. The clients for all languages
 * use the same names.
 */
export type ErrorKind =
  /** The request breaks rules. `violations` names each field that breaks a rule, and the rule. */
  | "invalid_request"
  /** An earlier sign-in had the same `requestId`, but other arguments. */
  | "request_id_reused"
  /**
   * An earlier sign-in had the same `requestId`, and its session was used, replaced or ended since
   * then. Sign in with another `requestId`.
   */
  | "request_id_spent"
  /** The user is signed in on as many devices as the service allows. */
  | "device_limit_reached"
  /** The user has no device with the device ID of the call. */
  | "device_not_found"
  /** The user is not signed in on the device that the call names. */
  | "session_not_found"
  /**
   * Nothing was changed, because other calls changed the data of the same user at the same time.
   * Repeat the call.
   */
  | "conflict"
  /**
   * The watch can't continue without missing events. Drop everything that you cache, and start a
   * new watch without a cursor.
   */
  | "cursor_expired"
  /**
   * The service does not know the caller: the call had no certificate and no token of a known
   * caller.
   */
  | "caller_unknown"
  /** The access policy does not allow this caller to make this call. */
  | "caller_not_allowed"
  /**
   * The service failed internally. The service's log has an entry with the ID in
   * `metadata.error_id`.
   */
  | "internal_error"
  /**
   * There was no answer in time. Nothing is known about the session. The service may have done what
   * the call requested.
   */
  | "unavailable"
  /**
   * The call had `requireReplicated`. The service made the change, but too few replicas confirmed
   * it in time. Repeat the call: a sign-in with the same `requestId`, a renewal with the same
   * token.
   */
  | "not_replicated"
  /**
   * The service is overloaded, and did nothing. Wait for `retryAfterMs` milliseconds, then repeat
   * the call.
   */
  | "overloaded"
  /** The call failed with a status for which this version has no kind. See `code`. */
  | "other";

/** A field of the request that breaks a rule. `description` is the rule. */
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

// Maps a narrower kind of errors to the wider kind to which it belongs.
const WIDER: Readonly<Partial<Record<ErrorKind, ErrorKind>>> = {
  not_replicated: "unavailable",
  overloaded: "unavailable",
  request_id_reused: "invalid_request",
};

/** The error of a failed call. `kind` says how a caller can react to the error. */
export class SessionAuthorityError extends Error {
  override readonly name = "SessionAuthorityError";
  /** The kind of the error. The caller decides by the kind how to react. */
  readonly kind: ErrorKind;
  /** The name of the gRPC status code with which the call failed. */
  readonly code: StatusCode;
  /**
   * The reason that the service gave: a name of the contract's enum `ErrorReason`, without the
   * prefix of the enum. Empty if the service gave no reason.
   */
  readonly reason: string;
  /**
   * True if an attempt of the call failed with UNAVAILABLE or CANCELLED. The client itself retries
   * such a call before it throws this error, unless too many calls fail.
   */
  readonly retriable: boolean;
  /**
   * How many milliseconds to wait before you repeat the call. Undefined if the service gave no
   * time.
   */
  readonly retryAfterMs: number | undefined;
  /** The fields of the request that break rules, and the rules that they break. */
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
   * Returns true if the error has the given kind, or a narrower kind that belongs to the given
   * kind. For example, `is("unavailable")` is also true for an `overloaded` error.
   */
  is(kind: ErrorKind): boolean {
    return this.kind === kind || WIDER[this.kind] === kind;
  }

  /**
   * True if the call had no answer about the session, so that the session may still be good. Answer
   * your own caller with 503, and never with 401.
   */
  get unavailable(): boolean {
    return this.is("unavailable");
  }
}

/** Returns true if the error is `unavailable`: the call had no answer about the session. */
export function isUnavailable(error: unknown): error is SessionAuthorityError {
  return error instanceof SessionAuthorityError && error.unavailable;
}
