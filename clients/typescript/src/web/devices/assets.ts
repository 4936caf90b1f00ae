/**
 * Reads the files of the page of devices that come with the package: the custom element, the style
 * sheet, the texts and the description of the API. The files are byte-for-byte copies of the files
 * of the Python client.
 */

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Answer } from "../responses.js";

/** The name of the file with the custom element. */
export const ELEMENT = "session-devices.js";
/** The name of the style sheet of the page. */
export const STYLE = "devices.css";
const KINDS: ReadonlyMap<string, string> = new Map([
  [ELEMENT, "text/javascript; charset=utf-8"],
  [STYLE, "text/css; charset=utf-8"],
]);
const KEPT = "public, max-age=31536000, immutable";
const FOLDER = join("assets", "devices");

/** A file for browsers, with its contents and the hash that browsers check (`integrity`). */
export interface Asset {
  readonly name: string;
  readonly body: string;
  readonly integrity: string;
  /** The part of the file's URL that changes with the file's contents. */
  readonly version: string;
}

const read = new Map<string, Asset>();

/** Returns the file with this name, or undefined if browsers may load no file with this name. */
export function asset(name: string): Asset | undefined {
  if (!KINDS.has(name)) return undefined;
  const known = read.get(name);
  if (known !== undefined) return known;
  const body = textOf(name);
  const digest = createHash("sha384").update(body).digest();
  const integrity = `sha384-${digest.toString("base64")}`;
  const made = { name, body, integrity, version: digest.toString("hex").slice(0, 16) };
  read.set(name, made);
  return made;
}

/** Returns the URL from which the page loads a file. `mount` is the path of the page. */
export function assetUrl(mount: string, { name, version }: Asset): string {
  return `${mount}/static/${name}?v=${version}`;
}

/**
 * Returns the response with a file. `version` is the version in the requested URL. If `version` is
 * the present version of the file, caches may keep the response for a year.
 */
export function serveAsset(found: Asset, version: string): Answer {
  return {
    status: 200,
    headers: [
      ["Content-Type", KINDS.get(found.name) ?? ""],
      ["Content-Length", String(Buffer.byteLength(found.body))],
      ["X-Content-Type-Options", "nosniff"],
      ["Cross-Origin-Resource-Policy", "same-origin"],
      ["Cache-Control", version === found.version ? KEPT : "no-cache"],
    ],
    body: found.body,
  };
}

/**
 * Returns the contents of a file of the package. `path` is relative to the folder `assets/devices`.
 */
export function textOf(path: string): string {
  return readFileSync(join(folder(), path), "utf8");
}

let found: string | undefined;

/** Returns the path of the folder `assets/devices` at the root of the package. */
function folder(): string {
  if (found !== undefined) return found;
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    if (existsSync(join(at, FOLDER))) return (found = join(at, FOLDER));
    if (at === dirname(at)) {
      throw new Error(
        "the files of the page of devices are missing: a bundler must leave this package outside",
      );
    }
  }
}
