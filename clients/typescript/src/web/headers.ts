/**
 * Defines the form of a request's headers in the middleware: lists of values by lower-case names.
 * Two header lines with the same name stay two values, unless the platform joins them.
 */

/** The headers of a request: lists of values by lower-case names. */
export type Headers = Readonly<Record<string, readonly string[] | undefined>>;

const NONE: readonly string[] = [];

/**
 * Returns the values of a header, or an empty list if the request lacks the header. `name` is in
 * lower case.
 */
export function values(headers: Headers, name: string): readonly string[] {
  return headers[name] ?? NONE;
}

/**
 * Returns `text` without the characters of `blanks` at its start and its end. By default, blanks
 * are spaces and tabs. This function uses no regular expression. Any client can send thousands of
 * blanks, and a regular expression would need seconds to remove them.
 */
export function withoutBlanks(text: string, blanks = " \t"): string {
  let start = 0;
  let end = text.length;
  while (start < end && blanks.includes(text.charAt(start))) start++;
  while (end > start && blanks.includes(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}
