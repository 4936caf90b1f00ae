/** What the web part asks of a Session Authority. */

import type { SessionAuthority } from "../client.js";

/**
 * The methods of the client that the web part uses. A test may put an object of its own in the
 * client's place.
 */
export type Authority = Pick<
  SessionAuthority,
  | "validateSession"
  | "renewSession"
  | "issueDevice"
  | "revokeDevice"
  | "revokeAll"
  | "devices"
  | "updateDevice"
  | "updateSession"
  | "onSessionEnd"
  | "close"
>;
