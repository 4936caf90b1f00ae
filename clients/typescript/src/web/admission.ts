/**
 * What a request brought and what it is worth, from its first byte to the headers of its response:
 * the half of a visit that middleware drives.
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
 * An app that needs longer leaves renewing to the next request. By then another request may have
 * renewed long ago, and the token that this request brought would look stolen. So this is far less
 * than the service's ALARM_AFTER, 5 minutes.
 */
const RENEW_WITHIN_MS = 10_000;
const OUTAGE = "The Session Authority gives no answer, so requests that need a session get 503";
const DENIED = "The Session Authority refuses to say who is signed in";
const REFUSED = "The Session Authority refuses a call for a request";
const NO_COOKIES: readonly string[] = [];

/** What all visits of one app share. */
export interface VisitContext {
  readonly authority: Authority;
  readonly flow: Flow;
  readonly renewals: Renewals;
  readonly states: ThrottledLog;
  /** The wall clock; tests give their own. */
  readonly now: () => Date;
}

/** A request, with its session if it has one. */
export class Admission {
  /** For middleware and the visit itself; an app has no use for it. */
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
  /** There was a session when the app looked. */
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
   * The session of the user, undefined if nobody is signed in. Throws NoAnswer if that is unknown:
   * it must not look like a sign-out.
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
   * False if the session ends with the browser. For a sign-in that takes its place, as one that
   * proves more: `signIn(user, { remember: visit.remembered })`.
   */
  get remembered(): boolean {
    return this.presented.brief === "" || this.presented.brief !== this.found?.sessionId;
  }

  /** What the token of the request is worth, for logs. `UNSPECIFIED` while that is unknown. */
  get status(): SessionStatus {
    return this.verdict;
  }

  /** The ID of the browser or app. Empty before its first sign-in. */
  get deviceId(): string {
    return this.found?.deviceId ?? this.presented.deviceId;
  }

  /**
   * How long the session lasts from now on if it is not used again, in milliseconds; undefined if
   * nobody is signed in. Throws NoAnswer if that is unknown.
   *
   * It is exact on a path of `passivePaths`. Elsewhere a near cache may answer with an end that a
   * use has put off since: then it is too short, and never too long.
   */
  timeLeftMs(): number | undefined {
    const { session } = this;
    if (session === undefined) return undefined;
    return Math.max(session.expireTime.getTime() - this.context.now().getTime(), 0);
  }

  /**
   * The session of the user. Throws SignInRequired if nobody is signed in, NoAnswer if that is
   * unknown, StepUpRequired (which is a SignInRequired) if the sign-in is older or weaker than the
   * rules ask: then the session stays good.
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
   * Finds out whether the session is good. A browser's token is renewed at once if it has expired,
   * as only the renewal says whether its session is good; or if it was superseded and the service
   * recommends that. If the service is away, `session` and `require` say so.
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
   * Returns the `Set-Cookie` headers of the response, at once unless the token is renewed first: if
   * that was recommended a moment ago.
   */
  close(): readonly string[] | Promise<readonly string[]> {
    const first = !this.closed;
    this.closed = true;
    if (!first || this.cookies !== undefined || performance.now() >= this.#renewUntil) {
      return this.cookies ?? NO_COOKIES;
    }
    return this.#renewLast();
  }

  /** What the response says to caches, once the visit is closed. */
  caching(names: readonly string[], contentType: string): Caching {
    return cachingOf({
      names,
      contentType,
      handsOut: this.handsOut || (this.cookies?.length ?? 0) > 0,
      // A renewal that finds the session ended does not take back what the app has written.
      signedIn: this.found !== undefined || this.#hadSession,
      looked: this.#looked,
      ended: this.ended,
    });
  }

  /**
   * Whether a `Set-Cookie` header of the app is about one of the visit's cookies. Then it must not
   * go out: it would sign the user out.
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
   * Has a connection ended when the session ends, unless the app keeps it open. The app must have
   * looked at the session, now or later: a public stream goes on.
   */
  hangUpAtEnd(hangUp: () => void): void {
    if (!this.context.flow.settings.endConnections) return;
    this.sessionEnd.hangUpWith(hangUp, this.#looked ? this.found : undefined);
  }

  /** Whether the app may wait for the end of the session, now or later: there is one. */
  get canHear(): boolean {
    return this.found !== undefined || this.sessionEnd.isHeard;
  }

  /** The connection is over: nobody need hear of the session's end. */
  leave(): void {
    this.sessionEnd.leave();
  }

  /**
   * Returns the refusal that it threw last, once. A framework may have caught the error and handled
   * it in its own way, which the middleware puts right.
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

  /** Has a browser's token renewed as the response's headers go out, if that is soon. */
  protected renewSoon(): void {
    if (!this.presented.app) this.#renewUntil = performance.now() + RENEW_WITHIN_MS;
  }

  protected async renewNow(): Promise<Renewal> {
    const { authority, flow, renewals, now } = this.context;
    const { token, deviceId, client, passive } = this.presented;
    // A renewal that does not count as a use can't stand in for one that does.
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

  /** Makes a call of the app. An outage becomes the refusal that says 503. */
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
