/**
 * What responses say to caches: the browser's, with its pages for the way back, and shared ones in
 * front of the app, which read headers of their own before `Cache-Control`.
 */

const NO_STORE = ["Cache-Control", "no-store"] as const;
const CLEAR = ["Clear-Site-Data", '"cache"'] as const;
// Beside `Cache-Control` and names that end like that: `CDN-Cache-Control` (RFC 9213) and its like.
const CACHING = new Set(["surrogate-control", "edge-control", "expires", "x-accel-expires"]);
const PAGES = ["text/html", "application/xhtml+xml"];

/** What becomes of a response's headers for caches. */
export interface Caching {
  /** The app's own headers for caches, see `isAboutCaching`, don't go out. */
  readonly drops: boolean;
  readonly added: readonly (readonly [string, string])[];
}

/** What decides what a response says to caches. */
export interface CachingFacts {
  /** The names of the app's headers. */
  readonly names: readonly string[];
  /** The kind of the contents. */
  readonly contentType: string;
  /**
   * The response hands out a token, or takes one back: no cache may keep it, whatever the app says.
   */
  readonly handsOut: boolean;
  /** The request has a good session. */
  readonly signedIn: boolean;
  /** The app asked for the session, so that its response may depend on it. */
  readonly looked: boolean;
  /** The browser's session ended: what it keeps of the pages goes, too. */
  readonly ended: boolean;
}

/** What a response says to caches. */
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

/** Whether a cache decides by this header if it keeps a response, and for how long. */
export function isAboutCaching(name: string): boolean {
  const lower = name.toLowerCase();
  return lower.endsWith("cache-control") || CACHING.has(lower);
}
