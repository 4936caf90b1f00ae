/** The headers that a visit adds to an app's response, whatever the framework. */

import { isAboutCaching } from "./caching.js";
import { VARIES } from "./flow.js";
import type { Answer } from "./responses.js";
import type { Visit } from "./visit.js";

const ALL_VARIES = VARIES.join(", ");

/** The `Set-Cookie` lines that visits have written so far, by the exchange they belong to. */
const written = new WeakMap<object, readonly string[]>();

/** The headers of a response that is about to be sent. Names are in lower case. */
export interface OutgoingHeaders {
  names(): readonly string[];
  values(name: string): readonly string[];
  set(name: string, values: readonly string[]): void;
  remove(name: string): void;
}

/**
 * Adds the cookies, the headers that caches need, and `Accept-CH`. Close the visit before you call
 * this function.
 *
 * `exchange` is the request or the response: the same object for all middleware of one exchange. If
 * an app has this middleware twice, one inside the other, the app saw the visit of the inner
 * middleware. The inner visit's cookies stay. The outer visit writes no cookie of the same name,
 * because that would undo a sign-in.
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
 * Returns the answer to a request without a visit, with the header `Vary`: caches must know the
 * headers on which this answer depends, too.
 */
export function withVary(answer: Answer): Answer {
  return { ...answer, headers: [...answer.headers, ["Vary", ALL_VARIES]] };
}

/** Returns true if the body is an event stream, which goes on for as long as the client listens. */
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
