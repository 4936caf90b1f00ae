/**
 * Makes the decisions about requests and responses that are the same for all frameworks. This
 * module does no I/O.
 *
 * A browser gets a device ID only together with a token. A browser that keeps back its cookies
 * (SameSite=Strict, after a click in a mail) may have a device ID already, and must not get another
 * one.
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
 * The request headers on which a response depends. The response names them in `Vary`, so that no
 * cache gives one user's page to another client. `X-Device-Id` is the default of `deviceHeader`. If
 * the app sets another header as `deviceHeader`, that header is not in this list.
 */
export const VARIES = ["Cookie", "Authorization", "X-Device-Id"] as const;
const MIN_RETRY_AFTER_MS = 1000;
const MAX_RETRY_AFTER_MS = 60_000;

/** Makes the decisions for one app, by the app's settings. */
export class Flow {
  readonly settings: Settings;
  readonly #cookies: Cookies;

  /** @throws TypeError or RangeError that names the invalid option. */
  constructor(options: FlowOptions = {}) {
    this.settings = settingsOf(options);
    this.#cookies = this.settings.cookies;
  }

  /**
   * Reads a request. Throws CrossOrigin, InsecureHost or ReturnHop if the request is refused (see
   * `presentedBy`).
   */
  presented(request: RequestFacts): Presented {
    return presentedBy(this.settings, request);
  }

  /**
   * Returns the value of the response's `Accept-CH` header, which asks a browser for client hints.
   * Returns an empty string if the request is not for a page over HTTPS, because browsers heed the
   * header only on such pages. `scheme` is the scheme of the connection to the app, "http" or
   * "https".
   */
  acceptCh({ method, headers, peer }: RequestFacts, scheme: string): string {
    const { settings } = this;
    if (!settings.proxies.isSecure(headers, peer, scheme)) return "";
    return wantsPage(method, headers) && !isApp(settings, headers) ? ACCEPT_CH : "";
  }

  /**
   * Returns the `Set-Cookie` headers of the response to a request without a good session. The
   * headers delete the cookies if the conduct for `status` is `wipe`. For another conduct, the list
   * of headers is empty.
   */
  afterDenial(presented: Presented, status: SessionStatus): string[] {
    if (CONDUCT[status] !== "wipe" || presented.app) return [];
    return this.#cookies.takeBack({ device: true, brief: presented.brief !== "" });
  }

  /**
   * Returns the `Set-Cookie` headers of a response after a renewal. If the session is good but
   * there is no new token, the list is empty: the browser keeps its cookies. If the session is not
   * good, returns the headers of `afterDenial`.
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
   * Returns the `Set-Cookie` headers of a response to a sign-in. If `remember` is false, the
   * browser forgets the token when the browser is closed.
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
   * Returns the `Set-Cookie` headers of a response to a sign-out. The browser keeps its device ID.
   * Without its device ID, its next sign-in would look like a sign-in on a new device.
   *
   * If the request has no token, the list is empty. The browser may have kept back a strict cookie
   * with the token, because another site sent the request. A request that another site sent must
   * not sign the user out.
   */
  afterSignOut(presented: Presented): string[] {
    if (presented.app || presented.status === "TOKEN_MISSING") return [];
    return this.#cookies.takeBack({ device: false, brief: presented.brief !== "" });
  }

  /**
   * Returns the refusal for a client that is not signed in: a redirect to `signInUrl` for a page,
   * else 401. The code of a 401 is `token_expired` if a mobile app must renew its token, else
   * `sign_in_required`. The client learns no other reason.
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
   * Returns the refusal for a session without the required sign-in: a redirect to `signInUrl` for a
   * page, else 401 in the form of RFC 9470. `lack` says in words what the session lacks.
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
   * Returns the refusal for an outage, with status 503. This status says nothing about the session,
   * so the client must keep its token and try again.
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
