/** A service that gives the answers of one case, and records its calls. */

import { type ErrorKind, SessionAuthorityError } from "../../src/errors.js";
import type { IssuedDevice, Renewal, Session, Validation } from "../../src/types.js";
import type { Authority } from "../../src/web/authority.js";

/* eslint-disable @typescript-eslint/require-await -- the client's methods are asynchronous */

const at = (seconds: number) => new Date(seconds * 1000);

function sessionOf(said: any): Session | undefined {
  if (said === null) return undefined;
  const absolute = said.absolute_expires_at;
  return {
    userId: said.user_id,
    deviceId: said.device_id,
    sessionId: said.session_id,
    generation: 1,
    claims: {},
    authMethods: said.auth_methods,
    signInTime: at(said.sign_in_at),
    tokenExpireTime: at(said.token_expires_at),
    expireTime: at(said.expires_at),
    absoluteExpireTime: absolute === null ? undefined : at(absolute),
  };
}

/** The service of one case. A call of a method that the case does not name is an error. */
export class ScriptedAuthority {
  readonly calls: Record<string, unknown>[] = [];
  readonly #answers: Readonly<Record<string, any>>;

  constructor(answers: Readonly<Record<string, any>>) {
    this.#answers = answers;
  }

  /** The client that a test passes to the middleware. */
  get authority(): Authority {
    return this as unknown as Authority;
  }

  async validateSession(token: string, deviceId: string, options: any): Promise<Validation> {
    const said = this.#answer("validate_session", asked(token, deviceId, options));
    return {
      active: said.status === "ACTIVE",
      status: said.status,
      deviceId,
      deviceIdAssigned: false,
      session: sessionOf(said.session),
      renewRecommended: said.renew_recommended,
      revokedDevices: 0,
    } as Validation;
  }

  async renewSession(token: string, deviceId: string, options: any): Promise<Renewal> {
    const said = this.#answer("renew_session", asked(token, deviceId, options));
    return {
      active: said.status === "ACTIVE",
      status: said.status,
      session: sessionOf(said.session),
      rotated: said.access_token !== null,
      accessToken: said.access_token ?? undefined,
      tokenExpireTime: undefined,
      revokedDevices: 0,
      durability: "UNSPECIFIED",
    };
  }

  async issueDevice(userId: string, options: any): Promise<IssuedDevice> {
    const idleMs = options.idleTimeoutMs;
    const said = this.#answer("issue_device", {
      user_id: userId,
      device_id: options.deviceId,
      idle_timeout_seconds: idleMs === undefined ? null : idleMs / 1000,
    });
    const absolute = said.absolute_expires_at;
    return {
      device: {
        deviceId: said.device_id,
        sessionId: said.session_id,
        signInTime: undefined,
        expireTime: at(said.expires_at),
        absoluteExpireTime: absolute === null ? undefined : at(absolute),
      },
      accessToken: said.access_token,
      tokenExpireTime: at(said.token_expires_at),
    } as IssuedDevice;
  }

  async revokeDevice(userId: string, deviceId: string, options: any): Promise<boolean> {
    const { reason, forget = false } = options;
    const named = { user_id: userId, device_id: deviceId, reason, forget };
    return this.#answer("revoke_device", named).revoked;
  }

  onSessionEnd(): () => void {
    return () => undefined;
  }

  close(): void {
    // There is nothing to close.
  }

  #answer(method: string, request: Record<string, unknown>): any {
    this.calls.push({ method, ...request });
    const answer = this.#answers[method];
    if (answer === undefined) throw new Error(`${method} must not be called`);
    if (answer.error === undefined) return answer;
    const { kind, retry_after_seconds: seconds } = answer.error;
    throw new SessionAuthorityError("said", {
      kind: kind as ErrorKind,
      code: kind === "invalid_request" ? "INVALID_ARGUMENT" : "UNKNOWN",
      retryAfterMs: seconds === null ? undefined : seconds * 1000,
    });
  }
}

function asked(token: string, deviceId: string, { passive }: { passive: boolean }) {
  return { access_token: token, device_id: deviceId, passive };
}
