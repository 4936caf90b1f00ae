/** The service's limits of idle times, which it tells as it refuses another one. */

import { SessionAuthorityError } from "../errors.js";

/**
 * The idle time closest to the one asked for that the service accepts, if a sign-in was refused for
 * nothing but its idle time; else undefined. A longer one takes its place only with `lengthen`.
 */
export function idleLimitMs(
  error: unknown,
  askedMs: number,
  { lengthen }: { lengthen: boolean },
): number | undefined {
  if (!(error instanceof SessionAuthorityError) || error.kind !== "invalid_request") {
    return undefined;
  }
  const [broken, ...more] = error.violations;
  if (broken?.field !== "idle_timeout" || more.length > 0) return undefined;
  const shortestMs = Number(error.metadata.min_seconds) * 1000;
  const longestMs = Number(error.metadata.max_seconds) * 1000;
  if (!Number.isFinite(shortestMs) || !Number.isFinite(longestMs)) return undefined;
  if (askedMs > longestMs) return longestMs;
  return lengthen && askedMs < shortestMs ? shortestMs : undefined;
}
