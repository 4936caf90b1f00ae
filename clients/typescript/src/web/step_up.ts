/**
 * Decides whether a sign-in is recent and strong enough for a page (step-up, RFC 9470). Writes and
 * reads the query by which the sign-in page learns which sign-in is required. This module uses no
 * request and no clock: the caller passes the query and the time.
 *
 * If an app names several authentication methods, a sign-in by one of them is enough, as with
 * `acr_values` in RFC 9470 and OpenID Connect.
 */

import { cut, queryFields, quote } from "./percent_encoding.js";

/**
 * The difference that is allowed between the clocks of the app and of the service. The service also
 * accepts an expired token for this time. Without this allowance, an app with a fast clock would
 * find a new sign-in too old, and the user would have to sign in again and again.
 */
export const CLOCK_TOLERANCE_MS = 30_000;
const MAX_QUERY_FIELDS = 100;
const SECONDS = /^[0-9]{1,9}$/;
// The service has the same rule for the name of an authentication method.
const METHOD = /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]{1,128}$/;

/** The sign-in that an app requires for a request. */
export interface StepUp {
  /** The highest age of the sign-in in milliseconds. Undefined if any age is enough. */
  readonly maxAgeMs: number | undefined;
  /**
   * Authentication methods (RFC 8176). The sign-in must have used at least one of them. Empty if
   * any method is enough.
   */
  readonly authMethods: readonly string[];
}

/** The rules by which an app requires a recent or strong sign-in. */
export interface SignInRules {
  /**
   * The highest age of the sign-in in milliseconds. The check adds 30 seconds, because clocks
   * differ. Zero requires a sign-in that has just happened. Default: any age.
   */
  readonly maxAgeMs?: number | undefined;
  /**
   * Authentication methods (RFC 8176), such as "otp". The sign-in must have used at least one of
   * them. Default: any method.
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
 * Returns the step-up that the rules of an app require. Throws RangeError for a negative or
 * infinite age. Throws TypeError for an empty list of methods, or for an invalid method.
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

/**
 * Returns the highest age of the sign-in in whole seconds, rounded down, as in RFC 9470 and OpenID
 * Connect. Returns undefined if any age is enough.
 */
export function maxAgeSecondsOf({ maxAgeMs }: StepUp): number | undefined {
  return maxAgeMs === undefined ? undefined : Math.floor(maxAgeMs / 1000);
}

/**
 * Returns fields for the query of the sign-in page. The fields say which sign-in is required of a
 * user who is already signed in.
 */
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
 * Returns a sentence that says which sign-in the session lacks. Returns an empty string if the
 * session's sign-in is recent and strong enough. The age may exceed the limit by
 * `CLOCK_TOLERANCE_MS`. A sign-in time in the future counts as recent, because the app's clock may
 * be slow.
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
 * Returns the step-up in the query of `target`, or undefined if the query has no `reason=step_up`.
 * An attacker can write a query, so invalid values are left out.
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
