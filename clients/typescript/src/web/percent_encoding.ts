/**
 * Percent-encoding and queries, read leniently: malformed text is no error, as anybody can send it.
 * Bytes that are no UTF-8 become U+FFFD.
 */

const ESCAPES = /(?:%[0-9A-Fa-f]{2})+/g;
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text with its escapes decoded once. An incomplete escape stays as it is. */
export function unquote(text: string): string {
  return text.includes("%") ? text.replace(ESCAPES, decoded) : text;
}

function decoded(escapes: string): string {
  return UTF8.decode(Buffer.from(escapes.replaceAll("%", ""), "hex"));
}

/** The text encoded for the value of a query's field. Slashes stay readable unless told. */
export function quote(text: string, { slashes = false } = {}): string {
  const encoded = encodeURIComponent(text.toWellFormed?.() ?? text).replace(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return slashes ? encoded : encoded.replaceAll("%2F", "/");
}

/** How a query is read. */
export interface QueryRules {
  /** Keeps fields without a value. */
  readonly keepBlank?: boolean;
  /** A query with more fields is not read at all. */
  readonly maxFields: number;
}

/** The fields of a query or a form in their order; undefined if they are too many. */
export function queryFields(query: string, rules: QueryRules): [string, string][] | undefined {
  if (query === "") return [];
  const pairs = query.split("&");
  if (pairs.length > rules.maxFields) return undefined;
  const fields: [string, string][] = [];
  for (const pair of pairs) {
    const [name, value] = cut(pair, "=");
    if (value === "" && (!rules.keepBlank || pair === "")) continue;
    fields.push([formText(name), formText(value)]);
  }
  return fields;
}

function formText(text: string): string {
  return unquote(text.replaceAll("+", " "));
}

/** The text before the first separator, and the text behind it; the second is empty without one. */
export function cut(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}
