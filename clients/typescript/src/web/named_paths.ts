/** The paths that an app names in its settings, each by itself or by its start. */

import { cut, unquote } from "./percent_encoding.js";

// Browsers read "//x" as another origin, and a backslash as a slash.
const FORM = /^\/(?![/\\])[^?#*]*\*?$/s;

/** The paths that an app names in that setting. Throws TypeError that names it. */
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

/** Whether the path of a request's target is one of those. Its query does not count. */
export function isNamed(target: string, paths: readonly string[]): boolean {
  if (paths.length === 0) return false;
  const path = unquote(cut(target, "?")[0]);
  return paths.some((named) =>
    named.endsWith("*") ? path.startsWith(named.slice(0, -1)) : path === named,
  );
}
