/**
 * Reads and writes percent-encoding, and reads queries. Malformed text is not an error, because any
 * client can send it. Bytes that are not UTF-8 become U+FFFD.
 */

const ESCAPES = /(?:%[0-9A-Fa-f]{2})+/g;
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Returns the text with its percent-escapes, such as "%2F", decoded once. An incomplete escape
 * stays unchanged.
 */
export function unquote(text: string): string {
  return text.includes("%") ? text.replace(ESCAPES, decoded) : text;
}

function decoded(escapes: string): string {
  return UTF8.decode(Buffer.from(escapes.replaceAll("%", ""), "hex"));
}

/**
 * Returns the text encoded as a value in a query. Slashes are encoded only if `slashes` is true.
 */
export function quote(text: string, { slashes = false } = {}): string {
  const encoded = encodeURIComponent(text.toWellFormed?.() ?? text).replace(
    /[!'()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return slashes ? encoded : encoded.replaceAll("%2F", "/");
}

/** The rules for reading a query. */
export interface QueryRules {
  /** If true, fields with an empty value are kept. Else such fields are left out. */
  readonly keepBlank?: boolean;
  /** The highest number of fields in a query. A query with more fields is not read at all. */
  readonly maxFields: number;
}

/**
 * Returns the names and values of the fields of a query or a form, in their order. Returns
 * undefined if there are more than `maxFields` fields.
 */
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

/**
 * Returns the text before the first separator, and the text after it. Without a separator, the
 * second text is empty.
 */
export function cut(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}
