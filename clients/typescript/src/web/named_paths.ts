/** The paths that an app names in its settings: single paths, or all paths with the same start. */

import { cut, unquote } from "./percent_encoding.js";

// Browsers read "//x" as another origin, and a backslash as a slash.
const FORM = /^\/(?![/\\])[^?#*]*\*?$/s;

/** Checks the paths in a setting, and returns them. Throws TypeError that names the setting. */
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

/** Returns true if the path of a request's target is one of these paths, whatever its query. */
export function isNamed(target: string, paths: readonly string[]): boolean {
  if (paths.length === 0) return false;
  const path = unquote(cut(target, "?")[0]);
  return paths.some((named) =>
    named.endsWith("*") ? path.startsWith(named.slice(0, -1)) : path === named,
  );
}
