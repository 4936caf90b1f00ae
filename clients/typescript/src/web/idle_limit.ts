/** The service's limits of idle timeouts, which its refusal of another idle timeout names. */

import { SessionAuthorityError } from "../errors.js";

/**
 * Returns the idle timeout that the service accepts and that is closest to the requested one, in
 * milliseconds, if the sign-in was refused for nothing but its idle timeout. Else returns
 * undefined. A longer idle timeout than the requested one is returned only with `lengthen`.
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
