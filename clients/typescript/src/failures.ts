/** Converts the failure of a call to the error that the caller gets. */

import { fromBinary } from "@bufbuild/protobuf";

import { milliseconds } from "./convert.js";
import {
  type ErrorKind,
  type FieldViolation,
  SessionAuthorityError,
  type StatusCode,
} from "./errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
  StatusSchema,
} from "./gen/google/rpc/status_pb.js";
import { ErrorReason } from "./gen/session_authority/v1/errors_pb.js";
import type { RequestError } from "./gen/session_authority/v1/session_authority_pb.js";
import type { StatusDetail } from "./transport.js";

const DOMAIN = "session-authority";
const TYPE_URL = "type.googleapis.com/google.rpc.";

const KIND_BY_REASON: ReadonlyMap<string, ErrorKind> = new Map<string, ErrorKind>([
  ["INVALID_REQUEST", "invalid_request"],
  ["MALFORMED_MESSAGE", "invalid_request"],
  ["MESSAGE_TOO_LARGE", "invalid_request"],
  ["REQUEST_ID_REUSED", "request_id_reused"],
  ["REQUEST_ID_SPENT", "request_id_spent"],
  ["DEVICE_LIMIT_REACHED", "device_limit_reached"],
  ["DEVICE_NOT_FOUND", "device_not_found"],
  ["SESSION_NOT_FOUND", "session_not_found"],
  ["CONFLICT", "conflict"],
  ["CURSOR_EXPIRED", "cursor_expired"],
  ["CALLER_UNKNOWN", "caller_unknown"],
  ["CALLER_NOT_ALLOWED", "caller_not_allowed"],
  ["OVERLOADED", "overloaded"],
  ["STORE_UNAVAILABLE", "unavailable"],
  ["DEADLINE_TOO_SHORT", "unavailable"],
  ["STOPPING", "unavailable"],
  ["NOT_READY", "unavailable"],
  ["NOT_REPLICATED", "not_replicated"],
  ["INTERNAL", "internal_error"],
]);

// Maps a gRPC status code to the kind of an error without a known reason. An error without a reason
// comes from gRPC itself, or from a proxy between the client and the service.
const KIND_BY_CODE: ReadonlyMap<StatusCode, ErrorKind> = new Map<StatusCode, ErrorKind>([
  ["UNAVAILABLE", "unavailable"],
  ["DEADLINE_EXCEEDED", "unavailable"],
  ["CANCELLED", "unavailable"],
  ["RESOURCE_EXHAUSTED", "overloaded"],
  ["INVALID_ARGUMENT", "invalid_request"],
  ["UNAUTHENTICATED", "caller_unknown"],
  ["PERMISSION_DENIED", "caller_not_allowed"],
]);

const CODES: readonly StatusCode[] = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** All reasons of the service for which this version has a kind of errors. */
export const KNOWN_REASONS: readonly string[] = [...KIND_BY_REASON.keys()];

/** Returns the name of a gRPC status code. The name of an unknown number is `UNKNOWN`. */
export function codeOf(number: number): StatusCode {
  return CODES[number] ?? "UNKNOWN";
}

/** Returns the number of a gRPC status code. */
export function numberOf(code: StatusCode): number {
  return CODES.indexOf(code);
}

/**
 * Decodes the bytes of the trailer `grpc-status-details-bin`, and returns the details of the
 * status. Returns an empty array if the bytes can't be decoded.
 */
export function readDetails(bytes: Uint8Array): readonly StatusDetail[] {
  try {
    return fromBinary(StatusSchema, bytes).details;
  } catch {
    return [];
  }
}

/** Returns the error for the gRPC status of a failed call. */
export function errorOfStatus(
  code: StatusCode,
  message: string,
  details: readonly StatusDetail[],
): SessionAuthorityError {
  let reason = "";
  let metadata: Readonly<Record<string, string>> = {};
  let retryAfterMs: number | undefined;
  let violations: FieldViolation[] = [];
  for (const { typeUrl, value } of details) {
    try {
      switch (typeUrl.startsWith(TYPE_URL) ? typeUrl.slice(TYPE_URL.length) : "") {
        case "ErrorInfo": {
          const info = fromBinary(ErrorInfoSchema, value);
          if (info.domain === DOMAIN) ({ reason, metadata } = info);
          break;
        }
        case "RetryInfo": {
          const { retryDelay } = fromBinary(RetryInfoSchema, value);
          retryAfterMs = retryDelay === undefined ? 0 : milliseconds(retryDelay);
          break;
        }
        case "BadRequest":
          violations = violationsOf(fromBinary(BadRequestSchema, value).fieldViolations);
          break;
      }
    } catch {
      continue; // a detail that can't be decoded is ignored
    }
  }
  const kind = kindOf(reason, code);
  return new SessionAuthorityError(message, {
    kind,
    code,
    reason,
    retriable: code === "UNAVAILABLE" || code === "CANCELLED",
    retryAfterMs,
    violations,
    metadata,
  });
}

/**
 * Returns the error for one item of a batch, where the service sent an error in place of an answer.
 */
export function errorOfItem(error: RequestError): SessionAuthorityError {
  const code = codeOf(error.code);
  const reason = error.reason === ErrorReason.UNSPECIFIED ? "" : (ErrorReason[error.reason] ?? "");
  const violations = violationsOf(error.fieldViolations);
  const kind = kindOf(reason, code);
  return new SessionAuthorityError(error.message, { kind, code, reason, violations });
}

/** Returns the error of a call whose client is closed. */
export function clientClosed(): SessionAuthorityError {
  return unavailable("the client is closed", "CANCELLED");
}

/** Returns the error of a call whose deadline is over. */
export function tooLate(): SessionAuthorityError {
  return unavailable("there was no answer in time", "DEADLINE_EXCEEDED");
}

/** Returns an `unavailable` error that the client itself makes, because there was no answer. */
export function unavailable(message: string, code: StatusCode): SessionAuthorityError {
  return new SessionAuthorityError(message, { kind: "unavailable", code });
}

/**
 * Returns an `internal_error` that the client itself makes, because an answer breaks the contract.
 */
export function internalError(message: string): SessionAuthorityError {
  return new SessionAuthorityError(message, { kind: "internal_error", code: "INTERNAL" });
}

/**
 * Returns a copy of an error, so that each caller may change its own copy. An error of another
 * class than `SessionAuthorityError` is not copied.
 */
export function copyOf(error: unknown): unknown {
  return error instanceof SessionAuthorityError
    ? new SessionAuthorityError(error.message, error)
    : error;
}

function violationsOf(messages: readonly FieldViolation[]): FieldViolation[] {
  return messages.map(({ field, description }) => ({ field, description }));
}

function kindOf(reason: string, code: StatusCode): ErrorKind {
  return KIND_BY_REASON.get(reason) ?? KIND_BY_CODE.get(code) ?? "other";
}
