/**
 * Contains the part of a visit that the middleware calls. This part validates the token of a
 * request, and makes the cookies of the response.
 */

import { isUnavailable, SessionAuthorityError } from "../errors.js";
import type { Renewal, Session, SessionStatus } from "../types.js";
import type { Authority } from "./authority.js";
import { type Caching, cachingOf } from "./caching.js";
import { CONDUCT } from "./conduct.js";
import { type Flow, isActive } from "./flow.js";
import type { Presented } from "./presented.js";
import type { Renewals } from "./renewals.js";
import type { Refused } from "./responses.js";
import { SessionEnd } from "./session_end.js";
import { lackOf, type SignInRules, stepUpOf } from "./step_up.js";
import type { ThrottledLog } from "./throttled_log.js";

/**
 * The time in which an app must respond so that its response renews the token. If the app takes
 * longer, the next request renews the token. After a long time, another request may have renewed
 * the same token long ago. If the response renewed the token in spite of this, the service would
 * take the token for a replay. The time is far shorter than the service's `ALARM_AFTER`, 5 minutes,
 * to prevent this false alarm.
 */
const RENEW_WITHIN_MS = 10_000;
const OUTAGE = "The Session Authority gives no answer, so requests that need a session get 503";
const DENIED = "The Session Authority refuses to say who is signed in";
const REFUSED = "The Session Authority refuses a call for a request";
const NO_COOKIES: readonly string[] = [];

/** The objects that all visits of one app share. */
export interface VisitContext {
  readonly authority: Authority;
  readonly flow: Flow;
  readonly renewals: Renewals;
  readonly states: ThrottledLog;
  /** Returns the current time. Tests pass their own function. */
  readonly now: () => Date;
}

/**
 * A request of an end user, with its session if the user is signed in. An app gets the subclass
 * `Visit`.
 */
export class Admission {
  /** The shared objects of the app's visits. Only this package uses them. */
  protected readonly context: VisitContext;
  protected presented: Presented;
  protected cookies: string[] | undefined;
  protected found: Session | undefined;
  protected verdict: SessionStatus;
  protected failure: SessionAuthorityError | undefined;
  protected closed = false;
  protected handsOut = false;
  protected ended = false;
  protected readonly sessionEnd: SessionEnd;
  #refused: Refused | undefined;
  #renewRecommended = false;
  #renewUntil = 0;
  #looked = false;
  /** True if there was a session when the app read `session`. */
  #hadSession = false;

  constructor(context: VisitContext, presented: Presented) {
    this.context = context;
    this.presented = presented;
    this.verdict = presented.status ?? "UNSPECIFIED";
    this.sessionEnd = new SessionEnd((session, listener) =>
      context.authority.onSessionEnd(session, listener),
    );
  }

  /**
   * The session of the user, or undefined if nobody is signed in. Throws NoAnswer if the service
   * gave no answer, because an outage must not look like a sign-out.
   */
  get session(): Session | undefined {
    this.#looked = true;
    this.#hadSession ||= this.found !== undefined;
    this.sessionEnd.look(this.found);
    if (this.failure !== undefined) {
      throw this.refuse(this.context.flow.noAnswer(this.presented, this.failure));
    }
    return this.found;
  }

  /**
   * False if the session ends with the browser. Pass this value to a sign-in that replaces this
   * session, such as a step-up: `signIn(user, { remember: visit.remembered })`.
   */
  get remembered(): boolean {
    return this.presented.brief === "" || this.presented.brief !== this.found?.sessionId;
  }

  /**
   * The status of the request's token, for logs. `UNSPECIFIED` while the status is unknown, as in
   * an outage.
   */
  get status(): SessionStatus {
    return this.verdict;
  }

  /** The device ID of the client. Empty before the first sign-in of the client. */
  get deviceId(): string {
    return this.found?.deviceId ?? this.presented.deviceId;
  }

  /**
   * Returns how many milliseconds are left until the session ends, if it is not used again. The
   * session ends at its idle end or at its absolute end, whichever comes first. Returns undefined
   * if nobody is signed in. Throws NoAnswer if the service gave no answer.
   *
   * The result is exact in a request to one of `passivePaths`. In another request, a near cache may
   * return an idle end from before the last use of the session. Because of an old idle end, the
   * result may be too short, but never too long.
   */
  timeLeftMs(): number | undefined {
    const { session } = this;
    if (session === undefined) return undefined;
    return Math.max(session.expireTime.getTime() - this.context.now().getTime(), 0);
  }

  /**
   * Returns the session of the user. Throws SignInRequired if nobody is signed in, and NoAnswer if
   * the service gave no answer.
   *
   * Throws StepUpRequired, a subclass of SignInRequired, if the sign-in is older or weaker than
   * `rules` require. StepUpRequired does not end the session. Throws RangeError or TypeError for
   * invalid rules.
   */
  require(rules?: SignInRules): Session {
    const wanted = stepUpOf(rules);
    const { session } = this;
    const { flow, now } = this.context;
    if (session === undefined) {
      const renewRecommended = this.#renewRecommended;
      throw this.refuse(flow.signInRequired(this.presented, this.verdict, { renewRecommended }));
    }
    const lack = lackOf(wanted, session, now());
    if (lack !== "") throw this.refuse(flow.stepUpRequired(this.presented, wanted, lack));
    return session;
  }

  // --- for middleware ---------------------------------------------------------------------------

  /**
   * Validates the token to find out whether the session is good. In two cases, this method renews a
   * browser's token at once. If the token has expired, only a renewal says whether the session is
   * good. If the token was superseded and the service recommends a renewal (with
   * `REPLAY_ALARM=renewed`), the renewal makes the service raise the alarm about a replay.
   *
   * This method does not reject if the Session Authority gives no answer. After such an outage,
   * `session` and `require` throw NoAnswer.
   */
  async open(): Promise<void> {
    const { token, deviceId, client, passive, status, app } = this.presented;
    if (status !== undefined) return;
    try {
      const { authority, flow } = this.context;
      const found = await authority.validateSession(token, deviceId, { client, passive });
      this.verdict = found.status;
      this.found = found.session;
      this.#renewRecommended = found.renewRecommended;
      const conduct = CONDUCT[found.status];
      const renews = conduct === "renew" || (found.renewRecommended && !found.active);
      if (renews && !app) await this.renewNow();
      else if (conduct === "wipe") this.takeBack(flow.afterDenial(this.presented, found.status));
      if (found.active && found.renewRecommended) this.renewSoon();
    } catch (error) {
      if (!(error instanceof SessionAuthorityError)) throw error;
      this.#fail(error);
    }
  }

  /**
   * Closes the visit, and returns the `Set-Cookie` headers of the response. This method renews a
   * browser's token first if, in the last 10 seconds, the service recommended a renewal or the app
   * changed the claims. The method returns a promise only if it renews the token.
   */
  close(): readonly string[] | Promise<readonly string[]> {
    const first = !this.closed;
    this.closed = true;
    if (!first || this.cookies !== undefined || performance.now() >= this.#renewUntil) {
      return this.cookies ?? NO_COOKIES;
    }
    return this.#renewLast();
  }

  /**
   * Returns the changes to the response's headers for caches. Close the visit before you call this
   * method. `names` are the names of the headers that the app set. `contentType` is the value of
   * the response's `Content-Type`.
   */
  caching(names: readonly string[], contentType: string): Caching {
    return cachingOf({
      names,
      contentType,
      handsOut: this.handsOut || (this.cookies?.length ?? 0) > 0,
      // The app may have made a personal page before a renewal found that the session has ended.
      signedIn: this.found !== undefined || this.#hadSession,
      looked: this.#looked,
      ended: this.ended,
    });
  }

  /**
   * Returns true and logs a warning if `line`, a `Set-Cookie` header of the app, sets one of the
   * visit's cookies. The middleware must not send such a header, because it would sign the user
   * out.
   */
  owns(line: string): boolean {
    const { settings } = this.context.flow;
    if (!settings.cookies.isSetBy(line)) return false;
    const name = (line.split("=", 1)[0] ?? "").trim();
    settings.log.warn(
      `The app sets a cookie of its own named ${name}, which is the Session Authority's, so it ` +
        "was left out. Give one of them another name: cookies: { token, device }",
    );
    return true;
  }

  /**
   * Makes the end of the session call `hangUp`, which ends the connection. `hangUp` is called only
   * if the app uses the session, before or after this call. A stream for which the app does not use
   * the session goes on. A stream also goes on if the app called `keepOpen`, or if `endConnections`
   * is false.
   */
  hangUpAtEnd(hangUp: () => void): void {
    if (!this.context.flow.settings.endConnections) return;
    this.sessionEnd.hangUpWith(hangUp, this.#looked ? this.found : undefined);
  }

  /** True if the app has added a listener for the end of the session, or can still add one. */
  get canHear(): boolean {
    return this.found !== undefined || this.sessionEnd.isHeard;
  }

  /** Notes that the connection is over. From now on, the end of the session calls no listener. */
  leave(): void {
    this.sessionEnd.leave();
  }

  /**
   * Returns the last refusal that the visit threw, and forgets it: the next call returns undefined.
   * The middleware uses the refusal to replace a framework's response if the framework caught the
   * error and answered it by itself.
   */
  takeRefusal(): Refused | undefined {
    const refused = this.#refused;
    this.#refused = undefined;
    return refused;
  }

  /** Logs that the Session Authority refused a call. Writes at most one such line a minute. */
  noteRefusal(error: SessionAuthorityError): void {
    this.context.states.error(REFUSED, describe(error));
  }

  /** Makes `close` renew a browser's token, if `close` is called within 10 seconds. */
  protected renewSoon(): void {
    if (!this.presented.app) this.#renewUntil = performance.now() + RENEW_WITHIN_MS;
  }

  protected async renewNow(): Promise<Renewal> {
    const { authority, flow, renewals, now } = this.context;
    const { token, deviceId, client, passive } = this.presented;
    // `passive` is a part of the key, because a renewal that counts as a use must not share the
    // call of a passive renewal.
    const key = `${token} ${deviceId} ${String(passive)}`;
    const renewal = await renewals.share(key, () =>
      authority.renewSession(token, deviceId, { client, passive }),
    );
    const active = isActive(renewal);
    this.verdict = renewal.status;
    this.found = active ? renewal.session : undefined;
    const cookies = flow.afterRenewal(this.presented, renewal, now());
    if (active) {
      this.cookies = cookies;
      this.handsOut = renewal.accessToken !== undefined;
    } else {
      this.takeBack(cookies);
    }
    return renewal;
  }

  protected takeBack(cookies: string[]): void {
    this.cookies = cookies;
    this.ended = cookies.length > 0;
  }

  protected refuse<R extends Refused>(refused: R): R {
    this.#refused = refused;
    return refused;
  }

  protected forgiveFailures(): void {
    this.failure = undefined;
    this.#refused = undefined;
  }

  /**
   * Makes a call to the service for the app. In an outage, rejects with NoAnswer, the refusal with
   * status 503.
   */
  protected async answering<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (!isUnavailable(error)) throw error;
      this.context.states.error(OUTAGE, describe(error));
      throw this.refuse(this.context.flow.noAnswer(this.presented, error));
    }
  }

  async #renewLast(): Promise<readonly string[]> {
    try {
      await this.renewNow();
    } catch (error) {
      if (!(error instanceof SessionAuthorityError)) throw error;
      // The token stays good for now. The next request renews it.
      this.context.flow.settings.log.info(`A token was not renewed: ${error.reason || error.code}`);
    }
    return this.cookies ?? NO_COOKIES;
  }

  #fail(error: SessionAuthorityError): void {
    if (error.unavailable) this.context.states.error(OUTAGE, describe(error));
    else this.context.states.error(DENIED, error.reason || error.code);
    this.failure = error;
    this.verdict = "UNSPECIFIED";
  }
}

function describe(error: SessionAuthorityError): string {
  return `${error.reason || error.code} (${error.message.slice(0, 300)})`;
}
