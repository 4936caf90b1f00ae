/**
 * Whether a response that follows a refusal stands. Frameworks answer errors that they don't know
 * themselves. So a visit notes its refusal, and middleware gives the refusal's own response in
 * place of one that nobody chose.
 */

import type { Refused } from "./responses.js";

// What an app may tell a user who is not signed in.
const DENIALS = new Set([401, 403, 404]);

/**
 * True if an app chose to answer with this status after a refusal. Code that answers unknown errors
 * says 500, or another error that tells nothing of a session.
 */
export function isChosen(status: number, refused: Refused): boolean {
  return status < 400 || DENIALS.has(status) || status === refused.answer.status;
}
