/**
 * Checks the types of arguments, and names the argument that is wrong: callers in JavaScript have
 * no compiler. The rules for the contents are the service's.
 */

import { SessionAuthorityError } from "./errors.js";

// A timer of Node ends at once if it is to last longer than 2^31 ms, which are 24.8 days.
const LONGEST_MS = 24 * 86_400_000;

function not(name: string, wanted: string, value: unknown): TypeError {
  const kind = value === null ? "null" : typeof value;
  return new TypeError(`${name}: ${wanted}, not ${kind}`);
}

/**
 * How long something may take, in milliseconds; more than 24 days are 24 days. Throws TypeError and
 * RangeError.
 */
export function milliseconds(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!(value > 0)) throw new RangeError(`${name}: more than nothing`);
  if (!Number.isFinite(value)) throw new RangeError(`${name}: must be finite`);
  return Math.min(value, LONGEST_MS);
}

/** A length of time in milliseconds that the service judges. Throws TypeError and RangeError. */
export function duration(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!Number.isSafeInteger(Math.trunc(value))) throw new RangeError(`${name}: must be finite`);
  return value;
}

/** A moment. Throws TypeError and RangeError. */
export function moment(name: string, value: unknown): Date {
  if (!(value instanceof Date)) throw not(name, "a Date", value);
  if (Number.isNaN(value.getTime())) throw new RangeError(`${name}: must be a valid Date`);
  return value;
}

/** A yes or no. Throws TypeError. */
export function flag(name: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw not(name, "a boolean", value);
  return value;
}

/** A whole number of 32 bits. Throws TypeError. */
export function whole(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw not(name, "a whole number", value);
  }
  if (Math.abs(value) >= 2 ** 31) throw new RangeError(`${name}: has more than 32 bits`);
  return value;
}

/** A text. Throws TypeError, and an `invalid_request` error for half of a surrogate pair. */
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
 * A text of an end user's request, which may hold anything: the service says what it is worth.
 * Throws TypeError.
 */
export function presented(name: string, value: unknown): string {
  if (typeof value !== "string") {
    throw not(name, "a string (empty if there is none)", value);
  }
  return value.toWellFormed();
}

/** Several texts. Throws TypeError, and an `invalid_request` error. */
export function texts(name: string, values: unknown): string[] {
  if (!Array.isArray(values)) throw not(name, "an array of strings", values);
  return values.map((value) => text(name, value));
}

/** What is known of a user. Throws TypeError, and an `invalid_request` error. */
export function claims(values: unknown): Record<string, string> {
  if (typeof values !== "object" || values === null || Array.isArray(values)) {
    throw not("claims", "an object of strings", values);
  }
  const found = Object.entries(values).map(
    ([name, value]) => [text("claims", name), text(`claims[${name}]`, value)] as const,
  );
  return Object.fromEntries(found);
}

/** One of the texts of an enum. Throws TypeError. */
export function member(name: string, known: readonly string[], value: unknown): string {
  if (typeof value !== "string") throw not(name, `one of ${known.join(", ")}`, value);
  if (!known.includes(value)) throw new TypeError(`${name}: one of ${known.join(", ")}`);
  return value;
}
