/** Makes the response messages of the fake service, and the errors of its calls. */

import { create } from "@bufbuild/protobuf";

import { duration, timestamp } from "../convert.js";
import { canonicalDeviceId } from "../device_ids.js";
import type { FieldViolation } from "../errors.js";
import { numberOf } from "../failures.js";
import { ErrorReason } from "../gen/session_authority/v1/errors_pb.js";
import * as pb from "../gen/session_authority/v1/session_authority_pb.js";
import { IDLE_LIMITS, ofSessionName } from "./fields.js";
import { Refusal } from "./loopback_server.js";
import { ALARM_MEMORY_MS } from "./rules.js";
import { expiresAt, type FakeDevice, type FakeToken, type State } from "./state.js";

/** Returns the message for the session of a token. */
export function sessionMessage(state: State, token: FakeToken): pb.Session {
  const { session } = token;
  return create(pb.SessionSchema, {
    userId: session.userId,
    deviceId: session.deviceId,
    sessionId: session.sessionId,
    generation: token.generation,
    claims: { ...token.claims },
    authMethods: [...session.authMethods],
    signInTime: timestamp(state.told(session.signedInAt)),
    tokenExpireTime: timestamp(state.told(token.endsAt)),
    expireTime: timestamp(state.told(expiresAt(session))),
    absoluteExpireTime: timestamp(state.told(session.endsAt)),
  });
}

/**
 * Returns the message for a device. `current` is the ID of the device that shows the list of
 * devices.
 */
export function deviceMessage(state: State, device: FakeDevice, current = ""): pb.Device {
  const { client, lastAlarm } = device;
  const session = state.isLive(device) ? device.session : undefined;
  const alarmed = lastAlarm !== undefined && state.now() - lastAlarm.at <= ALARM_MEMORY_MS;
  return create(pb.DeviceSchema, {
    deviceId: device.deviceId,
    displayName: device.displayName || client.displayName || "Unknown device",
    lastClient: client,
    createTime: timestamp(state.told(device.createdAt)),
    signInTime: timestamp(state.told(device.signedInAt)),
    lastSeenTime: timestamp(state.told(device.lastSeenAt)),
    current: device.deviceId === current,
    signedIn: session !== undefined,
    city: client.place?.city ?? "",
    countryCode: client.place?.countryCode ?? "",
    ...(alarmed && {
      lastAlarm: {
        createTime: timestamp(state.told(lastAlarm.at)),
        replayCause: lastAlarm.cause,
      },
    }),
    ...(session && {
      sessionId: session.sessionId,
      authMethods: [...session.authMethods],
      expireTime: timestamp(state.told(expiresAt(session))),
      absoluteExpireTime: timestamp(state.told(session.endsAt)),
    }),
  });
}

/**
 * Returns the item of CheckSessions for one session: the state of the session, or an error with the
 * rules that the fields of `name` break.
 */
export function checkedSession(state: State, name: pb.SessionName): pb.CheckSessionsResult {
  const broken = ofSessionName(name);
  if (broken.length === 0) {
    const value = stateMessage(state, name);
    return create(pb.CheckSessionsResultSchema, { outcome: { case: "state", value } });
  }
  const value = {
    code: numberOf("INVALID_ARGUMENT"),
    reason: ErrorReason.INVALID_REQUEST,
    message: told(broken),
    fieldViolations: broken,
  };
  return create(pb.CheckSessionsResultSchema, { outcome: { case: "error", value } });
}

function stateMessage(state: State, name: pb.SessionName): pb.SessionState {
  const device = state.devicesOf(name.userId).get(canonicalDeviceId(name.deviceId));
  const session = device?.session;
  let status = pb.SessionStatus.ACTIVE;
  if (device === undefined || session === undefined) status = pb.SessionStatus.NO_SESSION;
  else if (session.sessionId !== name.sessionId.toLowerCase()) {
    status = pb.SessionStatus.SESSION_ENDED;
  } else if (!state.isLive(device)) status = pb.SessionStatus.SESSION_EXPIRED;
  return create(pb.SessionStateSchema, {
    status,
    ...(status === pb.SessionStatus.ACTIVE &&
      session && {
        expireTime: timestamp(state.told(expiresAt(session))),
        absoluteExpireTime: timestamp(state.told(session.endsAt)),
      }),
  });
}

/** The fields of an event that only some types of events have. */
export interface EventFields {
  readonly sessionId?: string;
  readonly reason?: string;
  readonly exceptDeviceId?: string;
  readonly newDevice?: boolean;
  readonly firstDevice?: boolean;
  readonly replayCause?: pb.ReplayCause;
}

/**
 * Returns a new event, whose ID is the next number. `more` has the fields that only some types of
 * events have.
 */
export function eventMessage(
  state: State,
  type: pb.EventType,
  userId: string,
  device: FakeDevice | undefined,
  more: EventFields,
): pb.Event {
  return create(pb.EventSchema, {
    eventId: String(state.events.length + 1),
    type,
    userId,
    actor: "fake",
    createTime: timestamp(new Date(state.now())),
    ...more,
    ...(device && {
      device: {
        deviceId: device.deviceId,
        displayName: deviceMessage(state, device).displayName,
      },
      client: {
        info: device.client,
        city: device.client.place?.city ?? "",
        countryCode: device.client.place?.countryCode ?? "",
      },
    }),
  });
}

/**
 * Returns a message of a watch. If `proves` is true, the message is a proof that the watch has sent
 * all events until now.
 */
export function watchMessage(
  state: State,
  events: pb.Event[],
  cursor: string,
  proves: boolean,
): pb.WatchEventsResponse {
  return create(pb.WatchEventsResponseSchema, {
    events,
    cursor,
    ...(proves && {
      readTime: timestamp(new Date(state.now())),
      readUptime: duration(performance.now()),
    }),
  });
}

/** Throws a `Refusal` with the broken rules. Does nothing if `broken` is empty. */
export function refuse(broken: readonly FieldViolation[]): void {
  if (broken.length === 0) return;
  const idle = broken.some(({ field }) => field === "idle_timeout");
  throw new Refusal("INVALID_ARGUMENT", told(broken), {
    reason: "INVALID_REQUEST",
    violations: broken,
    ...(idle && { metadata: IDLE_LIMITS }),
  });
}

/** Returns the `Refusal` with which an unavailable service answers a call. */
export function away(reason: string): Refusal {
  return new Refusal("UNAVAILABLE", reason, { reason, retryAfterMs: 1_000 });
}

function told(broken: readonly FieldViolation[]): string {
  return broken.map(({ field, description }) => `${field}: ${description}`).join("; ");
}
