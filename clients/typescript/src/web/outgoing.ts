/** Adds the headers of a visit to an app's response, in the same way for all frameworks. */

import { isAboutCaching } from "./caching.js";
import { VARIES } from "./flow.js";
import type { Answer } from "./responses.js";
import type { Visit } from "./visit.js";

const ALL_VARIES = VARIES.join(", ");

/**
 * Maps an exchange, a request with its response, to the `Set-Cookie` lines that visits have written
 * for the exchange. The key is the object `exchange` of `dressHeaders`.
 */
const written = new WeakMap<object, readonly string[]>();

/** The headers of a response that is about to be sent. Names are in lower case. */
export interface OutgoingHeaders {
  names(): readonly string[];
  values(name: string): readonly string[];
  set(name: string, values: readonly string[]): void;
  remove(name: string): void;
}

/**
 * Adds the cookies of the visit, the headers for caches, and `Accept-CH` to a response. Close the
 * visit before you call this function.
 *
 * `exchange` is an object that all middleware of one request shares: the request or the response.
 * An app may use this middleware twice for a request, one inside the other. The app sees the visit
 * of the inner middleware, so the cookies of the inner visit stay. The outer visit adds no cookie
 * of the same name, because an old cookie would undo a sign-in in the inner visit.
 */
export function dressHeaders(
  headers: OutgoingHeaders,
  visit: Visit,
  cookies: readonly string[],
  { acceptCh, exchange }: { readonly acceptCh: string; readonly exchange: object },
): void {
  const inner = written.get(exchange) ?? [];
  const taken = new Set(inner.map(nameOf));
  const own = headers
    .values("set-cookie")
    .filter((line) => inner.includes(line) || !visit.owns(line));
  const added = cookies.filter((line) => !taken.has(nameOf(line)));
  if (added.length > 0) written.set(exchange, [...inner, ...added]);
  const lines = [...own, ...added];
  if (lines.length > 0) headers.set("set-cookie", lines);
  else headers.remove("set-cookie");
  const names = headers.names();
  const caching = visit.caching(names, headers.values("content-type").join(", "));
  if (caching.drops) for (const name of names) if (isAboutCaching(name)) headers.remove(name);
  for (const [name, value] of caching.added) headers.set(name.toLowerCase(), [value]);
  headers.set("vary", [varyOf(headers.values("vary"))]);
  const asked = headers.values("accept-ch");
  if (acceptCh !== "" && !asked.includes(acceptCh)) headers.set("accept-ch", [...asked, acceptCh]);
}

/** Returns the name of the cookie that a `Set-Cookie` line sets. */
function nameOf(line: string): string {
  return line.split("=", 1)[0] ?? "";
}

/**
 * Adds the header `Vary` to an answer to a request without a visit. `Vary` tells caches on which
 * headers of the request the answer depends.
 */
export function withVary(answer: Answer): Answer {
  return { ...answer, headers: [...answer.headers, ["Vary", ALL_VARIES]] };
}

/**
 * Returns true if the response is an event stream, which goes on until the app or the client ends
 * it.
 */
export function isEventStream(headers: Pick<OutgoingHeaders, "values">): boolean {
  return headers.values("content-type").join("").toLowerCase().startsWith("text/event-stream");
}

function varyOf(own: readonly string[]): string {
  if (own.length === 0) return ALL_VARIES;
  const named = own
    .join(",")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  const lower = new Set(named.map((name) => name.toLowerCase()));
  return [...named, ...VARIES.filter((name) => !lower.has(name.toLowerCase()))].join(", ");
}
