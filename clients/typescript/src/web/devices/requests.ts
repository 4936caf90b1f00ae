/**
 * Reads the query and the JSON of requests to the page of devices and its API. An invalid request
 * is an error.
 */

import { type Headers, values } from "../headers.js";
import { cut, queryFields } from "../percent_encoding.js";

/**
 * The greatest length of a body in bytes. The longest valid body has a name of 100 characters, and
 * in JSON each character may need 12 bytes.
 */
export const MAX_BODY_BYTES = 8192;
const MAX_FIELDS = 20;

/**
 * The error for an invalid request. `code` is the code of the failure. `field` is the name of the
 * invalid field, or empty.
 */
export class BadRequest extends Error {
  readonly code: string;
  readonly field: string;

  constructor(code: string, field = "") {
    super(code);
    this.code = code;
    this.field = field;
  }
}

/** A request to the page or its API. */
export interface DevicesRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: Headers;
  /** The body. If it is longer than `MAX_BODY_BYTES`, it is cut one byte after this limit. */
  readonly body: Uint8Array;
}

/**
 * Returns the fields of a request's query. If two fields have the same name, the last field counts.
 * Throws BadRequest if there are more than 20 fields.
 */
export function queryOf({ target }: { readonly target: string }): ReadonlyMap<string, string> {
  const query = cut(target, "?")[1];
  const fields = queryFields(query, { keepBlank: true, maxFields: MAX_FIELDS });
  if (fields === undefined) throw new BadRequest("bad_request");
  return new Map(fields);
}

/**
 * Returns the text field `name` of the JSON object in the body. Throws BadRequest if the body is
 * too long or not valid JSON, or if it has no such field.
 */
export function jsonText(request: DevicesRequest, name: string): string {
  checkType(request);
  let sent: unknown;
  try {
    sent = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(request.body));
  } catch {
    throw new BadRequest("bad_request");
  }
  const holds = typeof sent === "object" && sent !== null && Object.hasOwn(sent, name);
  const value = holds ? (sent as Record<string, unknown>)[name] : undefined;
  if (typeof value !== "string" || !value.isWellFormed()) throw new BadRequest("bad_request", name);
  return value;
}

/**
 * Checks the type and the length of the body. Throws BadRequest if `Content-Type` is not JSON, or
 * if the body is too long. A request without a body needs no `Content-Type`.
 */
export function checkType({ headers, body }: DevicesRequest): void {
  const kind = cut(values(headers, "content-type").join(""), ";")[0].trim().toLowerCase();
  if ((body.length > 0 || kind !== "") && kind !== "application/json") {
    throw new BadRequest("unsupported_type");
  }
  if (body.length > MAX_BODY_BYTES) throw new BadRequest("too_large");
}
