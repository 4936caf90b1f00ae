/** Decides the verdicts on tokens as the real service with default settings does. */

import { canonicalDeviceId } from "../device_ids.js";
import { ReplayCause, SessionStatus } from "../gen/session_authority/v1/session_authority_pb.js";
import type { FakeSession, FakeToken, State } from "./state.js";

// The service's default settings and its fixed limits, in milliseconds.
const MINUTE_MS = 60_000;
export const DAY_MS = 24 * 60 * MINUTE_MS;
export const SESSION_TTL_MS = 30 * DAY_MS;
export const GRACE_MS = 30_000;
export const ALARM_MEMORY_MS = 28 * DAY_MS;
const DURABLE_AFTER_MS = 3 * MINUTE_MS;
const ALARM_AFTER_MS = 5 * MINUTE_MS;
const LEEWAY_MS = 30_000;

/**
 * The kind of call that presents a token. `renewing` is true for a renewal. `observeOnly` is true
 * for a validation that changes nothing.
 */
export interface Presenting {
  readonly renewing: boolean;
  readonly observeOnly: boolean;
}

/**
 * Returns the status of a token that a device presents. Also returns the token if its status is
 * `ACTIVE`.
 */
export function judge(
  state: State,
  text: string,
  deviceId: string,
  { renewing, observeOnly }: Presenting,
): [SessionStatus, FakeToken | undefined] {
  const token = state.tokens.get(text);
  const presented = canonicalDeviceId(deviceId);
  const now = state.now();
  if (token === undefined) {
    const { TOKEN_INVALID, TOKEN_MISSING } = SessionStatus;
    return [text === "" ? TOKEN_MISSING : TOKEN_INVALID, undefined];
  }
  if (!renewing && (token.expired || now >= token.endsAt + LEEWAY_MS)) {
    return [SessionStatus.TOKEN_EXPIRED, undefined];
  }
  const device = state.deviceOf(token.session);
  if (presented === "" || device?.session === undefined) {
    return [SessionStatus.NO_SESSION, undefined];
  }
  if (!state.isLive(device)) {
    if (!observeOnly) device.session = undefined;
    return [SessionStatus.SESSION_EXPIRED, undefined];
  }
  const verdict = judgeOnItsDevice(device.session, token, now);
  if (presented !== device.deviceId) {
    const spared = state.assigned.has(presented) || token.session !== device.session;
    const { ACTIVE, REPLAYED, WRONG_DEVICE } = SessionStatus;
    const left = (verdict === ACTIVE || verdict === REPLAYED) && !spared;
    return [left ? REPLAYED : WRONG_DEVICE, undefined];
  }
  return [verdict, verdict === SessionStatus.ACTIVE ? token : undefined];
}

/**
 * Returns why a token that a device presented counts as replayed. Call this function before the
 * alarm ends the session.
 */
export function replayCause(state: State, token: FakeToken, deviceId: string): ReplayCause {
  const live = state.deviceOf(token.session)?.session;
  if (live === undefined || canonicalDeviceId(deviceId) !== token.session.deviceId) {
    return ReplayCause.LEFT_DEVICE;
  }
  if (token.session !== live) return ReplayCause.REPLACED_SESSION;
  return isSecondCopy(live, token) ? ReplayCause.SECOND_COPY : ReplayCause.SUPERSEDED_TOKEN;
}

/**
 * Returns true if the token is a second copy: another copy of its generation is the only good copy.
 */
function isSecondCopy(live: FakeSession, token: FakeToken): boolean {
  const behind = live.generation - token.generation;
  const settled = [live.holder, live.predecessor][behind];
  return settled !== undefined && settled !== token.copy;
}

/**
 * Returns the status of a token that its own device presents. `live` is the live session on this
 * device.
 */
function judgeOnItsDevice(live: FakeSession, token: FakeToken, now: number): SessionStatus {
  const seenForMs = live.firstSeenAt === undefined ? undefined : now - live.firstSeenAt;
  if (token.session !== live) {
    if (token.session !== live.replaced) return SessionStatus.SESSION_ENDED;
    const crossed = token.issuedAt > live.signedInAt - ALARM_AFTER_MS;
    if (crossed || seenForMs === undefined || seenForMs < ALARM_AFTER_MS) {
      return SessionStatus.SUPERSEDED;
    }
    return SessionStatus.REPLAYED;
  }
  const behind = live.generation - token.generation;
  if (token.replayed || behind > 1 || isSecondCopy(live, token)) return SessionStatus.REPLAYED;
  if (behind === 0 || seenForMs === undefined || seenForMs < GRACE_MS) return SessionStatus.ACTIVE;
  return seenForMs < ALARM_AFTER_MS ? SessionStatus.SUPERSEDED : SessionStatus.REPLAYED;
}

/**
 * Notes that a token of the current generation was presented. If the token is old enough, its
 * generation counts as seen. If `settles` is true and the generation has no holder, the token's
 * copy may become the holder.
 */
export function markSeen(token: FakeToken, now: number, { settles }: { settles: boolean }): void {
  const { session } = token;
  if (token.aged || now - token.issuedAt >= DURABLE_AFTER_MS) session.firstSeenAt ??= now;
  if (settles && session.holder === undefined && now - session.renewedAt >= ALARM_AFTER_MS) {
    session.holder = token.copy;
  }
}

/**
 * Starts the next generation of a session if the token of the current generation is old enough.
 * Returns true if a new generation was started.
 */
export function rotateIfDue(token: FakeToken, now: number): boolean {
  const { session } = token;
  if (!(token.aged || token.expired || now - session.renewedAt >= ALARM_AFTER_MS)) return false;
  session.generation += 1;
  session.firstSeenAt = undefined;
  session.holder = undefined;
  session.predecessor = token.copy;
  session.renewedAt = now;
  session.hasNewerClaims = false;
  return true;
}
