/** The service's limits of idle timeouts. Its error for a refused idle timeout names the limits. */

import { SessionAuthorityError } from "../errors.js";

/**
 * Returns the idle timeout that is closest to the requested idle timeout and that the service
 * accepts, in milliseconds. Returns undefined if there is any other reason for the refusal.
 * An idle timeout that is longer than the requested one is returned only with `lengthen`.
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
