/** The headers of a response that a visit adds to an app's, whatever carries them. */

import { isAboutCaching } from "./caching.js";
import { VARIES } from "./flow.js";
import type { Answer } from "./responses.js";
import type { Visit } from "./visit.js";

const ALL_VARIES = VARIES.join(", ");

/** Reads and changes the headers of a response on its way out. Names are in lower case. */
export interface OutgoingHeaders {
  names(): readonly string[];
  values(name: string): readonly string[];
  set(name: string, values: readonly string[]): void;
  remove(name: string): void;
}

/** Puts cookies, and what caches must see, into the headers. The visit is closed. */
export function dressHeaders(
  headers: OutgoingHeaders,
  visit: Visit,
  cookies: readonly string[],
  acceptCh: string,
): void {
  const own = headers.values("set-cookie").filter((line) => !visit.owns(line));
  const lines = [...own, ...cookies];
  if (lines.length > 0) headers.set("set-cookie", lines);
  else headers.remove("set-cookie");
  const names = headers.names();
  const caching = visit.caching(names, headers.values("content-type").join(", "));
  if (caching.drops) for (const name of names) if (isAboutCaching(name)) headers.remove(name);
  for (const [name, value] of caching.added) headers.set(name.toLowerCase(), [value]);
  headers.set("vary", [varyOf(headers.values("vary"))]);
  if (acceptCh !== "") headers.set("accept-ch", [...headers.values("accept-ch"), acceptCh]);
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
