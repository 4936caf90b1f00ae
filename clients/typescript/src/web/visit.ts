/** The visit of an end user's request: it says who is signed in, and signs users in and out. */

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

/** Options of `signIn`. */
export interface SignInOptions {
  /** The facts about the user that the app finds in each session. */
  readonly claims?: Claims | undefined;
  /** How the user proved their identity, such as "pwd" (RFC 8176). */
  readonly authMethods?: readonly string[] | undefined;
  /** The life of the session in milliseconds. Default: the service's own. */
  readonly sessionTtlMs?: number | undefined;
  /** Two calls with the same `requestId` make one sign-in. Make a new ID for each sign-in form. */
  readonly requestId?: string | undefined;
  /**
   * If false, the browser forgets the session when the browser is closed, but keeps its device ID.
   * An unused session then ends after `briefIdleTimeoutMs`. Default: true.
   */
  readonly remember?: boolean | undefined;
  /**
   * How long the session may last unused, in milliseconds. If the service's own idle timeout is
   * shorter, the service's idle timeout applies. Default: the service's idle timeout, or
   * `briefIdleTimeoutMs` if `remember` is false.
   */
  readonly idleTimeoutMs?: number | undefined;
}

/** Options of `signOut`. */
export interface SignOutOptions {
  /** The ID of the device on which the user is signed out. Default: this device. */
  readonly deviceId?: string | undefined;
  /** The reason of the sign-out, which stands in the event. Default: "sign_out". */
  readonly reason?: string | undefined;
  /**
   * If true, the device is removed from the list, too, and a later sign-in there counts as a
   * sign-in on a new device. Default: false.
   */
  readonly forget?: boolean | undefined;
}

/** Options of `signOutEverywhere`. */
export interface SignOutEverywhereOptions {
  /** If true, the user stays signed in on this device. Default: true. */
  readonly exceptCurrent?: boolean | undefined;
  /** The reason of the sign-out, which stands in the event. Default: "sign_out_everywhere". */
  readonly reason?: string | undefined;
}

/** A request, with its session if it has one. */
export class Visit extends Admission {
  /**
   * Returns the path to which to send the user after a sign-in: `next` in the request's query,
   * which a redirect to `signInUrl` put there. Without `next`, or if `next` is of another origin,
   * returns the fallback.
   */
  nextPath(fallback = "/"): string {
    return nextIn(this.presented.target, fallback);
  }

  /**
   * Returns the recent or strong sign-in that a page required of a user who is signed in: a
   * redirect to `signInUrl` put it into the query. Else returns undefined.
   *
   * A sign-in page that sends signed-in users away must not do so if this returns a step-up.
   * Anybody may have written the query: it says what sign-in to request, and permits nothing.
   */
  requestedStepUp(): StepUp | undefined {
    return stepUpIn(this.presented.target);
  }

  /**
   * Calls a callback once when the session has ended: signed out or revoked, replaced by another
   * sign-in on this device, or expired. A token that ends or is renewed does not end the session,
   * and an outage of the service does not, either. Returns a function that removes the callback.
   * Throws SignInRequired, NoAnswer.
   */
  onEnded(callback: () => void): () => void {
    return this.sessionEnd.listen(this.require(), callback);
  }

  /** Makes the middleware leave this connection open when the session ends. */
  keepOpen(): void {
    this.sessionEnd.keepOpen();
  }

  /**
   * Signs a user in who has just proven their identity. The response sets both cookies. An app that
   * is no browser gets token and device ID in your own response.
   *
   * If another user was signed in in this browser before, that user is signed out in this browser:
   * the browser now has the cookies of the new user. Rejects with NoAnswer, and with all errors of
   * `issueDevice`.
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
   * Signs the user out here, or on another device of the user. Without a session there is nothing
   * to do, and no error. Resolves to true if the user was signed in there. Rejects with NoAnswer,
   * and with TypeError for a text that is no device ID.
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
   * Signs the user out on all devices, or on all other devices. Resolves to the number of devices
   * that were signed in. Rejects with SignInRequired, NoAnswer.
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
   * Resolves to the user's devices, the newest activity first. This device is `current`. Rejects
   * with SignInRequired, NoAnswer.
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
   * Names a device of the user. An empty name removes the name. Resolves to the device. Rejects
   * with SignInRequired, NoAnswer, and the errors `device_not_found` and `invalid_request`.
   */
  async rename(deviceId: string, displayName: string): Promise<Device> {
    const { userId } = this.require();
    return this.answering(() => this.context.authority.updateDevice(userId, deviceId, displayName));
  }

  /**
   * Changes the claims of the user, such as an e-mail address, here and on all other devices of the
   * user. The new claims replace all existing claims. Resolves to the session with the new claims.
   *
   * This browser gets a token with the new claims in this response. Every other browser of the user
   * gets such a token with the response to its next request. Rejects with SignInRequired, NoAnswer,
   * and `invalid_request`.
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
   * Renews the token of an app that is no browser. Call it in your endpoint for renewals. The
   * middleware itself renews the token of a browser. `accessToken` is undefined if the app keeps
   * the token that it has. Rejects with SignInRequired, NoAnswer.
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
   * Signs in with an idle timeout. If the service's longest idle timeout is shorter, this method
   * signs in with the service's longest one. If the service's shortest idle timeout is longer, and
   * `lengthen` is true, this method signs in with the service's shortest one.
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
   * Ends the session of the user who was signed in in this browser before. Else a late response
   * could renew that session, and give its cookies back to the browser.
   */
  async #end({ userId, deviceId }: Session): Promise<void> {
    const { authority, flow } = this.context;
    try {
      await authority.revokeDevice(userId, deviceId, { reason: "sign_in_of_another_user" });
    } catch (error) {
      // The new user is signed in nevertheless.
      if (!(error instanceof SessionAuthorityError)) throw error;
      flow.settings.log.warn(
        "The user who was signed in in a browser before another user is not signed out there: " +
          (error.reason || error.code),
      );
    }
  }

  /**
   * Resolves to the session of the user, even if an app's token has expired: the session goes on,
   * and must not outlive a sign-out.
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
