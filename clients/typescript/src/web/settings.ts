/** Defines and checks the options that an app gives to the middleware. */

import { type CookieOptions, Cookies } from "./cookies.js";
import { DevicesMount, type DevicesOptions } from "./devices/mount.js";
import { checkedPaths } from "./named_paths.js";
import { checkedOrigins } from "./origins.js";
import { Proxies } from "./proxies.js";

const MINUTE_MS = 60_000;
const BRIEF_IDLE_TIMEOUT_MS = 12 * 60 * MINUTE_MS;
const PRINTABLE = /^[!-~]+$/;
const HEADER = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;

/** The options that an app gives to the middleware. */
export interface FlowOptions {
  /** The names and attributes of the cookies. */
  readonly cookies?: CookieOptions | undefined;
  /**
   * The URL of the sign-in page. A browser that requests a page without a session is redirected to
   * this URL instead of getting 401. If this URL is a path, the redirect adds the field `next` to
   * its query: the path to which the user returns after the sign-in.
   */
  readonly signInUrl?: string | undefined;
  /**
   * The IP addresses and networks of the proxies that the app trusts, and "unix" for a proxy that
   * connects over a unix socket. The app believes `X-Forwarded-For` and `X-Forwarded-Proto` only
   * from these proxies. Default: none.
   */
  readonly trustedProxies?: readonly string[] | undefined;
  /**
   * The header in which clients that are no browsers, such as mobile apps, send their device ID.
   * Default: `x-device-id`.
   */
  readonly deviceHeader?: string | undefined;
  /**
   * If true, a client that sends a bearer token or the `deviceHeader` counts as a mobile app and
   * not as a browser. The value of the `deviceHeader` may be empty. If false, every client counts
   * as a browser, and only its cookies are read. Set false if a proxy in front of the app adds its
   * own `Authorization: Bearer` to the requests of browsers. Default: true.
   */
  readonly bearer?: boolean | undefined;
  /**
   * If true, the middleware refuses a browser's request that may change something if a page of
   * another origin sent the request. GET, HEAD, OPTIONS and TRACE change nothing, but the handshake
   * of a WebSocket counts as a request that may change something. A sibling subdomain is another
   * origin. Default: true.
   */
  readonly checkOrigin?: boolean | undefined;
  /**
   * Other origins whose pages may send requests that change something, such as
   * "https://id.example". Write them as browsers write the header `Origin`. If a proxy rewrites
   * `Host`, add this app's own origin, too: for older browsers, the check compares `Origin` with
   * `Host`. Default: none.
   */
  readonly trustedOrigins?: readonly string[] | undefined;
  /**
   * Paths to which other sites send browsers, such as an OIDC callback. A path with `*` at its end
   * stands for all paths that start with the text before the `*`. A browser that another site sends
   * to such a path does not send its strict cookies. The middleware answers the browser with a page
   * that requests the same URL again, with the cookies. The path of `devices` is always one of
   * these paths. Default: none.
   */
  readonly returnPaths?: readonly string[] | undefined;
  /**
   * The idle timeout of a session that ends with the browser (`remember: false`), in milliseconds:
   * at least a minute. The maximum is the service's `IDLE_TIMEOUT`: the middleware replaces a
   * longer value by the maximum. Default: 12 hours.
   */
  readonly briefIdleTimeoutMs?: number | undefined;
  /**
   * Paths that pages of the app request by themselves, without an action of the user. The paths are
   * written like `returnPaths`. A request to such a path does not count as a use of the session, so
   * it does not put off the session's idle end. Default: none.
   */
  readonly passivePaths?: readonly string[] | undefined;
  /**
   * If true, the middleware ends an event stream when its session ends, if the app used the session
   * in the request. If false, the app itself must end its event streams. Default: true.
   */
  readonly endConnections?: boolean | undefined;
  /**
   * The page of the user's devices, and its API. The middleware serves the page at a path of the
   * app, and the API below that path. At these paths the origin is checked even if `checkOrigin` is
   * false. `true` means the page at `/devices`. Default: no page.
   */
  readonly devices?: boolean | DevicesOptions | undefined;
  /**
   * The log to which the middleware writes lines about outages and refused requests. Default:
   * `console`, without the lines of the level `info`.
   */
  readonly log?: WebLog | undefined;
}

/** A log for the people who run the app. No line contains a token or the value of a cookie. */
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

/** The options of an app after the checks, with all defaults filled in. */
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

/**
 * Checks the options of an app, and returns them with all defaults. Throws TypeError or RangeError
 * that names an invalid option.
 */
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
  // Mails link to the page of devices, so other sites send browsers to it.
  const mailed = mount !== undefined && !returnPaths.includes(mount.path);
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
