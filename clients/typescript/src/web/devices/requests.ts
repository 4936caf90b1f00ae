/** What a request to the page or its API says, read strictly. */

import { type Headers, values } from "../headers.js";
import { cut, queryFields } from "../percent_encoding.js";

/** A name has at most 100 characters; in JSON each may be 12 bytes. */
export const MAX_BODY_BYTES = 8192;
const MAX_FIELDS = 20;

/** A request that can't be understood: the code of its error, and the field that is wrong. */
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
  /** At most `MAX_BODY_BYTES` and one more byte, if it has more than that. */
  readonly body: Uint8Array;
}

/** The fields of its query. Of two of the same name the last counts. Throws BadRequest. */
export function queryOf({ target }: { readonly target: string }): ReadonlyMap<string, string> {
  const query = cut(target, "?")[1];
  const fields = queryFields(query, { keepBlank: true, maxFields: MAX_FIELDS });
  if (fields === undefined) throw new BadRequest("bad_request");
  return new Map(fields);
}

/** The text of that name in the object that it sends as JSON. Throws BadRequest. */
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

/** Lets nothing but JSON through, and no body at all. Throws BadRequest. */
export function checkType({ headers, body }: DevicesRequest): void {
  const kind = cut(values(headers, "content-type").join(""), ";")[0].trim().toLowerCase();
  if ((body.length > 0 || kind !== "") && kind !== "application/json") {
    throw new BadRequest("unsupported_type");
  }
  if (body.length > MAX_BODY_BYTES) throw new BadRequest("too_large");
}
