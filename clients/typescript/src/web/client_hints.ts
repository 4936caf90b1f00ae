/**
 * Reads User-Agent Client Hints from the headers of a request, and names the hints that a page
 * requests.
 *
 * The headers with the hints are structured fields (RFC 9651). The value of such a header is a
 * string, a Boolean, or a list of strings with parameters. A malformed header is ignored as a
 * whole, as section 4.2 of RFC 9651 requires. A header that is too long is ignored, too.
 */

import type { ClientHints } from "../types.js";
import { type Headers, values, withoutBlanks } from "./headers.js";

/**
 * The hints that a page requests by the header `Accept-CH`. Browsers send the hints `Sec-CH-UA`,
 * `Sec-CH-UA-Mobile` and `Sec-CH-UA-Platform` without a request.
 */
export const ACCEPT_CH =
  "Sec-CH-UA-Full-Version-List, Sec-CH-UA-Platform-Version, Sec-CH-UA-Model, " +
  "Sec-CH-UA-Form-Factors";
/** A longer header is ignored. A browser's list of brands has about 150 characters. */
const MAX_HEADER_CHARACTERS = 1024;
const NAME = "sec-ch-ua";
const SUFFIXES = [
  "",
  "-full-version-list",
  "-platform",
  "-platform-version",
  "-model",
  "-mobile",
  "-form-factors",
];

const STRING = String.raw`"(?:[ !#-\[\]-~]|\\["\\])*"`;
const NUMBER = String.raw`-?\d{1,15}(?:\.\d{1,3})?`;
const TOKEN = String.raw`[A-Za-z*][\w!#$%&'*+.^${"`"}|~:/-]*`;
const OTHER = String.raw`\?[01]|:[A-Za-z0-9+/=]*:|@-?\d{1,15}`;
const PARAMETER = new RegExp(
  `; *([a-z*][a-z0-9_.*-]*)(?:=(${STRING}|${NUMBER}|${TOKEN}|${OTHER}))?`,
  "y",
);
const ITEM = new RegExp(`(${STRING})|(?:${NUMBER}|${TOKEN}|${OTHER})`, "y");
const COMMA = /[ \t]*,[ \t]*/y;
const MOBILE = new Map([
  ["?1", true],
  ["?0", false],
]);

/**
 * Returns the hints in the headers of a request, or undefined if the headers have no valid hint.
 */
export function readHints(headers: Headers): ClientHints | undefined {
  if (!SUFFIXES.some((suffix) => headers[NAME + suffix] !== undefined)) return undefined;
  const strings = (suffix: string) => readStrings(values(headers, NAME + suffix));
  const string = (suffix: string) => {
    const found = strings(suffix);
    return found.length === 1 ? (found[0]?.text ?? "") : "";
  };
  const versions = strings("-full-version-list");
  const brands = versions.length > 0 ? versions : strings("");
  const mobile = MOBILE.get(withoutBlanks(values(headers, `${NAME}-mobile`).join(","), " "));
  const hints = {
    brands: brands.map(({ text, parameters }) => ({
      name: text,
      version: parameters.get("v") ?? "",
    })),
    platform: string("-platform"),
    platformVersion: string("-platform-version"),
    model: string("-model"),
    formFactors: strings("-form-factors").map(({ text }) => text),
    ...(mobile === undefined ? {} : { mobile }),
  };
  const said = Object.values(hints).some((hint) => hint === false || hint === true || hint.length);
  return said ? hints : undefined;
}

interface Member {
  readonly text: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * Returns the strings of a list with their parameters. `lines` are the values of one header.
 * Returns an empty list if the header is malformed or too long.
 */
function readStrings(lines: readonly string[]): readonly Member[] {
  const text = withoutBlanks(lines.join(", "), " ");
  if (text === "" || text.length > MAX_HEADER_CHARACTERS) return [];
  const members: Member[] = [];
  for (let position = 0; ; ) {
    const item = matchAt(ITEM, text, position);
    if (!item) return [];
    position += item[0].length;
    const parameters = new Map<string, string>();
    for (let found; (found = matchAt(PARAMETER, text, position)); position += found[0].length) {
      parameters.set(found[1] ?? "", contentsOf(found[2] ?? ""));
    }
    if (item[1] !== undefined) members.push({ text: contentsOf(item[1]), parameters });
    if (position === text.length) return members;
    const comma = matchAt(COMMA, text, position);
    if (!comma) return [];
    position += comma[0].length;
  }
}

function matchAt(pattern: RegExp, text: string, position: number): RegExpExecArray | null {
  pattern.lastIndex = position;
  return pattern.exec(text);
}

/** Returns the contents of a quoted string, and any other value unchanged. */
function contentsOf(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replace(/\\(["\\])/g, "$1") : value;
}
