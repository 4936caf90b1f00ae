/**
 * Handles a browser that comes from another site, such as a sign-in provider, when the cookies are
 * `SameSite=Strict`. The browser does not send strict cookies with a request that another site
 * caused. The middleware answers such a request with a page of this origin that requests its own
 * URL again. The browser sends the cookies with the second request.
 *
 * The second request comes from a page of the same origin, and says so in `Sec-Fetch-Site`. The
 * middleware never answers the second request with this page, because no other site caused it.
 */

import { type Headers, values } from "./headers.js";
import { isNamed } from "./named_paths.js";
import type { Answer } from "./responses.js";

// The page does not contain the URL of the request, because an attacker could write a URL that
// leads to another site. The refresh has no URL and the link has an empty one: each of them loads
// the page's own URL again.
const PAGE =
  '<!doctype html>\n<html lang="en"><meta charset="utf-8">' +
  '<meta name="viewport" content="width=device-width">' +
  '<meta http-equiv="refresh" content="0">\n<title>One moment</title>\n' +
  '<p><a href="">Go on</a></p>\n</html>\n';

/** The answer with the page that requests its own URL again. */
export const HOP: Answer = {
  status: 200,
  headers: [
    ["Content-Type", "text/html; charset=utf-8"],
    ["Content-Length", String(Buffer.byteLength(PAGE))],
    ["Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"],
    ["Cache-Control", "no-store"],
  ],
  body: PAGE,
};

// The headers of a request by which another site sends a browser to a page. A request for a frame
// does not have `document`, and does not count as a return. A page of another site that frames this
// app must not make the browser send strict cookies.
const OF_A_RETURN = [
  ["sec-fetch-site", "cross-site"],
  ["sec-fetch-mode", "navigate"],
  ["sec-fetch-dest", "document"],
] as const;

/** Returns true if another site sent a browser to one of the paths with this request. */
export function isReturn(
  method: string,
  headers: Headers,
  target: string,
  paths: readonly string[],
): boolean {
  return (
    method === "GET" &&
    paths.length > 0 &&
    OF_A_RETURN.every(([name, wanted]) => {
      const found = values(headers, name);
      return found.length === 1 && found[0] === wanted;
    }) &&
    isNamed(target, paths)
  );
}
