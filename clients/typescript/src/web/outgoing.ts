/** The headers of a response that a visit adds to an app's, whatever carries them. */

import { isAboutCaching } from "./caching.js";
import { VARIES } from "./flow.js";
import type { Answer } from "./responses.js";
import type { Visit } from "./visit.js";

const ALL_VARIES = VARIES.join(", ");

/** The `Set-Cookie` lines of visits so far, by the exchange of request and response. */
const written = new WeakMap<object, readonly string[]>();

/** Reads and changes the headers of a response on its way out. Names are in lower case. */
export interface OutgoingHeaders {
  names(): readonly string[];
  values(name: string): readonly string[];
  set(name: string, values: readonly string[]): void;
  remove(name: string): void;
}

/**
 * Puts cookies, and what caches must see, into the headers. The visit is closed.
 *
 * `exchange` is the request or the response, the same object for all middleware of one exchange.
 * Where an app has two middlewares in a row, the app saw the visit of the inner one. Its cookies
 * stay, and the outer visit writes no cookie of the same name: it would undo a sign-in.
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

/** The name of the cookie that a `Set-Cookie` line sets. */
function nameOf(line: string): string {
  return line.split("=", 1)[0] ?? "";
}

/**
 * The answer to a request that no visit was opened for. Caches must see what it depends on, too.
 */
export function withVary(answer: Answer): Answer {
  return { ...answer, headers: [...answer.headers, ["Vary", ALL_VARIES]] };
}

/** Whether the contents are events that go on for as long as the client listens. */
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
