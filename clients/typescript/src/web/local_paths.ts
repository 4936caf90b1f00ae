/**
 * Checks the paths to which a sign-in page sends a user after the sign-in. The path after a sign-in
 * must be a path of this origin. A text is refused if a browser, or a server between the browser
 * and the app, could read it as the URL of another origin.
 *
 * Browsers read `\` as `/`, and remove tabs and line breaks. Servers may decode a path, remove its
 * dot segments (`.` and `..`), normalize its Unicode, and redirect to the result.
 */

import { cut, queryFields, quote, unquote } from "./percent_encoding.js";

/**
 * The greatest length of a path to which a user returns. Servers accept URLs of about 8,000
 * characters.
 */
export const MAX_PATH_CHARACTERS = 2000;
/**
 * The highest number of times that a path is decoded. A path that the last decoding still changes
 * is refused.
 */
const MAX_DECODINGS = 4;
const MAX_QUERY_FIELDS = 100;
const NEXT = "next";
const TEXT = /^\/[!-~]*$/;
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u;
const SCHEME = /^[A-Za-z][A-Za-z0-9+.-]*:/;

/**
 * Returns `text` if it is a path of this origin, with or without a query. Else returns `fallback`.
 */
export function localPath(text: string, fallback = "/"): string {
  return isLocal(text) ? text : fallback;
}

/**
 * Returns the value of the field `next` in the query of `target` if the value is a path of this
 * origin. If the value is no such path, returns `fallback`. Also returns `fallback` if the query
 * has no `next`, or two fields `next` with different values.
 */
export function nextIn(target: string, fallback = "/"): string {
  const fields = queryFields(cut(target, "?")[1], { maxFields: MAX_QUERY_FIELDS }) ?? [];
  const found = new Set(fields.filter(([name]) => name === NEXT).map(([, value]) => value));
  const [only] = found;
  return found.size === 1 && only !== undefined ? localPath(only, fallback) : fallback;
}

/**
 * Returns `url`, the URL of a page, with the field `next` added to its query. `next` is `path`, to
 * which that page later sends the user. A URL of another origin stays unchanged, because `path`
 * would mean a path of that origin. `url` also stays unchanged if `path` is empty or is the page
 * itself, or if `url` already has `next`.
 */
export function withNext(url: string, path: string): string {
  const [page, query] = cut(cut(url, "#")[0], "?");
  const elsewhere = SCHEME.test(url) || url.startsWith("//") || url.startsWith("/\\");
  const fields = queryFields(query, { keepBlank: true, maxFields: Infinity }) ?? [];
  const named = fields.some(([name]) => name === NEXT);
  if (path === "" || elsewhere || named || cut(path, "?")[0] === page) return url;
  return withQuery(url, `${NEXT}=${quote(path)}`);
}

/** Returns the URL with `fields` added to its query, such as "a=1&b=2". */
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

/** Returns true if the path names no other origin, even after a server has normalized it. */
function stays(path: string): boolean {
  const normal = path.normalize("NFKC");
  if (normal.startsWith("//") || normal.includes("\\") || CONTROLS.test(normal)) return false;
  const kept: string[] = [];
  for (const segment of normal.split("/").slice(1)) {
    if (segment === "..") kept.pop();
    else if (segment !== ".") kept.push(segment);
  }
  // If the first segment is empty and another one follows, browsers read the path as "//host".
  return !(kept.length > 1 && kept[0] === "");
}
