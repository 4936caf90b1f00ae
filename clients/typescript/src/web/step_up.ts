/**
 * Step-up: whether a sign-in is recent and strong enough for a page, and how the sign-in page
 * learns which sign-in is required (RFC 9470). This module uses no request and no clock.
 *
 * Of several methods one is enough, as with the `acr_values` of RFC 9470 and OpenID Connect.
 */

import { cut, queryFields, quote } from "./percent_encoding.js";

/**
 * How far the clocks of the app and of the service may differ. The service accepts tokens for the
 * same time after their expiry. With a shorter time, an app whose clock is fast would send users to
 * sign in again and again.
 */
export const CLOCK_TOLERANCE_MS = 30_000;
const MAX_QUERY_FIELDS = 100;
const SECONDS = /^[0-9]{1,9}$/;
// The service has the same rule.
const METHOD = /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]{1,128}$/;

/** The sign-in that an app requires. */
export interface StepUp {
  /** The highest age of the sign-in in milliseconds. Undefined if its age does not matter. */
  readonly maxAgeMs: number | undefined;
  /** The sign-in must have used one of these methods (RFC 8176), if there are any. */
  readonly authMethods: readonly string[];
}

/** The rules of an app for a sign-in. */
export interface SignInRules {
  /**
   * How long ago the sign-in may be, in milliseconds. 30 seconds are added, because clocks differ.
   * Zero requires a sign-in of this moment. Default: any age.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * The sign-in must have used one of these methods (RFC 8176), such as "otp". Default: any method.
   */
  readonly authMethods?: readonly string[] | undefined;
}

/** The fields of a session that say when and how its user signed in. */
export interface SignedIn {
  readonly signInTime: Date;
  readonly authMethods: readonly string[];
}

const ANY: StepUp = { maxAgeMs: undefined, authMethods: [] };

/**
 * Returns the step-up that an app requires. Throws RangeError for a negative age, and TypeError for
 * an empty list of methods or an invalid method.
 */
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

/** Returns the age in whole seconds, rounded down, as in RFC 9470 and OpenID Connect. */
export function maxAgeSecondsOf({ maxAgeMs }: StepUp): number | undefined {
  return maxAgeMs === undefined ? undefined : Math.floor(maxAgeMs / 1000);
}

/** Returns the fields for the sign-in page's query: they say why a signed-in user is sent there. */
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
 * Returns the reason, in words, why a session is not enough. Returns an empty string if it is
 * enough. The age may exceed the limit by `CLOCK_TOLERANCE_MS`. A sign-in in the future counts as
 * recent, as the app's clock may be slow.
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
 * Returns the step-up in the query of a request's target, or undefined if there is none. An
 * attacker can write a query, so invalid values are left out.
 */
export function stepUpIn(target: string): StepUp | undefined {
  const pairs = queryFields(cut(target, "?")[1], { maxFields: MAX_QUERY_FIELDS }) ?? [];
  if (!pairs.some(([name, value]) => name === "reason" && value === "step_up")) return undefined;
  const fields = new Map(pairs); // if two fields have the same name, the last one counts
  const seconds = fields.get("max_age") ?? "";
  const methods = (fields.get("auth_methods") ?? "").split(" ");
  return {
    maxAgeMs: SECONDS.test(seconds) ? Number(seconds) * 1000 : undefined,
    authMethods: [...new Set(methods)].filter((method) => METHOD.test(method)),
  };
}
