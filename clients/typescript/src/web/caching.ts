/**
 * The headers of responses for caches. These headers are for the cache of the browser, which also
 * keeps the pages for the Back button, and for shared caches in front of the app. Shared caches
 * prefer headers of their own to `Cache-Control`.
 */

const NO_STORE = ["Cache-Control", "no-store"] as const;
const CLEAR = ["Clear-Site-Data", '"cache"'] as const;
// Other headers for caches. All headers whose names end with `Cache-Control` are for caches, too:
// `CDN-Cache-Control` (RFC 9213), `Cloudflare-CDN-Cache-Control` ...
const CACHING = new Set(["surrogate-control", "edge-control", "expires", "x-accel-expires"]);
const PAGES = ["text/html", "application/xhtml+xml"];

/** The change of a response's headers for caches. */
export interface Caching {
  /** True if the app's own headers for caches (see `isAboutCaching`) are removed. */
  readonly drops: boolean;
  /** The headers that are added, as names and values. */
  readonly added: readonly (readonly [string, string])[];
}

/** The facts that decide a response's headers for caches. */
export interface CachingFacts {
  /** The names of the app's headers. */
  readonly names: readonly string[];
  /** The type of the contents, as `Content-Type` has it. */
  readonly contentType: string;
  /**
   * True if the response hands out a token or deletes a token's cookie. Then no cache may keep the
   * response, whatever the app says.
   */
  readonly handsOut: boolean;
  /** True if the request has a good session, or had one when the app read the session. */
  readonly signedIn: boolean;
  /** True if the app read the session, so that its response may depend on the session. */
  readonly looked: boolean;
  /** True if the browser's session ended. Then the browser must drop the pages that it keeps. */
  readonly ended: boolean;
}

/** Decides the headers of a response for caches. */
export function cachingOf(facts: CachingFacts): Caching {
  const { names, handsOut, signedIn, looked, ended } = facts;
  const kind = facts.contentType.toLowerCase();
  const personal = signedIn && (looked || PAGES.some((page) => kind.startsWith(page)));
  const isPrivate = handsOut || (personal && !names.some(isAboutCaching));
  const added: (readonly [string, string])[] = [];
  if (isPrivate) added.push(NO_STORE);
  if (ended) added.push(CLEAR);
  return { drops: handsOut, added };
}

/** Returns true if this header says whether a cache keeps a response, and for how long. */
export function isAboutCaching(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.endsWith("cache-control") || CACHING.has(lower);
}
