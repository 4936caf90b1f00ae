/**
 * The two cookies of a browser: its access token, and its device ID. Reads and writes headers, and
 * decides nothing.
 *
 * A session that ends with the browser has a third cookie, which marks the session: browsers don't
 * say how long they keep a cookie, and a renewed token must be kept no longer than the token before
 * it. The mark is the session's ID, so that it says nothing of any other session. A client can
 * change the mark, which is harmless: only the service ends sessions.
 *
 * The cookies are always host-only, for all paths, and out of reach of scripts (RFC 6265bis,
 * section 4.1.3.2: `__Host-`). They are written as exact text: a value that could end a header or
 * an attribute is refused.
 */

import { withoutBlanks } from "./headers.js";

/** Browsers drop a cookie if its name and value together are longer. */
export const MAX_COOKIE_BYTES = 4096;
/** Browsers keep no cookie for longer than 400 days. */
export const MAX_COOKIE_AGE_SECONDS = 400 * 24 * 60 * 60;
/**
 * The service starts a session only if all its tokens will have at most 4,000 bytes, so that no
 * renewal makes a cookie too long.
 */
const MAX_NAME_LENGTH = MAX_COOKIE_BYTES - 4000 - "__Host-".length;
const BRIEF = "-brief";
const NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
const VALUE = /^[A-Za-z0-9._~-]+$/;
const PREFIXED = /^__(?:host|secure)-/i;

/**
 * The rule for sending the cookies with links of other sites. `Strict`: the browser never sends
 * them. `Lax`: the browser sends them when the user follows a link to a page.
 */
export type SameSite = "Strict" | "Lax";

/** The names of the cookies, and the rules by which they are written. */
export interface CookieOptions {
  /** The name of the cookie with the token, without a prefix. Default: `session`. */
  readonly token?: string | undefined;
  /** The name of the cookie with the device ID, without a prefix. Default: `device`. */
  readonly device?: string | undefined;
  /** The rule for both cookies. Default: `Strict`. */
  readonly sameSite?: SameSite | undefined;
  /** The rule for the cookie with the device ID. Default: the value of `sameSite`. */
  readonly deviceSameSite?: SameSite | undefined;
  /**
   * Set this only for developing on http://localhost, with a browser that does not treat this
   * address as secure. If false, all names begin with `__Host-`. If true, the middleware refuses
   * requests of browsers to all hosts except localhost, its subdomains, 127.0.0.1 and [::1].
   * Default: false.
   */
  readonly insecure?: boolean | undefined;
}

/** The values that a session's cookies are made of. */
export interface HandOut {
  readonly token: string;
  readonly deviceId: string;
  /** The absolute end of the session. */
  readonly end: Date;
  readonly now: Date;
  /** The ID of a session that ends with the browser, else empty. */
  readonly brief?: string;
}

/** Reads and writes the cookies. Throws TypeError for options that browsers would not accept. */
export class Cookies {
  readonly insecure: boolean;
  /** The name of the cookie with the token, with its prefix. */
  readonly tokenName: string;
  /** The name of the cookie with the device ID, with its prefix. */
  readonly deviceName: string;
  /** The name of the cookie that marks a session that ends with the browser, with its prefix. */
  readonly briefName: string;
  readonly #tokenRule: SameSite;
  readonly #deviceRule: SameSite;

  constructor(options: CookieOptions = {}) {
    const { token = "session", device = "device", insecure = false } = options;
    for (const [option, name] of Object.entries({ token, device })) checkName(option, name);
    if (device === token || device === token + BRIEF) {
      throw new TypeError("token and device: are two cookies");
    }
    const prefix = insecure ? "" : "__Host-";
    this.insecure = insecure;
    this.tokenName = prefix + token;
    this.deviceName = prefix + device;
    this.briefName = prefix + token + BRIEF;
    this.#tokenRule = checkedRule("sameSite", options.sameSite ?? "Strict");
    this.#deviceRule = checkedRule("deviceSameSite", options.deviceSameSite ?? this.#tokenRule);
  }

  /** Returns the values in a request's `Cookie` headers. A value is empty if there is none. */
  read(headers: readonly string[]): { token: string; deviceId: string; brief: string } {
    const pairs = pairsOf(headers);
    return {
      token: this.#only(pairs, this.tokenName),
      deviceId: this.#only(pairs, this.deviceName),
      brief: this.#only(pairs, this.briefName),
    };
  }

  /**
   * Returns true if the browser may have strict cookies that it did not send. A browser sends all
   * of them or none.
   */
  areKeptBack(token: string, deviceId: string): boolean {
    const strict: string[] = [];
    if (this.#tokenRule === "Strict") strict.push(token);
    if (this.#deviceRule === "Strict") strict.push(deviceId);
    return strict.length > 0 && strict.every((found) => found === "");
  }

  /** Returns true if a `Set-Cookie` header sets one of these cookies. */
  isSetBy(line: string): boolean {
    const name = withoutBlanks(line.split("=", 1)[0] ?? "");
    return name === this.tokenName || name === this.deviceName || name === this.briefName;
  }

  /**
   * Returns the `Set-Cookie` headers that give a browser its token and its device ID. The token's
   * cookie lasts until the absolute end of the session, because an expired token can be renewed.
   * Only the service knows the idle end, which moves with each use. If the session ends with the
   * browser, the token's cookie has no expiry time, and the mark is set, too. The device ID's
   * cookie stays in any case.
   */
  handOut({ token, deviceId, end, now, brief = "" }: HandOut): string[] {
    const left = Math.trunc((end.getTime() - now.getTime()) / 1000);
    const life = brief ? undefined : Math.min(Math.max(left, 0), MAX_COOKIE_AGE_SECONDS);
    const given = [
      this.#set(this.tokenName, token, life),
      this.#set(this.deviceName, deviceId, MAX_COOKIE_AGE_SECONDS),
    ];
    return brief ? [...given, this.#set(this.briefName, brief, undefined)] : given;
  }

  /**
   * Returns the `Set-Cookie` headers that delete the token's cookie. With `device` they delete the
   * device ID too, and with `brief` the mark.
   */
  takeBack({ device, brief = false }: { device: boolean; brief?: boolean }): string[] {
    const names = [this.tokenName];
    if (device) names.push(this.deviceName);
    if (brief) names.push(this.briefName);
    return names.map((name) => this.#line(name, "", 0));
  }

  /**
   * Returns the value of the cookie with this name. If two cookies have this name and different
   * values, an attacker has set one of them, and nobody can know which one. Then the value counts
   * as missing.
   *
   * With insecure names the last value counts. Another app on localhost may have left cookies with
   * the same name for other paths, and this module can't delete such cookies. Browsers send them
   * first, because their paths are longer (RFC 6265, section 5.4).
   */
  #only(pairs: readonly (readonly [string, string])[], name: string): string {
    let found: string | undefined;
    for (const [key, value] of pairs) {
      if (key !== name) continue;
      if (found !== undefined && found !== value && !this.insecure) return "";
      found = value;
    }
    return found ?? "";
  }

  #set(name: string, value: string, lifeSeconds: number | undefined): string {
    if (!VALUE.test(value)) throw new TypeError(`${name}: can't be the value of a cookie`);
    if (name.length + value.length > MAX_COOKIE_BYTES) {
      throw new TypeError(`${name}: is longer than browsers keep; sign in with fewer claims`);
    }
    return this.#line(name, value, lifeSeconds);
  }

  #line(name: string, value: string, lifeSeconds: number | undefined): string {
    const lasting = lifeSeconds === undefined ? "" : `Max-Age=${lifeSeconds}; `;
    const secure = this.insecure ? "" : "Secure; ";
    const rule = name === this.deviceName ? this.#deviceRule : this.#tokenRule;
    return `${name}=${value}; Path=/; ${lasting}${secure}HttpOnly; SameSite=${rule}`;
  }
}

function checkName(option: string, name: string): void {
  if (typeof name !== "string" || !NAME.test(name) || PREFIXED.test(name)) {
    throw new TypeError(`${option}: must be a cookie's name, without a prefix`);
  }
  if (name.length > MAX_NAME_LENGTH) {
    throw new TypeError(`${option}: must have at most ${MAX_NAME_LENGTH} characters`);
  }
}

function checkedRule(option: string, rule: SameSite): SameSite {
  if (["Strict", "Lax"].includes(rule)) return rule;
  throw new TypeError(`${option}: must be "Strict" or "Lax"`);
}

/**
 * Returns the names and values in `Cookie` headers. Only blanks are stripped. If other white space
 * before a name were stripped, a cookie that was set without the rules of the prefix would have the
 * same name as our cookie.
 */
function pairsOf(headers: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (const header of headers) {
    for (const pair of header.split(";")) {
      const at = pair.indexOf("=");
      if (at >= 0)
        pairs.push([withoutBlanks(pair.slice(0, at)), withoutBlanks(pair.slice(at + 1))]);
    }
  }
  return pairs;
}
