/**
 * Checks the types of arguments, and names the argument that is wrong. Callers in JavaScript have
 * no compiler that does this. The service checks the contents of the arguments.
 */

import { SessionAuthorityError } from "./errors.js";

// A timer of Node fires at once if its delay is longer than 2^31 - 1 ms, which is 24.8 days.
const LONGEST_MS = 24 * 86_400_000;

function not(name: string, wanted: string, value: unknown): TypeError {
  const kind = value === null ? "null" : typeof value;
  return new TypeError(`${name}: ${wanted}, not ${kind}`);
}

/**
 * Checks a timeout, and returns it in milliseconds. A timeout of more than 24 days becomes 24 days.
 * Throws TypeError, and RangeError if the timeout is not finite or not more than zero.
 */
export function milliseconds(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!(value > 0)) throw new RangeError(`${name}: more than nothing`);
  if (!Number.isFinite(value)) throw new RangeError(`${name}: must be finite`);
  return Math.min(value, LONGEST_MS);
}

/**
 * Checks a length of time, and returns it in milliseconds. The service decides which lengths it
 * accepts. Throws TypeError, and RangeError for a number that is not finite or is too large.
 */
export function duration(name: string, value: unknown): number {
  if (typeof value !== "number") throw not(name, "a number of milliseconds", value);
  if (!Number.isSafeInteger(Math.trunc(value))) throw new RangeError(`${name}: must be finite`);
  return value;
}

/** Checks a moment, and returns it. Throws TypeError, and RangeError for an invalid Date. */
export function moment(name: string, value: unknown): Date {
  if (!(value instanceof Date)) throw not(name, "a Date", value);
  if (Number.isNaN(value.getTime())) throw new RangeError(`${name}: must be a valid Date`);
  return value;
}

/** Checks a boolean, and returns it. Throws TypeError. */
export function flag(name: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw not(name, "a boolean", value);
  return value;
}

/** Checks a whole number, and returns it. Throws TypeError, and RangeError beyond 32 bits. */
export function whole(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw not(name, "a whole number", value);
  }
  if (Math.abs(value) >= 2 ** 31) throw new RangeError(`${name}: has more than 32 bits`);
  return value;
}

/**
 * Checks a text, and returns it. Throws TypeError, and an `invalid_request` error for half of a
 * surrogate pair.
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
 * Checks a value from an end user's request, and returns it. It may have any contents: the service
 * checks them. Half of a surrogate pair becomes the replacement character. Throws TypeError.
 */
export function presented(name: string, value: unknown): string {
  if (typeof value !== "string") {
    throw not(name, "a string (empty if there is none)", value);
  }
  return value.toWellFormed();
}

/** Checks several texts, and returns them. Throws TypeError, and an `invalid_request` error. */
export function texts(name: string, values: unknown): string[] {
  if (!Array.isArray(values)) throw not(name, "an array of strings", values);
  return values.map((value) => text(name, value));
}

/**
 * Checks the facts about a user, and returns them. Throws TypeError, and an `invalid_request`
 * error.
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

/** Checks that a text is a member of an enum, and returns it. Throws TypeError. */
export function member(name: string, known: readonly string[], value: unknown): string {
  if (typeof value !== "string") throw not(name, `one of ${known.join(", ")}`, value);
  if (!known.includes(value)) throw new TypeError(`${name}: one of ${known.join(", ")}`);
  return value;
}
