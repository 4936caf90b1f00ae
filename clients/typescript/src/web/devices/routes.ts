/**
 * Finds the route of a request to the page of devices or its API, in a table of all paths and
 * methods.
 */

import { cut, unquote } from "../percent_encoding.js";

/** The action that a request to the page or its API wants. */
export type Action =
  | "page"
  | "static"
  | "openapi"
  | "messages"
  | "list"
  | "rename"
  | "sign_out_device"
  | "not_me"
  | "sign_out_others"
  | "sign_out_here";

const NAMED = "*";
// Each row has a path below the path of the page, the one method that this path allows, and the
// action. In a path, `*` stands for a device ID or a file's name.
const ROUTES: readonly (readonly [readonly string[], "GET" | "POST", Action])[] = [
  [[], "GET", "page"],
  [["static", NAMED], "GET", "static"],
  [["api", "openapi.json"], "GET", "openapi"],
  [["api", "messages"], "GET", "messages"],
  [["api", "devices"], "GET", "list"],
  [["api", "devices", NAMED, "rename"], "POST", "rename"],
  [["api", "devices", NAMED, "sign-out"], "POST", "sign_out_device"],
  [["api", "devices", NAMED, "not-me"], "POST", "not_me"],
  [["api", "sign-out-others"], "POST", "sign_out_others"],
  [["api", "sign-out"], "POST", "sign_out_here"],
];

/**
 * The route of a request. `isApi` is true if the path begins with `api` or `static` below the path
 * of the page. Programs, and not people, request these paths.
 */
export interface Route {
  /**
   * The action of the request. Undefined if the table lacks the request's path, or if the path does
   * not allow the request's method.
   */
  readonly action: Action | undefined;
  /**
   * The device ID or the file's name in the path. Empty if the path has no device ID and no file's
   * name.
   */
  readonly name: string;
  /** The methods that the path allows, if it does not allow the request's method. Else empty. */
  readonly allowed: string;
  readonly isApi: boolean;
}

/**
 * Returns the route of a request. `mount` is the path of the page. `target` is this path or a path
 * below it.
 */
export function routeOf(mount: string, method: string, target: string): Route {
  const path = unquote(cut(target, "?")[0]);
  const segments = path.slice(mount.length).split("/").slice(1);
  while (segments.at(-1) === "") segments.pop();
  const isApi = segments[0] === "api" || segments[0] === "static";
  for (const [pattern, wanted, action] of ROUTES) {
    if (!fits(pattern, segments)) continue;
    const name = segments[pattern.indexOf(NAMED)] ?? "";
    const given = method === "HEAD" ? "GET" : method;
    if (given === wanted) return { action, name, allowed: "", isApi };
    const allowed = wanted === "GET" ? "GET, HEAD" : wanted;
    return { action: undefined, name, allowed, isApi };
  }
  return { action: undefined, name: "", allowed: "", isApi };
}

function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((wanted, at) => wanted === NAMED || wanted === segments[at])
  );
}
