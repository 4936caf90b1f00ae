/**
 * The two cookies of a browser: its access token, and its device ID. Reads and writes headers, and
 * decides nothing.
 *
 * A session that ends with the browser has a third one, which marks it: browsers don't tell how
 * long they keep a cookie, and a renewed token must be kept no longer than the one before. The mark
 * is the session's ID, so that it says nothing of any other session. A client can change it, which
 * is harmless: the service alone ends sessions.
 *
 * Always host-only, for all paths, and out of reach of scripts (RFC 6265bis, section 4.1.3.2:
 * `__Host-`). Both are written as exact text: text that could end a header is refused.
 */

import { withoutBlanks } from "./headers.js";

/** Browsers drop a longer cookie, name and value together. */
export const MAX_COOKIE_BYTES = 4096;
/** Browsers keep nothing for longer: 400 days. */
export const MAX_COOKIE_AGE_SECONDS = 400 * 24 * 60 * 60;
/**
 * The service signs a session in only if all its tokens will have at most 4,000 bytes, so that no
 * renewal makes a cookie too long.
 */
const MAX_NAME_LENGTH = MAX_COOKIE_BYTES - 4000 - "__Host-".length;
const BRIEF = "-brief";
const NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
const VALUE = /^[A-Za-z0-9._~-]+$/;
const PREFIXED = /^__(?:host|secure)-/i;

/**
 * When other sites' links bring the cookies. `Strict`: never. `Lax`: when the user follows one to a
 * page.
 */
export type SameSite = "Strict" | "Lax";

/** How the cookies are called and written. */
export interface CookieOptions {
  /** The name of the cookie with the token, without a prefix. `session` unless told. */
  readonly token?: string | undefined;
  /** The name of the cookie with the device ID, without a prefix. `device` unless told. */
  readonly device?: string | undefined;
  /** The rule for both. `Strict` unless told. */
  readonly sameSite?: SameSite | undefined;
  /** The rule for the device ID, if not that for both. */
  readonly deviceSameSite?: SameSite | undefined;
  /**
   * For developing on http://localhost, with a browser that does not take that for secure: without
   * it all names begin with `__Host-`. Refused for any other host.
   */
  readonly insecure?: boolean | undefined;
}

/** What a session's cookies are written from. */
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
  /** What the browser calls the cookie with the token. */
  readonly tokenName: string;
  /** What the browser calls the cookie with the device ID. */
  readonly deviceName: string;
  /** What the browser calls the mark of a session that ends with the browser. */
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

  /** The values of a request's `Cookie` headers; empty if there is none. */
  read(headers: readonly string[]): { token: string; deviceId: string; brief: string } {
    const pairs = pairsOf(headers);
    return {
      token: this.#only(pairs, this.tokenName),
      deviceId: this.#only(pairs, this.deviceName),
      brief: this.#only(pairs, this.briefName),
    };
  }

  /**
   * Whether strict cookies may be missing that the browser has: it sends all of them or none.
   */
  areKeptBack(token: string, deviceId: string): boolean {
    const strict: string[] = [];
    if (this.#tokenRule === "Strict") strict.push(token);
    if (this.#deviceRule === "Strict") strict.push(deviceId);
    return strict.length > 0 && strict.every((found) => found === "");
  }

  /** Whether a `Set-Cookie` header is about one of these cookies. */
  isSetBy(line: string): boolean {
    const name = withoutBlanks(line.split("=", 1)[0] ?? "");
    return name === this.tokenName || name === this.deviceName || name === this.briefName;
  }

  /**
   * `Set-Cookie` headers that give a browser both. The token stays until the absolute end of its
   * session: an expired one renews. The service alone keeps the idle end, which moves with each
   * use. A session that ends with the browser has a token without an end here, and its mark. The
   * device ID stays in any case.
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
   * `Set-Cookie` headers that take the token back, with `device` the device ID too, and with
   * `brief` the mark.
   */
  takeBack({ device, brief = false }: { device: boolean; brief?: boolean }): string[] {
    const names = [this.tokenName];
    if (device) names.push(this.deviceName);
    if (brief) names.push(this.briefName);
    return names.map((name) => this.#line(name, "", 0));
  }

  /**
   * A cookie's value. Of two that differ one was planted, and nothing tells which: then there is
   * none.
   *
   * But insecure names may have cookies of other paths, left by another app on localhost, that
   * nothing here can remove. Browsers send those first (RFC 6265, section 5.4), as their paths are
   * longer.
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
 * Only blanks are removed: other white space before a name would make one of ours of one without
 * the prefix's rules.
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
