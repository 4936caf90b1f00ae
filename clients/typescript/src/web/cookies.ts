/**
 * Reads and writes the cookies of a browser: one with its access token, and one with its device ID.
 * This module does not decide when a cookie is set.
 *
 * A session that ends with the browser has a third cookie, the marker. Browsers don't say how long
 * they keep a cookie, and a renewed token must be kept no longer than the token before it. The
 * marker says that the cookie of a renewed token must end with the browser, too. The value of the
 * marker is the session ID, so that the marker does not count for any other session. A client can
 * change the marker, which is harmless: only the service ends sessions.
 *
 * All cookies are host-only, valid for all paths, and out of reach of scripts (`HttpOnly`). Unless
 * `insecure` is true, their names begin with `__Host-` (RFC 6265bis, section 4.1.3.2). Values are
 * written without any escaping, so a value that could end a header or an attribute is refused.
 */

import { withoutBlanks } from "./headers.js";

/** The greatest length of a cookie's name and value together. Browsers drop a longer cookie. */
export const MAX_COOKIE_BYTES = 4096;
/** The longest life of a cookie. Browsers keep no cookie for longer than 400 days. */
export const MAX_COOKIE_AGE_SECONDS = 400 * 24 * 60 * 60;
/**
 * The greatest length of a cookie's name without its prefix. The service starts a session only if
 * all tokens of the session will have at most 4,000 bytes. Each token and a name of this length fit
 * into one cookie.
 */
const MAX_NAME_LENGTH = MAX_COOKIE_BYTES - 4000 - "__Host-".length;
const BRIEF = "-brief";
const NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
const VALUE = /^[A-Za-z0-9._~-]+$/;
const PREFIXED = /^__(?:host|secure)-/i;

/**
 * The rule for requests that other sites cause. `Strict`: the browser sends no cookies with these
 * requests. `Lax`: the browser sends the cookies only when the user follows a link to a page.
 */
export type SameSite = "Strict" | "Lax";

/** The names and attributes of the cookies. */
export interface CookieOptions {
  /** The name of the cookie with the token, without a prefix. Default: `session`. */
  readonly token?: string | undefined;
  /** The name of the cookie with the device ID, without a prefix. Default: `device`. */
  readonly device?: string | undefined;
  /**
   * The `SameSite` rule for all cookies, unless `deviceSameSite` gives the device ID another rule.
   * Default: `Strict`.
   */
  readonly sameSite?: SameSite | undefined;
  /** The `SameSite` rule for the cookie with the device ID. Default: the value of `sameSite`. */
  readonly deviceSameSite?: SameSite | undefined;
  /**
   * If false, the cookies are `Secure`, and their names begin with `__Host-`. Set true only for
   * development on http://localhost, with a browser that does not treat this address as secure. If
   * true, the middleware refuses requests of browsers to all hosts except localhost, its
   * subdomains, 127.0.0.1 and [::1]. Default: false.
   */
  readonly insecure?: boolean | undefined;
}

/** The values from which a session's cookies are made. */
export interface HandOut {
  readonly token: string;
  readonly deviceId: string;
  /** The absolute end of the session. */
  readonly end: Date;
  readonly now: Date;
  /** The session ID if the session ends with the browser, else empty. */
  readonly brief?: string;
}

/** Reads and writes the cookies of an app. The constructor throws TypeError for invalid options. */
export class Cookies {
  readonly insecure: boolean;
  /** The name of the cookie with the token, with its prefix. */
  readonly tokenName: string;
  /** The name of the cookie with the device ID, with its prefix. */
  readonly deviceName: string;
  /** The name, with its prefix, of the cookie that marks a session that ends with the browser. */
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

  /**
   * Returns the values of the cookies in the `Cookie` headers of a request. A value is empty if the
   * request lacks the cookie.
   */
  read(headers: readonly string[]): { token: string; deviceId: string; brief: string } {
    const pairs = pairsOf(headers);
    return {
      token: this.#only(pairs, this.tokenName),
      deviceId: this.#only(pairs, this.deviceName),
      brief: this.#only(pairs, this.briefName),
    };
  }

  /**
   * Returns true if the browser may have strict cookies that it did not send. A browser sends
   * either all its strict cookies or none, so the result is false if the request has any strict
   * cookie.
   */
  areKeptBack(token: string, deviceId: string): boolean {
    const strict: string[] = [];
    if (this.#tokenRule === "Strict") strict.push(token);
    if (this.#deviceRule === "Strict") strict.push(deviceId);
    return strict.length > 0 && strict.every((found) => found === "");
  }

  /** Returns true if `line`, a `Set-Cookie` header, sets one of these cookies. */
  isSetBy(line: string): boolean {
    const name = withoutBlanks(line.split("=", 1)[0] ?? "");
    return name === this.tokenName || name === this.deviceName || name === this.briefName;
  }

  /**
   * Returns the `Set-Cookie` headers that give a browser its token and its device ID. The token's
   * cookie lasts until the absolute end of the session, and not only until the token expires,
   * because an expired token can be renewed. The cookie can't end at the idle end, because each use
   * of the session moves the idle end, and only the service knows it. If the session ends with the
   * browser, the token's cookie has no expiry time, and the marker cookie is set, too. The cookie
   * with the device ID lasts 400 days in any case.
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
   * Returns the `Set-Cookie` headers that delete the token's cookie. If `device` is true, the
   * headers also delete the cookie with the device ID. If `brief` is true, the headers also delete
   * the marker cookie of a session that ends with the browser.
   */
  takeBack({ device, brief = false }: { device: boolean; brief?: boolean }): string[] {
    const names = [this.tokenName];
    if (device) names.push(this.deviceName);
    if (brief) names.push(this.briefName);
    return names.map((name) => this.#line(name, "", 0));
  }

  /**
   * Returns the value of the cookie with this name, or an empty string if there is no such cookie.
   * Unless `insecure` is true, also returns an empty string if two cookies have this name and
   * different values. An attacker may have set one of two such cookies, and nobody can know which
   * one.
   *
   * If `insecure` is true and several cookies have this name, the value of the last one counts.
   * Another app on localhost may have left cookies with the same name for longer paths, and this
   * module can't delete those cookies. Browsers send the cookies with longer paths first (RFC 6265,
   * section 5.4).
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
 * Returns the names and values in `Cookie` headers. Only spaces and tabs around a name or a value
 * are removed. An attacker can set a cookie whose name is another white-space character and then
 * `__Host-session`, because browsers check only names that begin with `__Host-`. If this function
 * removed that character, the attacker's cookie would have the name of our cookie.
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
