/**
 * Decides the response headers that tell caches which responses to keep. The cache of the browser
 * also keeps the pages for the Back button. Shared caches are in front of the app. Some shared
 * caches define headers of their own, and obey their own headers rather than `Cache-Control`.
 */

const NO_STORE = ["Cache-Control", "no-store"] as const;
const CLEAR = ["Clear-Site-Data", '"cache"'] as const;
// The headers for caches whose names do not end with `Cache-Control`. `isAboutCaching` also accepts
// each name that ends with `Cache-Control`, such as `CDN-Cache-Control` (RFC 9213).
const CACHING = new Set(["surrogate-control", "edge-control", "expires", "x-accel-expires"]);
const PAGES = ["text/html", "application/xhtml+xml"];

/** The changes that the middleware makes to a response's headers for caches. */
export interface Caching {
  /** True if the middleware removes the app's own headers for caches (see `isAboutCaching`). */
  readonly drops: boolean;
  /** The names and values of the headers that the middleware adds. */
  readonly added: readonly (readonly [string, string])[];
}

/** The facts that decide a response's headers for caches. */
export interface CachingFacts {
  /** The names of the headers that the app set in the response. */
  readonly names: readonly string[];
  /** The value of the response's `Content-Type`. */
  readonly contentType: string;
  /**
   * True if the response gives the client a token, or deletes a token's cookie. No cache may keep
   * such a response, even if the app's headers allow it.
   */
  readonly handsOut: boolean;
  /**
   * True if the request has a good session, or had a good session when the app read the session.
   */
  readonly signedIn: boolean;
  /** True if the app read the session, so that the response may depend on the session. */
  readonly looked: boolean;
  /**
   * True if the browser's session ended in this request, so that the browser must drop the pages in
   * its cache.
   */
  readonly ended: boolean;
}

/** Decides the changes to a response's headers for caches. */
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

/**
 * Returns true if a header with this name says whether a cache keeps a response, and for how long.
 */
export function isAboutCaching(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.endsWith("cache-control") || CACHING.has(lower);
}
