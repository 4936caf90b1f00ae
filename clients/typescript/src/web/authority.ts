/** Lists the calls that the middleware makes to the Session Authority. */

import type { SessionAuthority } from "../client.js";

/**
 * The methods of the client that the middleware uses. A test may pass an object with these methods
 * instead of a client.
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
