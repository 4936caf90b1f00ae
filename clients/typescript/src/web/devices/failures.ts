/**
 * Converts errors in requests to the page of devices and its API into failures with HTTP statuses,
 * and makes the response to a failure.
 */

import { SessionAuthorityError } from "../../errors.js";
import { type Answer, NoAnswer, SignInRequired } from "../responses.js";
import { BadCursor } from "./listing.js";
import { BadRequest } from "./requests.js";
import { type Texts, textFor } from "./texts.js";

/**
 * The HTTP status of each failure, by the code of the failure. The failure's text for users has the
 * key `error.CODE`.
 */
export const STATUS: Readonly<Record<string, number>> = {
  bad_request: 400,
  name_too_long: 400,
  signed_out: 401,
  foreign_origin: 403,
  unknown_device: 404,
  not_found: 404,
  method_not_allowed: 405,
  too_large: 413,
  unsupported_type: 415,
  too_many_requests: 429,
  misconfigured: 500,
  unavailable: 503,
};
/** The greatest length of a device's name in characters. The service has the same limit. */
const MAX_NAME_LENGTH = 100;
type Header = readonly [string, string];
const RETRY_AFTER: Header = ["Retry-After", "1"];
const SAFE: readonly Header[] = [
  ["X-Content-Type-Options", "nosniff"],
  ["Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"],
  ["Cross-Origin-Resource-Policy", "same-origin"],
  ["Cache-Control", "no-store"],
];

/** A failure: its code, the name of the invalid field, and headers for the response. */
export interface Failure {
  readonly code: string;
  readonly field?: string;
  readonly headers?: readonly Header[];
}

/** Returns a response of the API. `told` is the value that the response contains as JSON. */
export function apiAnswer(status: number, told: unknown, headers: readonly Header[] = []): Answer {
  const body = JSON.stringify(told);
  const described: readonly Header[] = [
    ["Content-Type", "application/json"],
    ["Content-Length", String(Buffer.byteLength(body))],
  ];
  return { status, headers: [...described, ...SAFE, ...headers], body };
}

/** Returns the response of the API to a failure. */
export function failureAnswer({ code, field, headers }: Failure, texts: Texts): Answer {
  const message = textFor(texts, `error.${code}`);
  const error = { code, message, field: field ?? null };
  return apiAnswer(STATUS[code] ?? 500, { error }, headers);
}

/** Returns the failure for an error, or undefined if the error is unexpected. */
export function failureOf(error: unknown): Failure | undefined {
  if (error instanceof BadRequest) {
    return error.field === "" ? { code: error.code } : { code: error.code, field: error.field };
  }
  if (error instanceof BadCursor) return { code: "bad_request", field: "after" };
  if (error instanceof NoAnswer) {
    const retry = error.answer.headers.filter(([name]) => name === "Retry-After");
    return ofService(error.cause, retry);
  }
  if (error instanceof SignInRequired) {
    const challenge = error.answer.headers.filter(([name]) => name === "WWW-Authenticate");
    return { code: "signed_out", headers: challenge };
  }
  if (!(error instanceof SessionAuthorityError)) return undefined;
  if (error.kind === "device_not_found") return { code: "unknown_device" };
  if (error.kind === "invalid_request" || error.kind === "request_id_reused") {
    return brokenRule(error);
  }
  return ofService(error, [RETRY_AFTER]);
}

/**
 * Returns the failure for an error of the service, which the user did not cause. If a later retry
 * can't succeed, the failure has no `Retry-After`, because a program would obey this header and
 * retry for ever.
 */
function ofService(error: unknown, retry: readonly Header[]): Failure {
  if (error instanceof SessionAuthorityError) {
    const { kind, code } = error;
    const barred = kind === "caller_not_allowed" || kind === "caller_unknown";
    if (barred || code === "UNIMPLEMENTED") return { code: "misconfigured" };
    if (kind === "overloaded") return { code: "too_many_requests", headers: retry };
  }
  return { code: "unavailable", headers: retry };
}

function brokenRule({ violations }: SessionAuthorityError): Failure {
  const rules = new Map(violations.map(({ field, description }) => [field, description]));
  if (rules.has("device_id")) return { code: "unknown_device" };
  if (rules.get("display_name")?.includes(`at most ${MAX_NAME_LENGTH}`) === true) {
    return { code: "name_too_long", field: "name" };
  }
  return rules.has("display_name")
    ? { code: "bad_request", field: "name" }
    : { code: "bad_request" };
}
