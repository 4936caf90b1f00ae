/**
 * Reads the token, the device ID and the facts of the client from the first line and the headers of
 * a request. This module does not call the service.
 */

import type { ClientInfo, SessionStatus } from "../types.js";
import { readHints } from "./client_hints.js";
import { canonicalDeviceId } from "./device_ids.js";
import { type Headers, values } from "./headers.js";
import { localPath } from "./local_paths.js";
import { isNamed } from "./named_paths.js";
import { wantsPage } from "./navigation.js";
import { isForeign } from "./origins.js";
import { CrossOrigin, InsecureHost, refusal, ReturnHop } from "./responses.js";
import { HOP, isReturn } from "./return_hop.js";
import type { Settings } from "./settings.js";

/** The greatest length of a token in bytes. The service makes no longer token. */
export const MAX_TOKEN_BYTES = 4096;
const MAX_USER_AGENT_LENGTH = 512;
const TOKEN = /^[A-Za-z0-9._-]{1,4096}$/;
const BEARER = /^bearer +(\S+) *$/i;
const LOCAL_HOST = /^(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/i;

/** The parts of a request from which the middleware decides what to do. */
export interface RequestFacts {
  readonly method: string;
  readonly headers: Headers;
  /** The IP address at the other end of the connection. Empty for a unix socket. */
  readonly peer: string;
  /** The path with its query, as the client sent it. */
  readonly target: string;
}

/** The token, the device ID and the facts of the client that a request presented. */
export interface Presented {
  /**
   * The status of the token, if no call to the service is needed to know it: `TOKEN_MISSING` or
   * `TOKEN_INVALID`. Else undefined.
   */
  readonly status: SessionStatus | undefined;
  /** The access token. Empty if the request had no token, or a token of invalid form. */
  readonly token: string;
  /** The device ID. Empty if the request had no device ID, or a device ID of invalid form. */
  readonly deviceId: string;
  /**
   * True if a mobile app or another client that is no browser sent the request. Such a client
   * stores its token and its device ID itself, and its responses set no cookies.
   */
  readonly app: boolean;
  readonly client: ClientInfo;
  /** True if a browser requests a page, and not data for a script. */
  readonly page: boolean;
  /** The path of the request with its query, as the client sent it. */
  readonly target: string;
  /** True if the client may send the request again, because GET and HEAD change nothing. */
  readonly repeatable: boolean;
  /**
   * The session ID in the cookie that marks a session that ends with the browser. Empty if the
   * request has no such cookie.
   */
  readonly brief: string;
  /**
   * True if the path is one of `passivePaths`: the page sent the request without an action of the
   * user.
   */
  readonly passive: boolean;
}

/**
 * Reads a request. Throws CrossOrigin if a page of another origin sent a request that may change
 * something. Throws InsecureHost if the app has insecure cookies and the host is not localhost.
 * Throws ReturnHop if a browser must send the request again, with its strict cookies.
 */
export function presentedBy(settings: Settings, request: RequestFacts): Presented {
  const { method, headers, peer, target } = request;
  const bearer = bearerOf(values(headers, "authorization"));
  const devices = values(headers, settings.deviceHeader);
  const app = settings.bearer && (bearer !== undefined || devices.length > 0);
  const page = !app && wantsPage(method, headers);
  const checks = settings.checkOrigin || settings.devices?.serves(target) === true;
  if (checks && !app && isForeign(method, headers, settings.trustedOrigins)) {
    throw crossOrigin(settings, request, page);
  }
  const brought = app
    ? { token: bearer ?? "", deviceId: devices.length === 1 ? (devices[0] ?? "") : "", brief: "" }
    : broughtByBrowser(settings, request, page);
  const status = statusOf(brought.token);
  return {
    status,
    token: status === undefined ? brought.token : "",
    deviceId: canonicalDeviceId(brought.deviceId),
    app,
    client: clientOf(settings, headers, peer),
    page,
    target,
    repeatable: method === "GET" || method === "HEAD",
    brief: brought.brief,
    passive: isNamed(target, settings.passivePaths),
  };
}

/**
 * Returns the path and query of the request if a browser can return to them after a sign-in. Else
 * returns an empty string.
 */
export function wayBack({ repeatable, target }: Presented): string {
  return repeatable ? localPath(target, "") : "";
}

/**
 * Returns true if a mobile app or another client that is no browser sent the request, with a bearer
 * token or the device header. A page of another origin can't make a browser send these two headers
 * without a script. The browser allows such a script only if the app permits it (CORS).
 */
export function isApp(settings: Settings, headers: Headers): boolean {
  const sends = bearerOf(values(headers, "authorization")) !== undefined;
  return settings.bearer && (sends || values(headers, settings.deviceHeader).length > 0);
}

function broughtByBrowser(
  settings: Settings,
  { method, headers, target }: RequestFacts,
  page: boolean,
): { token: string; deviceId: string; brief: string } {
  const { cookies } = settings;
  const host = headers.host?.join("") ?? "localhost";
  if (cookies.insecure && !LOCAL_HOST.test(host)) {
    throw new InsecureHost("insecure_cookies", refusal(400, "insecure_cookies", { page }));
  }
  const brought = cookies.read(values(headers, "cookie"));
  const keptBack = cookies.areKeptBack(brought.token, brought.deviceId);
  if (keptBack && isReturn(method, headers, target, settings.returnPaths)) {
    throw new ReturnHop("return_hop", HOP);
  }
  return brought;
}

function statusOf(token: string): SessionStatus | undefined {
  if (token === "") return "TOKEN_MISSING";
  return TOKEN.test(token) ? undefined : "TOKEN_INVALID";
}

function clientOf(settings: Settings, headers: Headers, peer: string): ClientInfo {
  const clientHints = readHints(headers);
  return {
    ipAddress: settings.proxies.address(headers, peer),
    userAgent: (values(headers, "user-agent")[0] ?? "").slice(0, MAX_USER_AGENT_LENGTH),
    ...(clientHints === undefined ? {} : { clientHints }),
  };
}

function bearerOf(authorization: readonly string[]): string | undefined {
  const [only, ...more] = authorization;
  if (only === undefined || more.length > 0) return undefined;
  return BEARER.exec(only)?.[1];
}

function crossOrigin(settings: Settings, request: RequestFacts, page: boolean): CrossOrigin {
  const { method, headers, target } = request;
  const said = ["origin", "sec-fetch-site", "host"].map(
    (name) => `${name} ${JSON.stringify(values(headers, name).join(", ").slice(0, 200))}`,
  );
  settings.log.info(
    `Refused a ${JSON.stringify(method.slice(0, 20))} that a page of another origin sent: ` +
      `${said.join(", ")}. If it may, name its origin in trustedOrigins`,
  );
  const code = "cross_origin_request";
  const mount = settings.devices?.serves(target) === true ? settings.devices : undefined;
  const answer = mount?.foreignOrigin(request) ?? refusal(403, code, { page });
  return new CrossOrigin(code, answer);
}
