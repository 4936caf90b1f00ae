/**
 * Defines the visit, the object that an app gets for a request of an end user. A visit says who is
 * signed in, and signs users in and out.
 */

import { SessionAuthorityError } from "../errors.js";
import type { IssueDeviceOptions, ListDevicesOptions } from "../options.js";
import type { Claims, Device, IssuedDevice, Renewal, Session } from "../types.js";
import { Admission } from "./admission.js";
import { CONDUCT } from "./conduct.js";
import { canonicalDeviceId } from "./device_ids.js";
import { isActive } from "./flow.js";
import { idleLimitMs } from "./idle_limit.js";
import { nextIn } from "./local_paths.js";
import { type StepUp, stepUpIn } from "./step_up.js";

/** The options of `signIn`. */
export interface SignInOptions {
  /**
   * Facts about the user, such as an e-mail address. The app finds the claims in the new session.
   * The user's sessions on other devices keep their own claims.
   */
  readonly claims?: Claims | undefined;
  /** The authentication methods that the user used, such as "pwd" (RFC 8176). */
  readonly authMethods?: readonly string[] | undefined;
  /** The life of the session in milliseconds. Default and maximum: the service's `SESSION_TTL`. */
  readonly sessionTtlMs?: number | undefined;
  /**
   * A UUID of this sign-in. Two calls with the same `requestId` within 15 minutes make only one
   * sign-in. Make a new UUID for each sign-in form.
   */
  readonly requestId?: string | undefined;
  /**
   * If false, the browser forgets the session when the browser is closed, but keeps its device ID.
   * If false, the default of `idleTimeoutMs` is `briefIdleTimeoutMs`. Default: true.
   */
  readonly remember?: boolean | undefined;
  /**
   * The idle timeout of the session in milliseconds. The maximum is the service's `IDLE_TIMEOUT`:
   * the visit replaces a longer value by the maximum. Default: the service's `IDLE_TIMEOUT`, or
   * `briefIdleTimeoutMs` if `remember` is false.
   */
  readonly idleTimeoutMs?: number | undefined;
}

/** The options of `signOut`. */
export interface SignOutOptions {
  /** The ID of the device on which the user is signed out. Default: the device of this request. */
  readonly deviceId?: string | undefined;
  /** The reason of the sign-out, which the service writes into the event. Default: "sign_out". */
  readonly reason?: string | undefined;
  /**
   * If true, the device is also removed from the user's list of devices. After the removal, a later
   * sign-in on the device counts as a sign-in on a new device. Default: false.
   */
  readonly forget?: boolean | undefined;
}

/** The options of `signOutEverywhere`. */
export interface SignOutEverywhereOptions {
  /** If true, the user stays signed in on the device of this request. Default: true. */
  readonly exceptCurrent?: boolean | undefined;
  /**
   * The reason of the sign-out, which the service writes into the events. Default:
   * "sign_out_everywhere".
   */
  readonly reason?: string | undefined;
}

/** A request of an end user, with its session if the user is signed in. */
export class Visit extends Admission {
  /**
   * Returns the path to which the app should redirect the user after a sign-in. The redirect to
   * `signInUrl` put this path into the field `next` of the query. Returns `fallback` if the query
   * has no `next`, or if `next` could lead to another origin.
   */
  nextPath(fallback = "/"): string {
    return nextIn(this.presented.target, fallback);
  }

  /**
   * Returns the recent or strong sign-in that a page requires of a user who is already signed in.
   * The redirect to `signInUrl` put this step-up into the query of the sign-in page. Returns
   * undefined if the query has no step-up.
   *
   * If this method returns a step-up, a sign-in page must let a signed-in user sign in again, and
   * not redirect the user to another page. Anybody can write the query, so the step-up says only
   * which sign-in to request, and gives no permission.
   */
  requestedStepUp(): StepUp | undefined {
    return stepUpIn(this.presented.target);
  }

  /**
   * Calls `callback` once when the session has ended. A session ends if the user signs out, if it
   * is revoked or expires, or if another sign-in on this device replaces it. The session does not
   * end if its token expires or is renewed, or if the service has an outage. Returns a function
   * that removes the callback. Throws SignInRequired if nobody is signed in, and NoAnswer if the
   * service gave no answer.
   */
  onEnded(callback: () => void): () => void {
    return this.sessionEnd.listen(this.require(), callback);
  }

  /** Makes the middleware leave this connection open when the session ends. */
  keepOpen(): void {
    this.sessionEnd.keepOpen();
  }

  /**
   * Signs in a user who has just proven their identity. For a browser, the response sets the
   * cookies with the token and the device ID. A mobile app gets no cookies: write the token and the
   * device ID of the result into your own response.
   *
   * If another user was signed in in this browser before, this method ends the session of that user
   * in this browser. The browser now has the cookies of the new user. Rejects with NoAnswer if the
   * service gave no answer, and with the other errors of `issueDevice`.
   */
  async signIn(userId: string, options: SignInOptions = {}): Promise<IssuedDevice> {
    const { remember = true, idleTimeoutMs, ...asked } = options;
    if (typeof remember !== "boolean") throw new TypeError("remember: must be true or false");
    this.#checkOpen();
    const before = this.found;
    const { flow, now } = this.context;
    const bySettings = !remember && idleTimeoutMs === undefined;
    const idleMs = bySettings ? flow.settings.briefIdleTimeoutMs : idleTimeoutMs;
    const { deviceId, client } = this.presented;
    const issued = await this.answering(() =>
      this.#issue(userId, { ...asked, deviceId, client }, idleMs, { lengthen: bySettings }),
    );
    this.cookies = flow.afterSignIn(this.presented, issued, now(), { remember });
    this.presented = { ...this.presented, brief: remember ? "" : issued.device.sessionId };
    this.handsOut = true;
    this.verdict = "ACTIVE";
    this.forgiveFailures();
    this.found = sessionOf(userId, issued, options, now());
    if (before !== undefined && before.userId !== userId && !this.presented.app) {
      this.ended = true;
      await this.#end(before);
    }
    return issued;
  }

  /**
   * Signs the user out on the device of this request, or on the user's device `deviceId`. Resolves
   * to true if the user was signed in on the device. Resolves to false if the request has no
   * session. Rejects with NoAnswer if the service gave no answer, and with TypeError if `deviceId`
   * is no device ID.
   */
  async signOut(options: SignOutOptions = {}): Promise<boolean> {
    const { deviceId, reason = "sign_out", forget = false } = options;
    const named = deviceId === undefined ? undefined : checkedDeviceId(deviceId);
    const session = await this.#sessionToEnd();
    const here = named === undefined || named === session?.deviceId;
    if (here) this.#checkOpen();
    let revoked = false;
    if (session !== undefined) {
      const device = named ?? session.deviceId;
      revoked = await this.answering(() =>
        this.context.authority.revokeDevice(session.userId, device, { reason, forget }),
      );
    }
    if (here) this.#forget();
    return revoked;
  }

  /**
   * Signs the user out on all other devices, and also on the device of this request if
   * `exceptCurrent` is false. Resolves to the number of devices on which the user was signed out.
   * Rejects with SignInRequired if nobody is signed in, and with NoAnswer if the service gave no
   * answer.
   */
  async signOutEverywhere(options: SignOutEverywhereOptions = {}): Promise<number> {
    const { exceptCurrent = true, reason = "sign_out_everywhere" } = options;
    await this.#sessionToEnd();
    const session = this.require();
    if (!exceptCurrent) this.#checkOpen();
    const spared = exceptCurrent ? { exceptDeviceId: session.deviceId } : {};
    const revoked = await this.answering(() =>
      this.context.authority.revokeAll(session.userId, { ...spared, reason }),
    );
    if (!exceptCurrent) this.#forget();
    return revoked;
  }

  /**
   * Resolves to the user's devices, the most recently used device first. `current` is true for the
   * device of this request. Rejects with SignInRequired if nobody is signed in, and with NoAnswer
   * if the service gave no answer.
   */
  async devices(
    options: Pick<ListDevicesOptions, "includeSignedOut" | "pageSize"> = {},
  ): Promise<Device[]> {
    const session = this.require();
    return this.answering(async () => {
      const currentDeviceId = session.deviceId;
      const found: Device[] = [];
      const all = this.context.authority.devices(session.userId, { ...options, currentDeviceId });
      for await (const device of all) found.push(device);
      return found;
    });
  }

  /**
   * Gives a device of the user a name. An empty name removes the device's name. Resolves to the
   * device. Rejects with SignInRequired if nobody is signed in, and with NoAnswer if the service
   * gave no answer. Rejects with the service's error `device_not_found` or `invalid_request` for a
   * wrong device ID or name.
   */
  async rename(deviceId: string, displayName: string): Promise<Device> {
    const { userId } = this.require();
    return this.answering(() => this.context.authority.updateDevice(userId, deviceId, displayName));
  }

  /**
   * Changes the claims of the user, such as an e-mail address, in the sessions on all devices of
   * the user. The new claims replace all existing claims. Resolves to the session with the new
   * claims.
   *
   * This browser gets a token with the new claims in this response. Another browser of the user
   * gets such a token in the response to its next request. Rejects with SignInRequired if nobody is
   * signed in, with NoAnswer if the service gave no answer, and with `invalid_request` for invalid
   * claims.
   */
  async updateClaims(claims: Claims): Promise<Session> {
    const session = this.require();
    await this.answering(() => this.context.authority.updateSession(session.userId, claims));
    const changed = { ...session, claims: { ...claims } };
    this.found = changed;
    this.renewSoon();
    return changed;
  }

  /**
   * Renews the token of a mobile app or another client that is no browser. Call this method in your
   * app's endpoint for renewals. The middleware itself renews the tokens of browsers. In the
   * result, `accessToken` is undefined if the client keeps the token that it has. Rejects with
   * SignInRequired if the session is not good, and with NoAnswer if the service gave no answer.
   */
  async renew(): Promise<Renewal> {
    this.#checkOpen();
    const { flow } = this.context;
    if (this.presented.token === "") {
      throw this.refuse(flow.signInRequired(this.presented, this.verdict));
    }
    const renewal = await this.answering(() => this.renewNow());
    this.forgiveFailures();
    if (!isActive(renewal)) {
      throw this.refuse(flow.signInRequired(this.presented, renewal.status));
    }
    return renewal;
  }

  /**
   * Signs the user in with an idle timeout that the service accepts. Replaces a timeout that is too
   * long by the service's longest timeout. If `lengthen` is true, also replaces a timeout that is
   * too short by the service's shortest timeout.
   */
  async #issue(
    userId: string,
    asked: IssueDeviceOptions,
    idleTimeoutMs: number | undefined,
    { lengthen }: { lengthen: boolean },
  ): Promise<IssuedDevice> {
    const { authority } = this.context;
    if (idleTimeoutMs === undefined) return authority.issueDevice(userId, asked);
    try {
      return await authority.issueDevice(userId, { ...asked, idleTimeoutMs });
    } catch (error) {
      const limitMs = idleLimitMs(error, idleTimeoutMs, { lengthen });
      if (limitMs === undefined) throw error;
      return authority.issueDevice(userId, { ...asked, idleTimeoutMs: limitMs });
    }
  }

  /**
   * Ends the session of the user who was signed in in this browser before. If the session stayed,
   * an older request that is still under way could renew the session. The late response to the
   * older request would then replace the cookies of the new user.
   */
  async #end({ userId, deviceId }: Session): Promise<void> {
    const { authority, flow } = this.context;
    try {
      await authority.revokeDevice(userId, deviceId, { reason: "sign_in_of_another_user" });
    } catch (error) {
      // The sign-in of the new user stays good, although the service did not sign the other user
      // out.
      if (!(error instanceof SessionAuthorityError)) throw error;
      flow.settings.log.warn(
        "The user who was signed in before in this browser is not signed out: " +
          (error.reason || error.code),
      );
    }
  }

  /**
   * Resolves to the session that a sign-out must end, or to undefined if there is no session. If
   * the token of a mobile app has expired, its session may still be good. This method renews an
   * expired token to find the session.
   */
  async #sessionToEnd(): Promise<Session | undefined> {
    const expired = CONDUCT[this.verdict] === "renew";
    if (this.session === undefined && this.presented.token !== "" && expired) {
      await this.answering(() => this.renewNow());
    }
    return this.session;
  }

  #forget(): void {
    this.found = undefined;
    this.verdict = "NO_SESSION";
    this.takeBack(this.context.flow.afterSignOut(this.presented));
  }

  #checkOpen(): void {
    if (!this.closed) return;
    throw new Error("the response's headers are out: its cookies can't be changed any more");
  }
}

function checkedDeviceId(text: string): string {
  const named = typeof text === "string" ? canonicalDeviceId(text) : "";
  if (named === "") throw new TypeError("deviceId: must be a device ID");
  return named;
}

function sessionOf(
  userId: string,
  { device, tokenExpireTime }: IssuedDevice,
  { claims = {}, authMethods = [] }: SignInOptions,
  now: Date,
): Session {
  return {
    userId,
    deviceId: device.deviceId,
    sessionId: device.sessionId,
    generation: 1,
    claims: { ...claims },
    authMethods: [...authMethods],
    signInTime: device.signInTime ?? now,
    tokenExpireTime,
    expireTime: device.expireTime ?? tokenExpireTime,
    absoluteExpireTime: device.absoluteExpireTime,
  };
}
