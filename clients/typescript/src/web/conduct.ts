/** What a verdict of the service leads to. */

import type { SessionStatus } from "../types.js";

/**
 * `go_on`: the session is good. `renew`: renew, and do what that says. `deny`: nobody is signed in,
 * and the cookies stay: an old request in flight must not wipe a fresh sign-in. `wipe`: deny, and
 * take the cookies back.
 */
export type Conduct = "go_on" | "renew" | "deny" | "wipe";

/** The conduct by the status of a token. */
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
