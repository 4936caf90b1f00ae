/**
 * Decides whether the app's response after a refusal is sent. Frameworks answer unknown errors by
 * themselves. So a visit notes what it refused. If the app did not choose its response, the
 * middleware sends the refusal's own answer instead.
 */

import type { Refused } from "./responses.js";

// The statuses that an app may choose for a user who is not signed in.
const DENIALS = new Set([401, 403, 404]);

/**
 * Returns true if an app chose this status after a refusal. A framework that answers an unknown
 * error chooses 500, or another status that says nothing about a session.
 */
export function isChosen(status: number, refused: Refused): boolean {
  return status < 400 || DENIALS.has(status) || status === refused.answer.status;
}
