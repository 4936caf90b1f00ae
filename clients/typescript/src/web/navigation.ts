/**
 * Distinguishes a browser that goes to a page from a program that fetches data. The browser gets
 * pages and redirects, and the program gets status codes.
 *
 * All current browsers say in `Sec-Fetch-Mode` whether they go to a page. Over plain HTTP, they
 * send this header only to localhost. If the header is missing, a GET or HEAD counts as a request
 * for a page if its `Accept` prefers `text/html` to JSON. Browsers name `text/html`, while axios,
 * fetch, curl and other HTTP libraries send a wildcard, JSON or no `Accept`.
 */

import { type Headers, values, withoutBlanks } from "./headers.js";

// The headers by which scripts that fetch parts of pages say that they are scripts. These scripts
// accept HTML, as browsers do.
const SCRIPT_HEADERS = [
  "x-requested-with",
  "hx-request",
  "x-turbo-request-id",
  "x-pjax",
  "x-up-version",
];
const JSON_KIND = /^[a-z]+\/(?:[a-z0-9.!#$&^_-]+\+)?json$/;
const QUALITY = /^q *= *([0-9]*\.?[0-9]+)$/;

/** Returns true if a browser goes to a page with this request. */
export function wantsPage(method: string, headers: Headers): boolean {
  const modes = values(headers, "sec-fetch-mode");
  if (modes.length > 0) return modes.includes("navigate");
  if (method !== "GET" && method !== "HEAD") return false;
  if (SCRIPT_HEADERS.some((name) => headers[name] !== undefined)) return false;
  let html = 0;
  let json = 0;
  for (const member of values(headers, "accept").join(",").toLowerCase().split(",")) {
    const [kind = "", ...parameters] = member.split(";").map((part) => withoutBlanks(part));
    if (kind === "text/html") html = Math.max(html, quality(parameters));
    else if (JSON_KIND.test(kind)) json = Math.max(json, quality(parameters));
  }
  return html > json;
}

/**
 * Returns the quality value of a media type in `Accept` (RFC 9110, section 12.4.2), or 1 if the
 * type has none. `parameters` are the parameters of the type.
 */
function quality(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const found = QUALITY.exec(parameter);
    if (found) return Number(found[1]);
  }
  return 1;
}
