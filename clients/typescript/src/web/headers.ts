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
