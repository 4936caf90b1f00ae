/**
 * Decides which response is sent after a visit refused a request: the app's response or the answer
 * of the refusal. A visit refuses a request by throwing an error. A framework that does not know
 * this error sends a response of its own, such as 500. The middleware replaces a framework's own
 * response by the refusal's answer. If the app itself chose its response, the app's response is
 * sent.
 */

import type { Refused } from "./responses.js";

// The statuses that an app may choose for a user who is not signed in.
const DENIALS = new Set([401, 403, 404]);

/**
 * Returns true if the app itself chose this status after a refusal. A framework that answers an
 * error that it does not know chooses 500, or another status that says nothing about a session.
 */
export function isChosen(status: number, refused: Refused): boolean {
  return status < 400 || DENIALS.has(status) || status === refused.answer.status;
}
