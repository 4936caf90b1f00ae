/**
 * The decisions of all middleware about requests and responses, without any I/O.
 *
 * A device ID is handed out only together with a token. A browser that holds its cookies back
 * (SameSite=Strict, after a click in a mail) must not get a new ID in place of its own.
 */

import type { SessionAuthorityError } from "../errors.js";
import type { IssuedDevice, Renewal, SessionStatus } from "../types.js";
import { ACCEPT_CH } from "./client_hints.js";
import { CONDUCT } from "./conduct.js";
import type { Cookies } from "./cookies.js";
import { withNext, withQuery } from "./local_paths.js";
import { wantsPage } from "./navigation.js";
import { isApp, type Presented, presentedBy, type RequestFacts, wayBack } from "./presented.js";
import { NoAnswer, redirect, refusal, SignInRequired, StepUpRequired } from "./responses.js";
import { type FlowOptions, type Settings, settingsOf } from "./settings.js";
import { maxAgeSecondsOf, type StepUp, stepUpQuery } from "./step_up.js";

/**
 * The request headers on which a response depends. With them in `Vary`, no cache gives one user's
 * page to another client. `X-Device-Id` is the default of `deviceHeader`. If the app sets another
 * header, that header is not in this list.
 */
export const VARIES = ["Cookie", "Authorization", "X-Device-Id"] as const;
const MIN_RETRY_AFTER_MS = 1000;
const MAX_RETRY_AFTER_MS = 60_000;

/** The decisions of one app, by its settings. */
export class Flow {
  readonly settings: Settings;
  readonly #cookies: Cookies;

  /** @throws TypeError and RangeError that name the wrong option. */
  constructor(options: FlowOptions = {}) {
    this.settings = settingsOf(options);
    this.#cookies = this.settings.cookies;
  }

  /** Reads a request. Throws CrossOrigin, InsecureHost, ReturnHop. */
  presented(request: RequestFacts): Presented {
    return presentedBy(this.settings, request);
  }

  /**
   * Returns the `Accept-CH` header of the response, which asks a browser for client hints. Returns
   * an empty string if there is none: browsers heed it only on pages over HTTPS. `scheme` is the
   * scheme of the connection, "http" or "https".
   */
  acceptCh({ method, headers, peer }: RequestFacts, scheme: string): string {
    const { settings } = this;
    if (!settings.proxies.isSecure(headers, peer, scheme)) return "";
    return wantsPage(method, headers) && !isApp(settings, headers) ? ACCEPT_CH : "";
  }

  /** Returns the `Set-Cookie` headers of a response whose request has no good session. */
  afterDenial(presented: Presented, status: SessionStatus): string[] {
    if (CONDUCT[status] !== "wipe" || presented.app) return [];
    return this.#cookies.takeBack({ device: true, brief: presented.brief !== "" });
  }

  /**
   * Returns the `Set-Cookie` headers of a response to a renewal. If the session is good, but the
   * token is not new, the list is empty: the browser keeps its cookies. If the session is not good,
   * the headers are those of `afterDenial`.
   */
  afterRenewal(presented: Presented, renewal: Renewal, now: Date): string[] {
    if (!isActive(renewal)) return this.afterDenial(presented, renewal.status);
    const { session, accessToken } = renewal;
    if (presented.app || accessToken === undefined || session === undefined) return [];
    return this.#cookies.handOut({
      token: accessToken,
      deviceId: session.deviceId,
      end: session.absoluteExpireTime ?? session.expireTime,
      now,
      brief: presented.brief === session.sessionId ? session.sessionId : "",
    });
  }

  /**
   * Returns the `Set-Cookie` headers of a response to a sign-in. If not `remember`, the browser
   * forgets the token when it is closed.
   */
  afterSignIn(
    presented: Presented,
    issued: IssuedDevice,
    now: Date,
    { remember = true } = {},
  ): string[] {
    if (presented.app) return [];
    const { device, accessToken, tokenExpireTime } = issued;
    return this.#cookies.handOut({
      token: accessToken,
      deviceId: device.deviceId,
      end: device.absoluteExpireTime ?? device.expireTime ?? tokenExpireTime,
      now,
      brief: remember ? "" : device.sessionId,
    });
  }

  /**
   * Returns the `Set-Cookie` headers of a response to a sign-out. The browser keeps its device ID:
   * else its next sign-in would look like a stranger's.
   *
   * A browser that did not send its strict cookies keeps its token: a form that another site sends
   * here must not sign the end user out.
   */
  afterSignOut(presented: Presented): string[] {
    if (presented.app || presented.status === "TOKEN_MISSING") return [];
    return this.#cookies.takeBack({ device: false, brief: presented.brief !== "" });
  }

  /**
   * Returns the refusal for a client that is not signed in: 401, or a redirect for a page. With 401
   * the code is `token_expired` if the app must renew its token itself, else `sign_in_required`. No
   * client learns any other reason.
   */
  signInRequired(
    presented: Presented,
    status: SessionStatus,
    { renewRecommended = false } = {},
  ): SignInRequired {
    const { signInUrl } = this.settings;
    if (signInUrl !== undefined && presented.page) {
      const url = withNext(signInUrl, wayBack(presented));
      return new SignInRequired("sign_in_required", redirect(url));
    }
    const renews = renewRecommended || CONDUCT[status] === "renew";
    const code = renews ? "token_expired" : "sign_in_required";
    const headers = [["WWW-Authenticate", "Bearer"]] as const;
    return new SignInRequired(code, refusal(401, code, { headers }));
  }

  /**
   * Returns the refusal for a session without the required sign-in: 401 by RFC 9470, or a redirect
   * for a page. `lack` says in words what the session lacks.
   */
  stepUpRequired(presented: Presented, wanted: StepUp, lack: string): StepUpRequired {
    const code = "insufficient_user_authentication";
    const { signInUrl } = this.settings;
    if (signInUrl !== undefined && presented.page) {
      const url = withQuery(withNext(signInUrl, wayBack(presented)), stepUpQuery(wanted));
      return new StepUpRequired(code, redirect(url), wanted);
    }
    const seconds = maxAgeSecondsOf(wanted);
    const age = seconds === undefined ? "" : `, max_age="${seconds}"`;
    const challenge = `Bearer error="${code}", error_description="${lack}"${age}`;
    const answer = refusal(401, code, {
      headers: [["WWW-Authenticate", challenge]],
      more: {
        ...(seconds === undefined ? {} : { max_age: seconds }),
        ...(wanted.authMethods.length === 0 ? {} : { auth_methods: wanted.authMethods }),
      },
    });
    return new StepUpRequired(code, answer, wanted);
  }

  /**
   * Returns the refusal for an outage: 503. It says nothing about the session, so the client keeps
   * its token and tries again.
   */
  noAnswer(presented: Presented, error: SessionAuthorityError): NoAnswer {
    const wanted = error.retryAfterMs ?? MIN_RETRY_AFTER_MS;
    const waitMs = Math.min(Math.max(wanted, MIN_RETRY_AFTER_MS), MAX_RETRY_AFTER_MS);
    const answer = refusal(503, "unavailable", {
      headers: [["Retry-After", String(Math.ceil(waitMs / 1000))]],
      page: presented.page,
      text: presented.repeatable ? "unavailable" : "unavailable_for_form",
    });
    return new NoAnswer("unavailable", answer, { cause: error });
  }
}

/** Returns true if a renewal says that the session is good. */
export function isActive(renewal: Renewal): boolean {
  return renewal.status === "ACTIVE" && renewal.session !== undefined;
}
