/** The options of an app for its middleware, and their checks. */

import { type CookieOptions, Cookies } from "./cookies.js";
import { DevicesMount, type DevicesOptions } from "./devices/mount.js";
import { checkedPaths } from "./named_paths.js";
import { checkedOrigins } from "./origins.js";
import { Proxies } from "./proxies.js";

const MINUTE_MS = 60_000;
const BRIEF_IDLE_TIMEOUT_MS = 12 * 60 * MINUTE_MS;
const PRINTABLE = /^[!-~]+$/;
const HEADER = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;

/** The options of an app for its middleware. */
export interface FlowOptions {
  /** The names of the cookies, and the rules by which they are written. */
  readonly cookies?: CookieOptions | undefined;
  /**
   * The URL of the sign-in page. Browsers without a session are redirected there instead of getting
   * 401. If it is a path, the field `next` is added to its query: the path that the browser wanted.
   */
  readonly signInUrl?: string | undefined;
  /**
   * Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed,
   * and "unix" for a proxy at a unix socket. Default: none.
   */
  readonly trustedProxies?: readonly string[] | undefined;
  /**
   * The header in which apps that are no browsers send their device ID. Default: `x-device-id`.
   */
  readonly deviceHeader?: string | undefined;
  /**
   * If true, a client that sends a bearer token or the `deviceHeader` (even an empty one) is an app
   * and no browser. Set false if a proxy in front of the app adds an `Authorization: Bearer` of its
   * own to the requests of browsers: then only cookies count. Default: true.
   */
  readonly bearer?: boolean | undefined;
  /**
   * If true, a request that may change something (any method but GET, HEAD, OPTIONS and TRACE; a
   * WebSocket's handshake) is refused if a browser sends it for a page of another origin. A sibling
   * subdomain is another origin. Default: true.
   */
  readonly checkOrigin?: boolean | undefined;
  /**
   * Other origins whose pages may send requests that change something: "https://id.example", as the
   * header `Origin` spells it. Behind a proxy that rewrites `Host`, name this app's own origin,
   * too, for older browsers. Default: none.
   */
  readonly trustedOrigins?: readonly string[] | undefined;
  /**
   * Paths to which other sites send browsers, such as an OIDC callback. A path with `*` at its end
   * stands for all paths that start like it. If another site sent a browser to such a path, the
   * browser brings no strict cookie. Then it gets a page that requests the same URL again, with the
   * cookies. The page of `devices` is always such a path. Default: none.
   */
  readonly returnPaths?: readonly string[] | undefined;
  /**
   * How long a session that ends with the browser (`remember: false`) may last unused, in
   * milliseconds: at least a minute. If the service's own idle timeout is shorter, the service's
   * idle timeout applies. Default: 12 hours.
   */
  readonly briefIdleTimeoutMs?: number | undefined;
  /**
   * Paths that pages of the app request by themselves, spelled like `returnPaths`. A request there
   * doesn't count as a use of the session, so it does not put off the idle end. Default: none.
   */
  readonly passivePaths?: readonly string[] | undefined;
  /**
   * If true, an event stream ends when its session ends, if the app used the session. If false, the
   * app itself must end its streams. Default: true.
   */
  readonly endConnections?: boolean | undefined;
  /**
   * The page of the user's devices, and its API. The middleware serves both at a path of the app
   * and below it. There the origin is checked even if `checkOrigin` is false. `true` means the page
   * at `/devices`. Default: no page.
   */
  readonly devices?: boolean | DevicesOptions | undefined;
  /**
   * The log for lines about outages and refusals. Default: `console`, without the lines of the
   * level `info`.
   */
  readonly log?: WebLog | undefined;
}

/** A log for the people who run the app. Its lines contain no token and no cookie. */
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
  const mailed = mount !== undefined && !returnPaths.includes(mount.path); // mails link to the page
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
