/** Defines what the middleware does after each verdict of the service. */

import type { SessionStatus } from "../types.js";

/**
 * The action of the middleware after a verdict. `go_on`: the session is good. `renew`: the
 * middleware renews the token, and acts on the result of the renewal. `deny`: nobody is signed in,
 * and the browser keeps its cookies. The response to an old request must not delete the cookies of
 * a newer sign-in. `wipe`: nobody is signed in, and the response deletes the cookies.
 */
export type Conduct = "go_on" | "renew" | "deny" | "wipe";

/** Maps each status of a token to its conduct. */
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
