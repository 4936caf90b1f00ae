/** A service in memory with users, devices and their sessions, for tests of the web part. */

import { randomUUID } from "node:crypto";

import { SessionAuthorityError } from "../../src/errors.js";
import type { Device, IssuedDevice, Renewal, Session, Validation } from "../../src/types.js";
import type { Authority } from "../../src/web/authority.js";

/* eslint-disable @typescript-eslint/require-await -- the client's methods are asynchronous */

const DAY_MS = 24 * 60 * 60 * 1000;

interface Entry {
  session: Session;
  device: Device;
  token: string;
}

/** A Session Authority in memory. */
export class MemoryAuthority {
  /** While this is set, each call fails with this error. */
  failure: SessionAuthorityError | undefined;
  /** True if validations recommend a renewal. */
  isRenewalDue = false;
  /** A renewal is answered only after this promise has resolved. */
  beforeRenewal: Promise<unknown> = Promise.resolve();
  renewals = 0;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Map<string, Set<() => void>>();
  #tokens = 0;

  /** The client that a test passes to the middleware. */
  get authority(): Authority {
    return this;
  }

  /** The names of the calls so far. */
  readonly calls: string[] = [];

  async validateSession(token: string, deviceId: string): Promise<Validation> {
    this.#called("validateSession");
    const entry = this.#entries.get(deviceId);
    const session = entry?.token === token && entry.device.signedIn ? entry.session : undefined;
    const common = { deviceId, deviceIdAssigned: false, revokedDevices: 0 };
    return session === undefined
      ? { ...common, active: false, status: "NO_SESSION", session, renewRecommended: false }
      : {
          ...common,
          active: true,
          status: "ACTIVE",
          session,
          renewRecommended: this.isRenewalDue,
        };
  }

  async renewSession(_token: string, deviceId: string): Promise<Renewal> {
    this.#called("renewSession");
    this.renewals += 1;
    await this.beforeRenewal;
    const entry = this.#entries.get(deviceId);
    if (entry === undefined) throw new Error("no such device");
    entry.token = this.#token();
    return {
      active: true,
      status: "ACTIVE",
      session: entry.session,
      rotated: true,
      accessToken: entry.token,
      tokenExpireTime: entry.session.tokenExpireTime,
      revokedDevices: 0,
      durability: "LOCAL",
    };
  }

  async issueDevice(
    userId: string,
    { deviceId: presented = "" }: { deviceId?: string } = {},
  ): Promise<IssuedDevice> {
    this.#called("issueDevice");
    const deviceId = presented === "" ? randomUUID() : presented;
    const now = new Date();
    const later = new Date(now.getTime() + 30 * DAY_MS);
    const session: Session = {
      userId,
      deviceId,
      sessionId: randomUUID().replaceAll("-", ""),
      generation: 1,
      claims: {},
      authMethods: ["pwd"],
      signInTime: now,
      tokenExpireTime: later,
      expireTime: later,
      absoluteExpireTime: later,
    };
    const device = deviceOf(session, now);
    const token = this.#token();
    this.#entries.set(deviceId, { session, device, token });
    return {
      device,
      accessToken: token,
      tokenExpireTime: later,
      deviceIdAssigned: presented === "",
      newDevice: true,
      evictedDevices: [],
      durability: "LOCAL",
    };
  }

  async revokeDevice(
    userId: string,
    deviceId: string,
    { forget = false }: { forget?: boolean } = {},
  ): Promise<boolean> {
    this.#called("revokeDevice");
    const entry = this.#entries.get(deviceId);
    if (entry?.session.userId !== userId) return false;
    const wasSignedIn = entry.device.signedIn;
    entry.device = { ...entry.device, signedIn: false, expireTime: undefined };
    if (forget) this.#entries.delete(deviceId);
    for (const listener of this.#listeners.get(entry.session.sessionId) ?? []) listener();
    return wasSignedIn;
  }

  async revokeAll(
    userId: string,
    { exceptDeviceId = "" }: { exceptDeviceId?: string } = {},
  ): Promise<number> {
    this.#called("revokeAll");
    let revoked = 0;
    for (const [deviceId, { session }] of this.#entries) {
      if (session.userId !== userId || deviceId === exceptDeviceId) continue;
      revoked += Number(await this.revokeDevice(userId, deviceId));
    }
    return revoked;
  }

  async *devices(
    userId: string,
    { currentDeviceId = "" }: { currentDeviceId?: string } = {},
  ): AsyncGenerator<Device, void> {
    this.#called("devices");
    for (const { session, device } of this.#entries.values()) {
      if (session.userId !== userId) continue;
      yield { ...device, current: device.deviceId === currentDeviceId };
    }
  }

  async updateDevice(userId: string, deviceId: string, displayName: string): Promise<Device> {
    this.#called("updateDevice");
    const entry = this.#entries.get(deviceId);
    if (entry?.session.userId !== userId) {
      const facts = { kind: "device_not_found", code: "NOT_FOUND" } as const;
      throw new SessionAuthorityError("no such device", facts);
    }
    if (displayName.length > 100) {
      throw new SessionAuthorityError("display_name: too long", {
        kind: "invalid_request",
        code: "INVALID_ARGUMENT",
        violations: [{ field: "display_name", description: "must have at most 100 characters" }],
      });
    }
    entry.device = { ...entry.device, displayName };
    return entry.device;
  }

  async updateSession(): Promise<number> {
    this.#called("updateSession");
    return 1;
  }

  onSessionEnd(session: Session, listener: () => void): () => void {
    const listeners = this.#listeners.get(session.sessionId) ?? new Set();
    this.#listeners.set(session.sessionId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
    };
  }

  /** The number of listeners for the end of a session. */
  get listening(): number {
    return [...this.#listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }

  close(): void {
    // There is nothing to close.
  }

  #called(method: string): void {
    this.calls.push(method);
    if (this.failure !== undefined) throw this.failure;
  }

  #token(): string {
    this.#tokens += 1;
    return `token-${this.#tokens}`;
  }
}

function deviceOf(session: Session, now: Date): Device {
  return {
    deviceId: session.deviceId,
    displayName: "Firefox on Linux",
    operatingSystem: "Linux",
    browser: "Firefox",
    formFactor: "DESKTOP",
    lastClient: { ipAddress: "192.0.2.1" },
    sessionId: session.sessionId,
    createTime: now,
    signInTime: now,
    lastSeenTime: now,
    expireTime: session.expireTime,
    absoluteExpireTime: session.absoluteExpireTime,
    current: false,
    signedIn: true,
    model: "",
    city: "Berlin",
    countryCode: "DE",
    authMethods: session.authMethods,
    lastAlarm: undefined,
  };
}
