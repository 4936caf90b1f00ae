/** The calls that the web part makes to a Session Authority. */

import type { SessionAuthority } from "../client.js";

/**
 * The methods of the client that the web part uses. A test may pass an object of its own instead of
 * a client.
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
