/**
 * Paths of this origin: where a sign-in page sends a user afterwards. A text is refused if a
 * browser, or a server on the way, could read it as the URL of another origin.
 *
 * Browsers read `\` as `/`, and leave out tabs and line breaks. Servers decode, remove dot
 * segments, normalise Unicode, and may send the result as a redirect.
 */

import { cut, queryFields, quote, unquote } from "./percent_encoding.js";

/** A longer URL is no page to which a user returns. Servers accept about 8,000 characters. */
export const MAX_PATH_CHARACTERS = 2000;
/** No app has paths that are encoded more often than this. */
const MAX_DECODINGS = 4;
const MAX_QUERY_FIELDS = 100;
const NEXT = "next";
const TEXT = /^\/[!-~]*$/;
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u;
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:/;

/** Returns the text if it is a path of this origin, with or without a query; else the fallback. */
export function localPath(text: string, fallback = "/"): string {
  return isLocal(text) ? text : fallback;
}

/**
 * Returns the path in the field `next` of a target's query, if it is a path of this origin; else
 * the fallback. If there are two such fields with different values, neither counts.
 */
export function nextIn(target: string, fallback = "/"): string {
  const fields = queryFields(cut(target, "?")[1], { maxFields: MAX_QUERY_FIELDS }) ?? [];
  const found = new Set(fields.filter(([name]) => name === NEXT).map(([, value]) => value));
  const [only] = found;
  return found.size === 1 && only !== undefined ? localPath(only, fallback) : fallback;
}

/**
 * Returns the URL of the sign-in page, with the path to return to. The URL of a page of another
 * origin gets no path: there the path would mean a path of that origin.
 */
export function withNext(url: string, path: string): string {
  const [page, query] = cut(cut(url, "#")[0], "?");
  const elsewhere = SCHEME.test(url) || url.startsWith("//") || url.startsWith("/\\");
  const fields = queryFields(query, { keepBlank: true, maxFields: Infinity }) ?? [];
  const named = fields.some(([name]) => name === NEXT);
  if (path === "" || elsewhere || named || cut(path, "?")[0] === page) return url;
  return withQuery(url, `${NEXT}=${quote(path)}`);
}

/** Returns the URL with more fields in its query. */
export function withQuery(url: string, fields: string): string {
  const at = url.indexOf("#");
  const page = at < 0 ? url : url.slice(0, at);
  return `${page}${page.includes("?") ? "&" : "?"}${fields}${at < 0 ? "" : url.slice(at)}`;
}

function isLocal(text: string): boolean {
  if (text.length > MAX_PATH_CHARACTERS || !TEXT.test(text) || text.includes("\\")) return false;
  let path = text.split(/[?#]/, 1)[0] ?? "";
  for (let decodings = 0; decodings < MAX_DECODINGS; decodings++) {
    if (!stays(path)) return false;
    const decoded = unquote(path);
    if (decoded === path) return true;
    path = decoded;
  }
  return false;
}

/** Returns true if the path names no other origin. */
function stays(path: string): boolean {
  const normal = path.normalize("NFKC");
  if (normal.startsWith("//") || normal.includes("\\") || CONTROLS.test(normal)) return false;
  const kept: string[] = [];
  for (const segment of normal.split("/").slice(1)) {
    if (segment === "..") kept.pop();
    else if (segment !== ".") kept.push(segment);
  }
  // An empty first segment with another after it is "//host".
  return !(kept.length > 1 && kept[0] === "");
}
