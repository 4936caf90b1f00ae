/**
 * The headers of a request: lists of values by lower-case names. Two lines of one name stay two.
 */

/** A request's headers. */
export type Headers = Readonly<Record<string, readonly string[] | undefined>>;

const NONE: readonly string[] = [];

/** The values of a header, none if it is absent. `name` is in lower case. */
export function values(headers: Headers, name: string): readonly string[] {
  return headers[name] ?? NONE;
}

/**
 * The text without the blanks, spaces and tabs unless told, at its start and its end. Anybody can
 * send thousands of blanks: a regular expression that looks for those at an end takes seconds.
 */
export function withoutBlanks(text: string, blanks = " \t"): string {
  let start = 0;
  let end = text.length;
  while (start < end && blanks.includes(text.charAt(start))) start++;
  while (end > start && blanks.includes(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}
