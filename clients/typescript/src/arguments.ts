/**
 * Checks the types of arguments. An error names the argument that has the wrong type. Callers in
 * JavaScript have no compiler that checks types. The service checks the contents of the arguments.
 */

import { SessionAuthorityError } from "./errors.js";

// The longest timeout of a call is 24 days. A timer of Node fires at once if its delay is longer
// than 2^31 - 1 ms, which is 24.8 days.
const LONGEST_MS = 24 * 86_400_000;

function not(name: string, wanted: string, value: unknown): TypeError {
  const kind = value === null ? "null" : typeof value;
  return new TypeError(`${name}: ${wanted}, not ${kind}`);
}

/**
 * Checks a timeout in milliseconds, and returns it. A timeout of more than 24 days becomes 24 days.
 * Throws TypeError if the timeout is no number. Throws RangeError if the timeout is not finite or
 * not more than zero.
 */
export function milliseconds(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!(value > 0)) throw new RangeError(`${name}: more than nothing`);
  if (!Number.isFinite(value)) throw new RangeError(`${name}: must be finite`);
  return Math.min(value, LONGEST_MS);
}

/**
 * Checks a length of time in milliseconds, and returns it. The service decides which lengths of
 * time are allowed. Throws TypeError if the value is no number. Throws RangeError if the number is
 * not finite, or is too large for an exact integer.
 */
export function duration(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!Number.isSafeInteger(Math.trunc(value))) throw new RangeError(`${name}: must be finite`);
  return value;
}

/**
 * Checks a moment, and returns it. Throws TypeError for a value that is no Date, and RangeError for
 * an invalid Date.
 */
export function moment(name: string, value: unknown): Date {
  if (!(value instanceof Date)) throw not(name, "a Date", value);
  if (Number.isNaN(value.getTime())) throw new RangeError(`${name}: must be a valid Date`);
  return value;
}

/** Checks a boolean, and returns it. Throws TypeError if the value is no boolean. */
export function flag(name: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw not(name, "a boolean", value);
  return value;
}

/**
 * Checks a whole number, and returns it. Throws TypeError if the value is no whole number, and
 * RangeError for a number of more than 32 bits.
 */
export function whole(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw not(name, "a whole number", value);
  }
  if (Math.abs(value) >= 2 ** 31) throw new RangeError(`${name}: has more than 32 bits`);
  return value;
}

/**
 * Checks a text, and returns it. Throws TypeError for a value that is no string. Throws an
 * `invalid_request` error for a string that contains half of a surrogate pair.
 */
export function text(name: string, value: unknown): string {
  if (typeof value !== "string") throw not(name, "a string", value);
  if (!value.isWellFormed()) {
    const rule = "must be text that UTF-8 can hold";
    throw new SessionAuthorityError(`${name}: ${rule}`, {
      kind: "invalid_request",
      code: "INVALID_ARGUMENT",
      violations: [{ field: name, description: rule }],
    });
  }
  return value;
}

/**
 * Checks that a value from an end user's request is a string, and returns the string. The service
 * checks the contents. Half of a surrogate pair becomes the replacement character. Throws TypeError
 * for a value that is no string.
 */
export function presented(name: string, value: unknown): string {
  if (typeof value !== "string") {
    throw not(name, "a string (empty if there is none)", value);
  }
  return value.toWellFormed();
}

/**
 * Checks an array of texts, and returns a copy of the array. Throws TypeError if the value is no
 * array of strings. Throws an `invalid_request` error for a string that contains half of a
 * surrogate pair.
 */
export function texts(name: string, values: unknown): string[] {
  if (!Array.isArray(values)) throw not(name, "an array of strings", values);
  return values.map((value) => text(name, value));
}

/**
 * Checks the claims of a user, and returns a copy of the claims. Throws TypeError if the value is
 * no object of strings. Throws an `invalid_request` error for a string that contains half of a
 * surrogate pair.
 */
export function claims(values: unknown): Record<string, string> {
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw not("claims", "an object of strings", values);
  }
  const found = Object.entries(values).map(
    ([name, value]) => [text("claims", name), text(`claims[${name}]`, value)] as const,
  );
  return Object.fromEntries(found);
}

/**
 * Checks that a text is one of the names in `known`, and returns the text. Throws TypeError if the
 * value is not in `known`.
 */
export function member(name: string, known: readonly string[], value: unknown): string {
  if (typeof value !== "string") throw not(name, `one of ${known.join(", ")}`, value);
  if (!known.includes(value)) throw new TypeError(`${name}: one of ${known.join(", ")}`);
  return value;
}
