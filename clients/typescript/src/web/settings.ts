/** How an app wants its sessions handled: the options, and their checks. */

import { type CookieOptions, Cookies } from "./cookies.js";
import { DevicesMount, type DevicesOptions } from "./devices/mount.js";
import { checkedPaths } from "./named_paths.js";
import { checkedOrigins } from "./origins.js";
import { Proxies } from "./proxies.js";

const MINUTE_MS = 60_000;
const BRIEF_IDLE_TIMEOUT_MS = 12 * 60 * MINUTE_MS;
const PRINTABLE = /^[!-~]+$/;
const HEADER = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;

/** What an app may choose. */
export interface FlowOptions {
  /** How the cookies are called and written. */
  readonly cookies?: CookieOptions | undefined;
  /**
   * Where browsers without a session are sent instead of being answered 401. If it is a path,
   * `next` is added to its query: the path that the browser wanted.
   */
  readonly signInUrl?: string | undefined;
  /**
   * Addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; "unix" for
   * a proxy at a unix socket.
   */
  readonly trustedProxies?: readonly string[] | undefined;
  /** Where apps that are no browsers put their device ID. `x-device-id` unless told. */
  readonly deviceHeader?: string | undefined;
  /**
   * A client that sends a bearer token, or the `deviceHeader` with a device ID or empty, is an app
   * and no browser. False if a proxy adds an `Authorization: Bearer` of its own to what browsers
   * send: then cookies alone are looked at. True unless told.
   */
  readonly bearer?: boolean | undefined;
  /**
   * What may change something (any method but GET, HEAD, OPTIONS and TRACE; a WebSocket's
   * handshake) is refused if a browser sends it for a page of another origin, a sibling subdomain's
   * included. True unless told.
   */
  readonly checkOrigin?: boolean | undefined;
  /**
   * Other origins whose forms may come, "https://id.example" as the header `Origin` has it. Behind
   * a proxy that rewrites `Host`, this app's own one, for older browsers.
   */
  readonly trustedOrigins?: readonly string[] | undefined;
  /**
   * Paths to which other sites send browsers, such as an OIDC callback, or with `*` at the end all
   * that start like that. There a browser that brings no strict cookie, as it was sent by another
   * site, gets a page that asks for the same URL again, with the cookies.
   */
  readonly returnPaths?: readonly string[] | undefined;
  /**
   * How long a session that ends with the browser (`remember: false`) may last unused. The
   * service's own idle time holds if that is shorter. 12 hours unless told, a minute at least.
   */
  readonly briefIdleTimeoutMs?: number | undefined;
  /**
   * Paths that pages of the app ask for by themselves, spelled like `returnPaths`. A request there
   * doesn't count as a use of the session, so it does not put off the idle end.
   */
  readonly passivePaths?: readonly string[] | undefined;
  /**
   * Event streams whose app looked at the session end when the session does. False leaves that to
   * the app. True unless told.
   */
  readonly endConnections?: boolean | undefined;
  /**
   * The middleware answers below a path of the app with the page of the user's devices, and with
   * its API. There the origin is checked in any case. `true` is the page at `/devices`.
   */
  readonly devices?: boolean | DevicesOptions | undefined;
  /** Where lines about outages and refusals go. `console` unless told, without what is routine. */
  readonly log?: WebLog | undefined;
}

/** Writes lines for the people who run the app. Lines have no token and no cookie. */
export interface WebLog {
  readonly error: (line: string) => void;
  readonly warn: (line: string) => void;
  readonly info: (line: string) => void;
}

const CONSOLE: WebLog = {
  error: (line) => {
    console.error(line);
  },
  warn: (line) => {
    console.warn(line);
  },
  info: () => undefined,
};

/** The options of an app, checked and complete. */
export interface Settings {
  readonly cookies: Cookies;
  readonly signInUrl: string | undefined;
  readonly proxies: Proxies;
  readonly deviceHeader: string;
  readonly bearer: boolean;
  readonly checkOrigin: boolean;
  readonly trustedOrigins: ReadonlySet<string>;
  readonly returnPaths: readonly string[];
  readonly briefIdleTimeoutMs: number;
  readonly passivePaths: readonly string[];
  readonly endConnections: boolean;
  readonly devices: DevicesMount | undefined;
  readonly log: WebLog;
}

/** Checks the options of an app. Throws TypeError and RangeError that name the option. */
export function settingsOf(options: FlowOptions): Settings {
  const { signInUrl, deviceHeader = "x-device-id", devices = false } = options;
  if (signInUrl !== undefined && !PRINTABLE.test(signInUrl)) {
    throw new TypeError("signInUrl: must be printable ASCII");
  }
  if (!HEADER.test(deviceHeader.toLowerCase())) {
    throw new TypeError("deviceHeader: must be the name of a header");
  }
  const { briefIdleTimeoutMs = BRIEF_IDLE_TIMEOUT_MS } = options;
  if (!(briefIdleTimeoutMs >= MINUTE_MS && briefIdleTimeoutMs < Infinity)) {
    throw new RangeError("briefIdleTimeoutMs: must be a minute at least");
  }
  const mount = devices === false ? undefined : new DevicesMount(devices === true ? {} : devices);
  const returnPaths = checkedPaths("returnPaths", options.returnPaths ?? []);
  const mailed = mount !== undefined && !returnPaths.includes(mount.path); // mails link to it
  return {
    cookies: new Cookies(options.cookies),
    signInUrl,
    proxies: new Proxies(options.trustedProxies ?? []),
    deviceHeader: deviceHeader.toLowerCase(),
    bearer: flag("bearer", options.bearer),
    checkOrigin: flag("checkOrigin", options.checkOrigin),
    trustedOrigins: checkedOrigins(options.trustedOrigins ?? []),
    returnPaths: mailed ? [...returnPaths, mount.path] : returnPaths,
    briefIdleTimeoutMs,
    passivePaths: checkedPaths("passivePaths", options.passivePaths ?? []),
    endConnections: flag("endConnections", options.endConnections),
    devices: mount,
    log: options.log ?? CONSOLE,
  };
}

function flag(name: string, value: unknown = true): boolean {
  if (typeof value !== "boolean") throw new TypeError(`${name}: must be true or false`);
  return value;
}
