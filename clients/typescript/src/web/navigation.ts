/**
 * Whether a browser goes to a page, or a program fetches something: pages are for people, codes for
 * programs.
 *
 * All browsers of today say so themselves (`Sec-Fetch-Mode`), but over plain HTTP only to this
 * machine. Without that header a page is only what the request names: browsers list `text/html` in
 * `Accept`, while axios, fetch, curl and the libraries of languages send a wildcard, JSON or
 * nothing.
 */

import { type Headers, values, withoutBlanks } from "./headers.js";

// Scripts that fetch parts of pages accept HTML, and say here that they are scripts.
const SCRIPT_HEADERS = [
  "x-requested-with",
  "hx-request",
  "x-turbo-request-id",
  "x-pjax",
  "x-up-version",
];
const JSON_KIND = /^[a-z]+\/(?:[a-z0-9.!#$&^_-]+\+)?json$/;
const QUALITY = /^q *= *([0-9]*\.?[0-9]+)$/;

/** Whether a request is a browser's that goes to a page. */
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

/** How much a kind is wanted (RFC 9110, section 12.4.2). */
function quality(parameters: readonly string[]): number {
  for (const parameter of parameters) {
    const found = QUALITY.exec(parameter);
    if (found) return Number(found[1]);
  }
  return 1;
}
