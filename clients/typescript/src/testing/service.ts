/** Implements the methods of the contract for the fake service, with a state in memory. */

import { clone, create, equals, type Message } from "@bufbuild/protobuf";
import { randomUUID } from "node:crypto";

import { milliseconds, timestamp, timestampMs } from "../convert.js";
import { canonicalDeviceId } from "../device_ids.js";
import * as pb from "../gen/session_authority/v1/session_authority_pb.js";
import {
  cleaned,
  ofBatch,
  ofClaims,
  ofDeviceId,
  ofDisplayName,
  ofSignIn,
  ofUserId,
  shownClient,
} from "./fields.js";
import { type Handlers, Refusal, type ServedCall } from "./loopback_server.js";
import {
  away,
  checkedSession,
  deviceMessage,
  type EventFields,
  eventMessage,
  refuse,
  sessionMessage,
  watchMessage,
} from "./messages.js";
import {
  GRACE_MS,
  judge,
  markSeen,
  type Presenting,
  replayCause,
  rotateIfDue,
  SESSION_TTL_MS,
} from "./rules.js";
import {
  type FakeDevice,
  type FakeSession,
  type FakeSignIn,
  type FakeToken,
  newSession,
  State,
} from "./state.js";

const PROOF_OF_LIFE_MS = 1_000;
const PAGE_SIZE = 50;
const HOUR_MS = 3_600_000;

/**
 * A verdict on a presented token: its status, the token if the status is `ACTIVE`, and the number
 * of devices on which an alarm ended sessions.
 *
 * `forgiven` is true if a replayed token got the status `SUPERSEDED` and raised no alarm, because
 * the call was no renewal. A renewal with the same token would raise an alarm.
 */
interface Judged {
  readonly status: pb.SessionStatus;
  readonly token: FakeToken | undefined;
  readonly revokedDevices: number;
  readonly forgiven: boolean;
}

/**
 * Handles the calls of the fake service. `FakeAuthority` sets the public fields to simulate faults
 * and limits.
 */
export class FakeService implements Handlers {
  state = new State();
  readonly calls = new Map<string, number>();
  rotations = 0;
  isAway = false;
  delayMs = 0;
  maxDevices: number | undefined;
  /**
   * True if the fake service has replicas that confirm every change, and false if its replicas
   * confirm no change. Undefined if the fake service has no replicas.
   */
  replicasConfirm: boolean | undefined;
  readonly #tokenTtlMs: number;
  readonly #alarmOnRenewal: boolean;
  readonly #watchers = new Set<() => void>();

  constructor(tokenTtlMs: number, alarmOnRenewal: boolean) {
    this.#tokenTtlMs = tokenTtlMs;
    this.#alarmOnRenewal = alarmOnRenewal;
  }

  /** Forgets every user, and sets the counts of calls and rotations back to 0. */
  reset(): void {
    this.state = new State();
    this.calls.clear();
    this.rotations = 0;
    this.#wake();
  }

  async unary(request: Message, { method }: ServedCall): Promise<Message> {
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    this.#count(method);
    const insists = "requireReplicated" in request && request.requireReplicated === true;
    if (insists && this.replicasConfirm === undefined) {
      const description = "this service waits for no replicas (its setting REPLICAS_ACK is 0)";
      refuse([{ field: "require_replicated", description }]);
    }
    const response = this.#answer(method, request);
    if ("durability" in response) this.#tellDurability(response, insists);
    return response;
  }

  #count(method: string): void {
    this.calls.set(method, (this.calls.get(method) ?? 0) + 1);
    if (this.isAway) throw away("STORE_UNAVAILABLE");
  }

  #answer(method: string, request: Message): Message {
    switch (method) {
      case "IssueDevice":
        return this.#issueDevice(request as pb.IssueDeviceRequest);
      case "RenewSession":
        return this.#renewSession(request as pb.RenewSessionRequest);
      case "UpdateSession":
        return this.#updateSession(request as pb.UpdateSessionRequest);
      case "ValidateSession":
        return this.#validateSession(request as pb.ValidateSessionRequest);
      case "BatchValidateSessions":
        return this.#batchValidateSessions(request as pb.BatchValidateSessionsRequest);
      case "CheckSessions":
        return this.#checkSessions(request as pb.CheckSessionsRequest);
      case "ListDevices":
        return this.#listDevices(request as pb.ListDevicesRequest);
      case "UpdateDevice":
        return this.#updateDevice(request as pb.UpdateDeviceRequest);
      case "RevokeDevice":
        return this.#revokeDevice(request as pb.RevokeDeviceRequest);
      case "RevokeAll":
        return this.#revokeAll(request as pb.RevokeAllRequest);
      case "GetSigningKeys":
        return create(pb.GetSigningKeysResponseSchema, { jwksJson: '{"keys":[]}' });
      default:
        throw new Refusal("UNIMPLEMENTED", `${method} is not known`);
    }
  }

  #tellDurability(response: Message & { durability: unknown }, insists: boolean): void {
    if ("rotated" in response && response.rotated !== true) return;
    if (insists && this.replicasConfirm !== true) throw away("NOT_REPLICATED");
    const { LOCAL, REPLICATED } = pb.Durability;
    response.durability = this.replicasConfirm === true ? REPLICATED : LOCAL;
  }

  // --- sessions ---------------------------------------------------------------------------------

  #issueDevice(request: pb.IssueDeviceRequest): pb.IssueDeviceResponse {
    refuse(ofSignIn(request));
    const { state } = this;
    const { userId, requestId, sessionTtl, idleTimeout } = request;
    const known = state.signIns.get(requestId);
    if (known !== undefined) return this.#issueAgain(known, request);
    const now = state.now();
    const presented = canonicalDeviceId(request.deviceId);
    const deviceId = presented === "" ? randomUUID() : presented;
    const devices = state.devices.get(userId) ?? new Map<string, FakeDevice>();
    this.#checkLimit(devices, deviceId);
    const [newDevice, firstDevice] = [!devices.has(deviceId), devices.size === 0];
    const client = shownClient(request.client ?? create(pb.ClientInfoSchema));
    const device = devices.get(deviceId) ?? newDeviceAt(deviceId, client, now);
    state.devices.set(userId, devices.set(deviceId, device));
    const replaced = state.isLive(device) ? device.session : undefined;
    const session = newSession({
      userId,
      deviceId,
      claims: { ...request.claims },
      authMethods: [...request.authMethods],
      signedInAt: now,
      endsAt: now + (sessionTtl === undefined ? SESSION_TTL_MS : milliseconds(sessionTtl)),
      replaced,
      idleTimeoutMs: idleTimeout && milliseconds(idleTimeout),
    });
    Object.assign(device, { client, signedInAt: now, lastSeenAt: now, session });
    const [accessToken, token] = state.handOut(session, this.#tokenTtlMs);
    const { sessionId } = session;
    const told = { sessionId, newDevice, firstDevice };
    this.#writeEvent(pb.EventType.DEVICE_SIGNED_IN, userId, device, told);
    const response = create(pb.IssueDeviceResponseSchema, {
      device: deviceMessage(state, device),
      accessToken,
      tokenExpireTime: timestamp(state.told(token.endsAt)),
      deviceIdAssigned: presented === "",
      newDevice,
    });
    if (requestId !== "") {
      state.signIns.set(requestId, { request: whatIsAsked(request), session, response });
    }
    return response;
  }

  #issueAgain(known: FakeSignIn, request: pb.IssueDeviceRequest): pb.IssueDeviceResponse {
    if (!equals(pb.IssueDeviceRequestSchema, known.request, whatIsAsked(request))) {
      const reason = "REQUEST_ID_REUSED";
      throw new Refusal("INVALID_ARGUMENT", reason, { reason });
    }
    const { session } = known;
    const unused = session.firstSeenAt === undefined && session.generation === 1;
    if (this.state.deviceOf(session)?.session !== session || !unused) {
      throw new Refusal("ABORTED", "REQUEST_ID_SPENT", { reason: "REQUEST_ID_SPENT" });
    }
    return known.response;
  }

  #checkLimit(devices: ReadonlyMap<string, FakeDevice>, deviceId: string): void {
    if (this.maxDevices === undefined) return;
    const others = [...devices.values()].filter((device) => device.deviceId !== deviceId);
    if (others.filter((device) => this.state.isLive(device)).length >= this.maxDevices) {
      const reason = "DEVICE_LIMIT_REACHED";
      throw new Refusal("RESOURCE_EXHAUSTED", reason, { reason });
    }
  }

  #renewSession(request: pb.RenewSessionRequest): pb.RenewSessionResponse {
    const { state } = this;
    const presenting = { renewing: true, observeOnly: false };
    const judged = this.#judge(request.accessToken, request.deviceId, presenting);
    const { status, revokedDevices } = judged;
    const response = create(pb.RenewSessionResponseSchema, { status, revokedDevices });
    let { token } = judged;
    if (token === undefined) return response;
    const { session } = token;
    const now = state.now();
    if (!request.passive) session.lastSeenAt = now;
    if (token.generation === session.generation) {
      markSeen(token, now, { settles: true });
      if (rotateIfDue(token, now)) this.rotations += 1;
    }
    const newest = token.generation === session.generation;
    let handedOut: [string, FakeToken] | undefined;
    if (!newest && session.firstSeenAt === undefined) {
      if (now - session.renewedAt > GRACE_MS) session.renewedAt = now;
      handedOut = state.handOut(session, this.#tokenTtlMs);
    } else if (newest && token.claims === session.claims) {
      session.hasNewerClaims = false;
    } else if (newest && now < token.endsAt) {
      handedOut = state.reissue(token);
    }
    if (handedOut !== undefined) {
      [response.accessToken, token] = handedOut;
      response.tokenExpireTime = timestamp(state.told(token.endsAt));
      response.rotated = true;
    }
    response.session = sessionMessage(state, token);
    return response;
  }

  #updateSession(request: pb.UpdateSessionRequest): pb.UpdateSessionResponse {
    const { userId } = request;
    const named = request.deviceId !== "";
    const wrongDevice = named ? ofDeviceId(request.deviceId) : [];
    refuse([...ofUserId(userId), ...wrongDevice, ...ofClaims(request.claims)]);
    const deviceId = canonicalDeviceId(request.deviceId);
    const live = [...this.state.devicesOf(userId).values()].filter(
      (device) => (!named || device.deviceId === deviceId) && this.state.isLive(device),
    );
    const [first] = live;
    if (named && first === undefined) {
      throw new Refusal("NOT_FOUND", "SESSION_NOT_FOUND", { reason: "SESSION_NOT_FOUND" });
    }
    const claims = { ...request.claims };
    const changed = live
      .map(({ session }) => session)
      .filter((session) => session !== undefined)
      .filter(({ updatedClaims }) => !sameClaims(updatedClaims, claims));
    for (const session of changed) {
      session.claims = session.updatedClaims = claims;
      session.hasNewerClaims = true;
    }
    if (changed.length > 0) {
      const sessionId = named ? (first?.session?.sessionId ?? "") : "";
      const device = named ? first : undefined;
      this.#writeEvent(pb.EventType.SESSION_UPDATED, userId, device, { sessionId });
    }
    return create(pb.UpdateSessionResponseSchema, { updatedSessions: live.length });
  }

  #validateSession(request: pb.ValidateSessionRequest): pb.ValidateSessionResponse {
    const { state } = this;
    const { observeOnly } = request;
    const presenting = { renewing: false, observeOnly };
    const judged = this.#judge(request.accessToken, request.deviceId, presenting);
    const { status, token, forgiven, revokedDevices } = judged;
    const presented = canonicalDeviceId(request.deviceId);
    const response = create(pb.ValidateSessionResponseSchema, {
      active: token !== undefined,
      status,
      deviceId: presented === "" ? this.#assignedId() : presented,
      deviceIdAssigned: presented === "",
      renewRecommended: forgiven,
      revokedDevices,
    });
    if (token === undefined) return response;
    const { session } = token;
    const now = state.now();
    const superseded = token.generation < session.generation;
    const half = (token.endsAt - token.issuedAt) / 2;
    response.renewRecommended =
      token.aged || token.endsAt - now < half || superseded || session.hasNewerClaims;
    const device = state.deviceOf(session);
    if (!observeOnly) {
      if (!request.passive && device !== undefined) {
        device.lastSeenAt = session.lastSeenAt = now;
      }
      if (!superseded) markSeen(token, now, { settles: !this.#alarmOnRenewal });
    }
    response.session = sessionMessage(state, token);
    return response;
  }

  /**
   * Returns a new device ID for a request without a device ID, and stores it as an assigned device
   * ID.
   */
  #assignedId(): string {
    const deviceId = randomUUID();
    this.state.assigned.add(deviceId);
    return deviceId;
  }

  #batchValidateSessions(
    request: pb.BatchValidateSessionsRequest,
  ): pb.BatchValidateSessionsResponse {
    refuse(ofBatch(request.requests.length, "requests"));
    const results = request.requests.map((one) => ({
      outcome: { case: "response" as const, value: this.#validateSession(one) },
    }));
    return create(pb.BatchValidateSessionsResponseSchema, { results });
  }

  #checkSessions({ sessions }: pb.CheckSessionsRequest): pb.CheckSessionsResponse {
    refuse(ofBatch(sessions.length, "sessions"));
    const results = sessions.map((name) => checkedSession(this.state, name));
    return create(pb.CheckSessionsResponseSchema, { results });
  }

  #judge(text: string, deviceId: string, presenting: Presenting): Judged {
    const { state } = this;
    const [status, token] = judge(state, text, deviceId, presenting);
    const judged = { status, token, revokedDevices: 0, forgiven: false };
    const replayed = state.tokens.get(text);
    if (status !== pb.SessionStatus.REPLAYED || replayed === undefined) return judged;
    const { session } = replayed;
    const { renewing, observeOnly } = presenting;
    const onItsDevice = canonicalDeviceId(deviceId) === session.deviceId;
    if (this.#alarmOnRenewal && !renewing && onItsDevice) {
      if (!observeOnly) this.#tellOfSuperseded(session);
      return { ...judged, status: pb.SessionStatus.SUPERSEDED, forgiven: true };
    }
    if (observeOnly) return judged;
    const device = state.deviceOf(session);
    const cause = replayCause(state, replayed, deviceId);
    if (device !== undefined) device.lastAlarm = { at: state.now(), cause };
    const revokedDevices = state.endSessions(session.userId);
    const told = { sessionId: session.sessionId, replayCause: cause };
    this.#writeEvent(pb.EventType.SESSION_REPLAYED, session.userId, device, told);
    return { ...judged, revokedDevices };
  }

  /** Writes the event SUPERSEDED_TOKEN_PRESENTED, at most one event an hour for each session. */
  #tellOfSuperseded(session: FakeSession): void {
    const now = this.state.now();
    if (session.toldAt !== undefined && now - session.toldAt < HOUR_MS) return;
    session.toldAt = now;
    const device = this.state.deviceOf(session);
    this.#writeEvent(pb.EventType.SUPERSEDED_TOKEN_PRESENTED, session.userId, device, {});
  }

  // --- devices ----------------------------------------------------------------------------------

  #listDevices(request: pb.ListDevicesRequest): pb.ListDevicesResponse {
    refuse(ofUserId(request.userId));
    const listed = [...this.state.devicesOf(request.userId).values()]
      .filter((device) => this.state.isLive(device) || request.includeSignedOut)
      .sort((one, other) => other.lastSeenAt - one.lastSeenAt);
    const start = Number(request.pageToken);
    const end = start + (request.pageSize || PAGE_SIZE);
    const current = canonicalDeviceId(request.currentDeviceId);
    return create(pb.ListDevicesResponseSchema, {
      devices: listed
        .slice(start, end)
        .map((device) => deviceMessage(this.state, device, current)),
      nextPageToken: end < listed.length ? String(end) : "",
      totalSize: listed.length,
    });
  }

  #updateDevice({ userId, deviceId, displayName }: pb.UpdateDeviceRequest): Message {
    refuse([...ofUserId(userId), ...ofDeviceId(deviceId), ...ofDisplayName(displayName)]);
    const device = this.state.devicesOf(userId).get(canonicalDeviceId(deviceId));
    if (device === undefined) {
      throw new Refusal("NOT_FOUND", "DEVICE_NOT_FOUND", { reason: "DEVICE_NOT_FOUND" });
    }
    device.displayName = cleaned(displayName);
    return create(pb.UpdateDeviceResponseSchema, { device: deviceMessage(this.state, device) });
  }

  #revokeDevice(request: pb.RevokeDeviceRequest): pb.RevokeDeviceResponse {
    const { userId, reason } = request;
    refuse([...ofUserId(userId), ...ofDeviceId(request.deviceId)]);
    const device = this.state.devicesOf(userId).get(canonicalDeviceId(request.deviceId));
    if (device === undefined) return create(pb.RevokeDeviceResponseSchema);
    const ended = this.state.isLive(device) ? device.session : undefined;
    device.session = undefined;
    if (ended !== undefined) {
      const told = { reason, sessionId: ended.sessionId };
      this.#writeEvent(pb.EventType.DEVICE_REVOKED, userId, device, told);
    }
    if (request.forget) this.state.devices.get(userId)?.delete(device.deviceId);
    return create(pb.RevokeDeviceResponseSchema, { revoked: ended !== undefined });
  }

  #revokeAll(request: pb.RevokeAllRequest): pb.RevokeAllResponse {
    const { userId, reason } = request;
    refuse(ofUserId(userId));
    const exceptDeviceId = canonicalDeviceId(request.exceptDeviceId);
    const revokedDevices = this.state.endSessions(userId, exceptDeviceId);
    if (revokedDevices > 0) {
      const told = { reason, exceptDeviceId };
      this.#writeEvent(pb.EventType.ALL_REVOKED, userId, undefined, told);
    }
    if (request.forget) {
      const devices = this.state.devices.get(userId);
      for (const deviceId of [...(devices?.keys() ?? [])]) {
        if (deviceId !== exceptDeviceId) devices?.delete(deviceId);
      }
    }
    return create(pb.RevokeAllResponseSchema, { revokedDevices });
  }

  // --- events -----------------------------------------------------------------------------------

  /**
   * Yields the messages of a watch. The watch starts at the request's cursor. Without a cursor it
   * starts at the request's `start_time`, and without a `start_time` it starts now.
   */
  async *watch(
    request: pb.WatchEventsRequest,
    { signal }: ServedCall,
  ): AsyncGenerator<pb.WatchEventsResponse, void> {
    this.#count("WatchEvents");
    const { state } = this;
    const { cursor, startTime, types, userIds } = request;
    let start = state.events.length;
    if (cursor !== "") {
      if (!/^\d+$/.test(cursor) || Number(cursor) > start) throw cursorExpired();
      start = Number(cursor);
    } else if (startTime !== undefined) {
      const since = timestampMs(startTime);
      const isEarlier = ({ createTime }: pb.Event) =>
        createTime !== undefined && timestampMs(createTime) < since;
      start = state.events.filter(isEarlier).length;
    }
    yield watchMessage(state, [], String(start), cursor === "" && startTime === undefined);
    while (!signal.aborted) {
      if (this.state === state && state.events.length === start) await this.#news(signal);
      if (this.isAway) throw away("STORE_UNAVAILABLE");
      if (this.state !== state) throw cursorExpired();
      const found = state.events.slice(start);
      start = state.events.length;
      const told = found.filter(
        (event) =>
          (types.length === 0 || types.includes(event.type)) &&
          (userIds.length === 0 || userIds.includes(event.userId)),
      );
      yield watchMessage(state, told, String(start), told.length === 0);
    }
  }

  /**
   * Waits until an event is written, a proof is due, the state is reset or the watch is cancelled.
   */
  async #news(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        this.#watchers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, PROOF_OF_LIFE_MS);
      signal.addEventListener("abort", wake);
      this.#watchers.add(wake);
    });
  }

  #wake(): void {
    for (const wake of [...this.#watchers]) wake();
  }

  #writeEvent(
    type: pb.EventType,
    userId: string,
    device: FakeDevice | undefined,
    more: EventFields,
  ): void {
    this.state.events.push(eventMessage(this.state, type, userId, device, more));
    this.#wake();
  }
}

function newDeviceAt(deviceId: string, client: pb.ClientInfo, now: number): FakeDevice {
  return {
    deviceId,
    client,
    createdAt: now,
    signedInAt: now,
    lastSeenAt: now,
    displayName: "",
    session: undefined,
    lastAlarm: undefined,
  };
}

/**
 * Returns a copy of the request without `client` and `require_replicated`. Two calls with the same
 * `request_id` may differ in these two fields.
 */
function whatIsAsked(request: pb.IssueDeviceRequest): pb.IssueDeviceRequest {
  const bare = clone(pb.IssueDeviceRequestSchema, request);
  delete bare.client;
  bare.requireReplicated = false;
  return bare;
}

function sameClaims(
  one: Readonly<Record<string, string>> | undefined,
  other: Readonly<Record<string, string>>,
): boolean {
  if (one === undefined) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length && names.every((name) => one[name] === other[name])
  );
}

function cursorExpired(): Refusal {
  return new Refusal("OUT_OF_RANGE", "CURSOR_EXPIRED", { reason: "CURSOR_EXPIRED" });
}
