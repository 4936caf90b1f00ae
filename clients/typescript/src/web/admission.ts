/**
 * The part of a visit that middleware calls: it validates the token of a request, and writes the
 * cookies of the response.
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
 * If an app takes longer to respond, the next request renews the token. After a long time another
 * request may have renewed the token long ago, and the token of this request would look stolen. So
 * this is far less than the service's ALARM_AFTER, 5 minutes.
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
  /** The wall clock. Tests pass their own. */
  readonly now: () => Date;
}

/** A request, with its session if it has one. */
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
   * The session of the user, undefined if nobody is signed in. Throws NoAnswer if the service gave
   * no answer: an outage must not look like a sign-out.
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
   * False if the session ends with the browser. Pass it to a sign-in that replaces this session,
   * such as a step-up: `signIn(user, { remember: visit.remembered })`.
   */
  get remembered(): boolean {
    return this.presented.brief === "" || this.presented.brief !== this.found?.sessionId;
  }

  /** The status of the request's token, for logs. `UNSPECIFIED` while it is unknown. */
  get status(): SessionStatus {
    return this.verdict;
  }

  /** The ID of the browser or app. Empty before its first sign-in. */
  get deviceId(): string {
    return this.found?.deviceId ?? this.presented.deviceId;
  }

  /**
   * Returns how many milliseconds the session lasts from now on if it is not used again: until its
   * idle end or its absolute end, whichever is first. Returns undefined if nobody is signed in.
   * Throws NoAnswer if the service gave no answer.
   *
   * The time is exact on a path of `passivePaths`. At other paths a near cache may answer with an
   * old idle end, which a use has put off since. Then the time is too short, and never too long.
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
   * Throws StepUpRequired, which is a SignInRequired, if the sign-in is older or weaker than the
   * rules require. The session then stays good. Throws RangeError and TypeError for invalid rules.
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
   * Finds out whether the session is good. It renews a browser's token at once in two cases. If the
   * token has expired, only a renewal says whether the session is good. If the token was superseded
   * and the service recommends a renewal (with `REPLAY_ALARM=renewed`), the renewal raises the
   * alarm about a replay.
   *
   * If the Session Authority gives no answer, `session` and `require` throw NoAnswer.
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
   * Returns the `Set-Cookie` headers of the response. If the service recommended a renewal, or the
   * app changed the claims, less than 10 seconds ago, this method renews a browser's token first.
   * Only in this case does the method return a promise.
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
   * Returns the change of the response's headers for caches, once the visit is closed. `names` are
   * the names of the app's headers, `contentType` is the type of the response's contents.
   */
  caching(names: readonly string[], contentType: string): Caching {
    return cachingOf({
      names,
      contentType,
      handsOut: this.handsOut || (this.cookies?.length ?? 0) > 0,
      // If the renewal finds that the session has ended, the app's page is personal nevertheless.
      signedIn: this.found !== undefined || this.#hadSession,
      looked: this.#looked,
      ended: this.ended,
    });
  }

  /**
   * Returns true if a `Set-Cookie` header of the app sets one of the visit's cookies. Such a header
   * must not be sent, as it would sign the user out.
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
   * Ends a connection by `hangUp` when the session ends, unless the app keeps the connection open.
   * This happens only if the app uses the session, before or after this call: public streams go on.
   */
  hangUpAtEnd(hangUp: () => void): void {
    if (!this.context.flow.settings.endConnections) return;
    this.sessionEnd.hangUpWith(hangUp, this.#looked ? this.found : undefined);
  }

  /** True if the app may listen for the end of the session, now or later. */
  get canHear(): boolean {
    return this.found !== undefined || this.sessionEnd.isHeard;
  }

  /** Notes that the connection is over, so that the session's end calls no listener. */
  leave(): void {
    this.sessionEnd.leave();
  }

  /**
   * Returns the last refusal that the visit threw, and forgets it: the next call returns undefined.
   * If a framework caught the error and answered in its own way, the middleware replaces the
   * framework's response.
   */
  takeRefusal(): Refused | undefined {
    const refused = this.#refused;
    this.#refused = undefined;
    return refused;
  }

  /** Logs that the Session Authority refused a call, once a minute at most. */
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
    // A passive renewal can't replace a renewal that counts as a use.
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

  /** Makes a call for the app. An outage becomes the refusal with status 503. */
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
      // The token is good for now. The next request renews it.
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
