/**
 * Reads the limits of the idle timeout from the error with which the service refuses an idle
 * timeout.
 */

import { SessionAuthorityError } from "../errors.js";

/**
 * Returns the idle timeout, in milliseconds, that is closest to `askedMs` and that the service
 * accepts. Returns undefined if the service refused the call for another reason than its idle
 * timeout. If `askedMs` is too short, returns the service's shortest idle timeout with `lengthen`,
 * and undefined without `lengthen`.
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
