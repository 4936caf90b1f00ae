/** The action of the middleware after each verdict of the service. */

import type { SessionStatus } from "../types.js";

/**
 * The action after a verdict. `go_on`: the session is good. `renew`: renew the token, and act on
 * the result of the renewal. `deny`: nobody is signed in, and the cookies stay, because an old
 * request in flight must not wipe a fresh sign-in. `wipe`: deny, and delete the cookies.
 */
export type Conduct = "go_on" | "renew" | "deny" | "wipe";

/** The conduct for each status of a token. */
export const CONDUCT: Readonly<Record<SessionStatus, Conduct>> = {
  UNSPECIFIED: "deny",
  ACTIVE: "go_on",
  TOKEN_MISSING: "deny",
  TOKEN_INVALID: "deny",
  TOKEN_EXPIRED: "renew",
  NO_SESSION: "deny",
  SESSION_EXPIRED: "deny",
  SUPERSEDED: "deny",
  REPLAYED: "wipe",
  SESSION_ENDED: "deny",
  WRONG_DEVICE: "deny",
};
