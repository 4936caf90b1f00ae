/** Reads the facts of a request from its first line and its headers. It calls no service. */

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

/** The service makes no token with more bytes. */
export const MAX_TOKEN_BYTES = 4096;
const MAX_USER_AGENT_LENGTH = 512;
const TOKEN = /^[A-Za-z0-9._-]{1,4096}$/;
const BEARER = /^bearer +(\S+) *$/i;
const LOCAL_HOST = /^(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/i;

/** The facts of a request that a decision needs. */
export interface RequestFacts {
  readonly method: string;
  readonly headers: Headers;
  /** The address at the other end of the connection. Empty at a unix socket. */
  readonly peer: string;
  /** The path with its query, as the client sent it. */
  readonly target: string;
}

/** The facts of a request. */
export interface Presented {
  /** The status of the token, if it is known without a call of the service. */
  readonly status: SessionStatus | undefined;
  /** The access token. Empty if the request had none, or none in a valid form. */
  readonly token: string;
  /** The device ID. Empty if the request had none, or none in a valid form. */
  readonly deviceId: string;
  /**
   * True if an app sent the request. An app keeps its token and its device ID itself, and its
   * responses never have cookies.
   */
  readonly app: boolean;
  readonly client: ClientInfo;
  /** True if a browser wants a page. */
  readonly page: boolean;
  /** The path with its query. */
  readonly target: string;
  /** True if the request may be sent again, as it changes nothing. */
  readonly repeatable: boolean;
  /** The ID of the session that ends with the browser. Empty if none does. */
  readonly brief: string;
  /** True if the page sent the request by itself, without the end user. */
  readonly passive: boolean;
}

/** Reads a request. Throws CrossOrigin, InsecureHost, ReturnHop. */
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

/** Returns the target if a browser can return there after a sign-in, else an empty string. */
export function wayBack({ repeatable, target }: Presented): string {
  return repeatable ? localPath(target, "") : "";
}

/**
 * Returns true if an app sent the request. No page of another origin can make a browser look like
 * an app. Only scripts can send these two headers, and for that the browser first asks the app for
 * permission (CORS).
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
