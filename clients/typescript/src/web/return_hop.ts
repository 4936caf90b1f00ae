/**
 * The way back from another site, with strict cookies. A browser that another site sends here keeps
 * such cookies back. A page that asks for its own URL again is of this origin, so that the second
 * request has them.
 *
 * The second request is one of the same origin (`Sec-Fetch-Site`), so it is never answered like
 * this.
 */

import { type Headers, values } from "./headers.js";
import { isNamed } from "./named_paths.js";
import type { Answer } from "./responses.js";

// The URL of the request is not in the page: it can't become a way to somewhere else. A refresh,
// and a link, without a URL are for the page itself.
const PAGE =
  '<!doctype html>\n<html lang="en"><meta charset="utf-8">' +
  '<meta name="viewport" content="width=device-width">' +
  '<meta http-equiv="refresh" content="0">\n<title>One moment</title>\n' +
  '<p><a href="">Go on</a></p>\n</html>\n';

/** The page that asks for its own URL again. */
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

// Not in a frame: a page of another site that shows this one must not get the strict cookies into
// it.
const OF_A_RETURN = [
  ["sec-fetch-site", "cross-site"],
  ["sec-fetch-mode", "navigate"],
  ["sec-fetch-dest", "document"],
] as const;

/** Whether a person comes back from another site to one of the paths. */
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
