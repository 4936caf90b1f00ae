/**
 * The return of a browser from another site, with strict cookies. A browser that another site sends
 * here does not send strict cookies. So it gets a page of this origin that requests its own URL
 * again, and the second request has the cookies.
 *
 * The second request is of the same origin (`Sec-Fetch-Site`), so it never gets this page.
 */

import { type Headers, values } from "./headers.js";
import { isNamed } from "./named_paths.js";
import type { Answer } from "./responses.js";

// The page does not contain the URL of the request, so that the URL's contents can't lead to
// another site. A refresh without a URL loads the same page again. A link without a URL does, too.
const PAGE =
  '<!doctype html>\n<html lang="en"><meta charset="utf-8">' +
  '<meta name="viewport" content="width=device-width">' +
  '<meta http-equiv="refresh" content="0">\n<title>One moment</title>\n' +
  '<p><a href="">Go on</a></p>\n</html>\n';

/** The page that requests its own URL again. */
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

// A request of a frame does not count as a return: a page of another site that frames this page
// must not make the browser send strict cookies.
const OF_A_RETURN = [
  ["sec-fetch-site", "cross-site"],
  ["sec-fetch-mode", "navigate"],
  ["sec-fetch-dest", "document"],
] as const;

/** Returns true if a browser comes from another site to one of the paths. */
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
