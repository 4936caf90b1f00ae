/**
 * Step-up: whether a sign-in is recent and strong enough for a page, and how the sign-in page
 * learns what is wanted (RFC 9470). Knows no request and no clock.
 *
 * Of several methods one is enough, as with the `acr_values` of RFC 9470 and OpenID Connect.
 */

import { cut, queryFields, quote } from "./percent_encoding.js";

/**
 * How far the clocks of the app and of the service may differ: as far as the service lets tokens
 * live on. With less, an app whose clock is fast would send users to sign in again and again.
 */
export const CLOCK_TOLERANCE_MS = 30_000;
const MAX_QUERY_FIELDS = 100;
const SECONDS = /^[0-9]{1,9}$/;
// As the service has it.
const METHOD = /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]{1,128}$/;

/** What a sign-in must be. */
export interface StepUp {
  /** At most this old; undefined if its age does not matter. */
  readonly maxAgeMs: number | undefined;
  /** By one of these methods (RFC 8176), if there are any. */
  readonly authMethods: readonly string[];
}

/** What an app may ask of a sign-in. */
export interface SignInRules {
  /** How old the sign-in may be, plus 30 seconds, as clocks differ. Zero: just now. */
  readonly maxAgeMs?: number | undefined;
  /** The sign-in was by one of these methods (RFC 8176), such as "otp". */
  readonly authMethods?: readonly string[] | undefined;
}

/** What of a session tells when and how its user signed in. */
export interface SignedIn {
  readonly signInTime: Date;
  readonly authMethods: readonly string[];
}

const ANY: StepUp = { maxAgeMs: undefined, authMethods: [] };

/** What an app requires. Throws RangeError for a negative age, TypeError for no or bad methods. */
export function stepUpOf({ maxAgeMs, authMethods }: SignInRules = {}): StepUp {
  if (maxAgeMs === undefined && authMethods === undefined) return ANY;
  if (maxAgeMs !== undefined && !(maxAgeMs >= 0 && maxAgeMs < Infinity)) {
    throw new RangeError("maxAgeMs: must be a number of milliseconds, and not negative");
  }
  return { maxAgeMs, authMethods: authMethods === undefined ? [] : checked(authMethods) };
}

function checked(given: readonly string[]): readonly string[] {
  const list: unknown = given;
  if (!Array.isArray(list)) throw new TypeError("authMethods: must be an array");
  if (given.length === 0) throw new TypeError("authMethods: must not be empty");
  for (const method of given as readonly unknown[]) {
    if (typeof method !== "string" || !METHOD.test(method)) {
      throw new TypeError(
        "authMethods: each must be 1 to 128 letters, digits or characters of a URI, not " +
          JSON.stringify(method),
      );
    }
  }
  return [...new Set(given)];
}

/** The age in whole seconds, rounded down, as RFC 9470 and OpenID Connect have it. */
export function maxAgeSecondsOf({ maxAgeMs }: StepUp): number | undefined {
  return maxAgeMs === undefined ? undefined : Math.floor(maxAgeMs / 1000);
}

/** The fields for the query of the sign-in page: why a user who is signed in comes. */
export function stepUpQuery(wanted: StepUp): string {
  const { authMethods } = wanted;
  const fields = ["reason=step_up"];
  const seconds = maxAgeSecondsOf(wanted);
  if (seconds !== undefined) fields.push(`max_age=${seconds}`);
  if (authMethods.length > 0) {
    fields.push(`auth_methods=${quote(authMethods.join(" "), { slashes: true })}`);
  }
  return fields.join("&");
}

/**
 * What a session lacks, in words; empty if it lacks nothing. The age may be `CLOCK_TOLERANCE_MS`
 * more. A sign-in of the future is recent: the clock of the app is slow.
 */
export function lackOf(wanted: StepUp, session: SignedIn, now: Date): string {
  const { maxAgeMs, authMethods } = wanted;
  const ageMs = now.getTime() - session.signInTime.getTime();
  const old = maxAgeMs !== undefined && ageMs - CLOCK_TOLERANCE_MS > maxAgeMs;
  const weak =
    authMethods.length > 0 && !authMethods.some((method) => session.authMethods.includes(method));
  if (!old && !weak) return "";
  const signIn = old ? "A more recent sign-in" : "A sign-in";
  const methods = weak ? ` by one of these methods: ${authMethods.join(", ")}` : "";
  return `${signIn} is required${methods}`;
}

/**
 * What the query of a request's target says of the sign-in that is wanted; undefined if it is no
 * step-up. Anybody can write a query, so unknown text is left out.
 */
export function stepUpIn(target: string): StepUp | undefined {
  const pairs = queryFields(cut(target, "?")[1], { maxFields: MAX_QUERY_FIELDS }) ?? [];
  if (!pairs.some(([name, value]) => name === "reason" && value === "step_up")) return undefined;
  const fields = new Map(pairs); // of two of one name the last counts
  const seconds = fields.get("max_age") ?? "";
  const methods = (fields.get("auth_methods") ?? "").split(" ");
  return {
    maxAgeMs: SECONDS.test(seconds) ? Number(seconds) * 1000 : undefined,
    authMethods: [...new Set(methods)].filter((method) => METHOD.test(method)),
  };
}
