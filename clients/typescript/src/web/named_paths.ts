/**
 * Checks the paths that an app names in its settings, and compares the paths of requests with them.
 * A path in the settings that ends with `*` stands for all paths that start with the text before
 * the `*`.
 */

import { cut, unquote } from "./percent_encoding.js";

// A path must not begin with two slashes, because browsers read "//x" as another origin. A path
// must not begin with a slash and a backslash, because browsers read a backslash as a slash.
const FORM = /^\/(?![/\\])[^?#*]*\*?$/s;

/**
 * Checks the paths in a setting, and returns them. Throws TypeError that names the setting if a
 * path is invalid.
 */
export function checkedPaths(setting: string, given: readonly string[]): readonly string[] {
  const list: unknown = given;
  if (!Array.isArray(list)) throw new TypeError(`${setting}: must be an array of paths`);
  for (const path of given as readonly unknown[]) {
    if (typeof path !== "string" || !FORM.test(path)) {
      throw new TypeError(
        `${setting}: must be paths, like "/callback", or their start, like "/mail/*", not ` +
          JSON.stringify(path),
      );
    }
  }
  return [...given];
}

/**
 * Returns true if the path in `target` fits one of `paths`. The query in `target` does not count.
 */
export function isNamed(target: string, paths: readonly string[]): boolean {
  if (paths.length === 0) return false;
  const path = unquote(cut(target, "?")[0]);
  return paths.some((named) =>
    named.endsWith("*") ? path.startsWith(named.slice(0, -1)) : path === named,
  );
}
