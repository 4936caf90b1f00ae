/** Reads requests to the page and to its API strictly: query and JSON. */

import { type Headers, values } from "../headers.js";
import { cut, queryFields } from "../percent_encoding.js";

/** The longest body has a name of 100 characters. In JSON each character may need 12 bytes. */
export const MAX_BODY_BYTES = 8192;
const MAX_FIELDS = 20;

/**
 * The error for a request that can't be read. It has the code of the failure, and the field that is
 * wrong.
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
  /** The body, with at most one byte more than `MAX_BODY_BYTES`. A longer body is cut. */
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

/** Returns the text with this name in the JSON object in the body. Throws BadRequest. */
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

/** Checks that the body is JSON, or that there is no body. Throws BadRequest. */
export function checkType({ headers, body }: DevicesRequest): void {
  const kind = cut(values(headers, "content-type").join(""), ";")[0].trim().toLowerCase();
  if ((body.length > 0 || kind !== "") && kind !== "application/json") {
    throw new BadRequest("unsupported_type");
  }
  if (body.length > MAX_BODY_BYTES) throw new BadRequest("too_large");
}
