/** Exports the names that the modules for all frameworks share. */

export type { Authority } from "./authority.js";
export type { CookieOptions, SameSite } from "./cookies.js";
export type { DevicesOptions } from "./devices/mount.js";
export { localPath } from "./local_paths.js";
export {
  type Answer,
  CrossOrigin,
  InsecureHost,
  NoAnswer,
  Refused,
  ReturnHop,
  SignInRequired,
  StepUpRequired,
} from "./responses.js";
export type { FlowOptions, WebLog } from "./settings.js";
export type { SignInRules, StepUp } from "./step_up.js";
export {
  type SignInOptions,
  type SignOutEverywhereOptions,
  type SignOutOptions,
  Visit,
} from "./visit.js";
