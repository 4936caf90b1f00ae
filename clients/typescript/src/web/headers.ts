/**
 * The headers of a request: lists of values by lower-case names. Two lines with the same name stay
 * two values.
 */

/** A request's headers. */
export type Headers = Readonly<Record<string, readonly string[] | undefined>>;

const NONE: readonly string[] = [];

/** Returns the values of a header, or none if it is absent. `name` is in lower case. */
export function values(headers: Headers, name: string): readonly string[] {
  return headers[name] ?? NONE;
}

/**
 * Returns the text without the blanks at its start and its end. By default blanks are spaces and
 * tabs. This is no regular expression, because any client can send thousands of blanks, and a
 * regular expression would need seconds to strip them.
 */
export function withoutBlanks(text: string, blanks = " \t"): string {
  let start = 0;
  let end = text.length;
  while (start < end && blanks.includes(text.charAt(start))) start++;
  while (end > start && blanks.includes(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}
