/** The routes of the page and its API: one table of all paths and methods. */

import { cut, unquote } from "../percent_encoding.js";

/** The action that a request wants. */
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
// Each row has a path below the mount, the one method of the path, and the action. In a path, `*`
// stands for a device ID or a file's name.
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

/** The route of a request. `isApi` is true if the path is for programs: below `api` or `static`. */
export interface Route {
  /**
   * The action of the request. Undefined if there is nothing at the request's path, or if the path
   * does not allow the request's method.
   */
  readonly action: Action | undefined;
  /** The device ID or the file's name in the path. */
  readonly name: string;
  /** The methods of the path, if the request has another method. Else empty. */
  readonly allowed: string;
  readonly isApi: boolean;
}

/** Returns the route of a request to a path below the mount. */
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
