/**
 * Finds requests that a page of another origin sent. Browsers say in headers which origin caused a
 * request, and no script can change these headers.
 *
 * All current browsers send `Sec-Fetch-Site` over HTTPS and to localhost. If this header is
 * missing, as over plain HTTP or in older browsers, this module compares `Origin` with `Host`. A
 * client that sends neither `Sec-Fetch-Site` nor `Origin` counts as no browser.
 */

import { isIPv6 } from "node:net";

import { type Headers, values } from "./headers.js";

// Requests with these methods change nothing (RFC 9110, section 9.2.1), so any page may cause them.
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS", "TRACE"]);
// The values of `Sec-Fetch-Site` for requests that no page of another origin caused. "none" means
// that the user caused the request, for example with a bookmark.
const OWN = new Set(["same-origin", "none"]);
const ORIGIN = /^([a-z][a-z0-9+.-]*):\/\/([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?$/i;
const DEFAULT_PORTS: Readonly<Record<string, number>> = { http: 80, https: 443 };

/**
 * Returns an origin as browsers write it: in lower case, and without the default port of its
 * scheme. Returns undefined if the text is no origin.
 */
export function normalOrigin(origin: string): string | undefined {
  const found = ORIGIN.exec(origin);
  if (!found) return undefined;
  const scheme = (found[1] ?? "").toLowerCase();
  let host = (found[2] ?? "").toLowerCase();
  if (host.startsWith("[")) {
    if (!isIPv6(host.slice(1, -1))) return undefined;
    host = new URL(`http://${host}`).hostname;
  }
  const port = found[3] === undefined ? undefined : Number(found[3]);
  if (port === undefined || port === defaultPort(scheme)) return `${scheme}://${host}`;
  return port > 0 && port < 65536 ? `${scheme}://${host}:${port}` : undefined;
}

/**
 * Returns the origins in `given`, which the app trusts, as browsers write them. Throws TypeError if
 * a text in `given` is no origin.
 */
export function checkedOrigins(given: readonly string[]): ReadonlySet<string> {
  const list: unknown = given;
  if (!Array.isArray(list)) throw new TypeError("trustedOrigins: must be an array");
  return new Set(
    given.map((origin) => {
      const plain = normalOrigin(origin);
      if (plain !== undefined) return plain;
      throw new TypeError(
        "trustedOrigins: must be scheme://host or scheme://host:port in ASCII, not " +
          JSON.stringify(origin),
      );
    }),
  );
}

/**
 * Returns true if a page of another origin sent a request that may change something. Returns false
 * if the page's origin is in `trusted`, which contains origins as browsers write them.
 *
 * The handshake of a WebSocket counts as a request that may change something, although it is a GET.
 * Browsers let every page open a WebSocket, and send the cookies with the handshake.
 */
export function isForeign(method: string, headers: Headers, trusted: ReadonlySet<string>): boolean {
  const upgrades = headers.upgrade?.join(",").toLowerCase() ?? "";
  if (SAFE_METHODS.has(method) && !upgrades.includes("websocket")) return false;
  const sites = values(headers, "sec-fetch-site");
  const origins = values(headers, "origin");
  if (sites.length === 1 && OWN.has(sites[0] ?? "")) return false;
  const origin = origins.length === 1 ? normalOrigin(origins[0] ?? "") : undefined;
  if (origin !== undefined && trusted.has(origin)) return false;
  if (sites.length > 0) return true;
  return origins.length > 0 && (origin === undefined || !isAt(origin, values(headers, "host")));
}

/**
 * Returns true if `hosts`, the values of the header `Host`, name the host and port of `origin`. The
 * scheme is not compared, because a proxy that ends TLS may hide the scheme.
 */
function isAt(origin: string, hosts: readonly string[]): boolean {
  const scheme = origin.slice(0, origin.indexOf(":"));
  return (
    hosts.length === 1 &&
    defaultPort(scheme) !== undefined &&
    normalOrigin(`${scheme}://${hosts[0] ?? ""}`) === origin
  );
}

function defaultPort(scheme: string): number | undefined {
  return Object.hasOwn(DEFAULT_PORTS, scheme) ? DEFAULT_PORTS[scheme] : undefined;
}
