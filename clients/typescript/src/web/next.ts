/**
 * Provides sessions for Next.js 16 with the App Router, in the Node runtime.
 *
 *     // sessions.ts
 *     export const sessions = sessionAuthority(() => new SessionAuthority("…"), { devices: true });
 *     // proxy.ts
 *     export const proxy = sessions.proxy;
 *     // app/page.tsx
 *     const { userId } = await sessions.require(await headers(), { path: "/" });
 *
 * The proxy renews tokens, because Server Components can't set cookies. Route handlers and server
 * actions sign users in and out. The edge runtime can't call the service. If your app runs in the
 * edge runtime, put `session-authority gateway` in front of the app.
 */

import { cookies, headers as requestHeaders } from "next/headers.js";
import { redirect } from "next/navigation.js";
import { type NextRequest, NextResponse } from "next/server.js";

import type { Session } from "../types.js";
import type { Authority } from "./authority.js";
import { serveFetch } from "./fetch_exchange.js";
import { Refused } from "./responses.js";
import type { FlowOptions } from "./settings.js";
import type { SignInRules } from "./step_up.js";
import type { Visit } from "./visit.js";
import { Visits } from "./visits.js";

export * from "./public.js";

/** The options of `sessionAuthority` for Next.js. */
export interface NextOptions extends FlowOptions {
  /**
   * A function that returns the IP address at the other end of a request's connection. Next.js does
   * not give this address to an app. Without this function, the connection counts as a unix socket:
   * the app believes `X-Forwarded-For` if `trustedProxies` contains "unix".
   */
  readonly peer?: ((request: NextRequest) => string) | undefined;
}

/** A route handler that also gets the visit of its request. */
export type RouteHandler<Context> = (
  request: NextRequest,
  visit: Visit,
  context: Context,
) => Response | Promise<Response>;

/** The sign-in that a Server Component requires, and the path to which the user returns. */
export interface PageRules extends SignInRules {
  /** The path of the page with its query. The user returns to this path after the sign-in. */
  readonly path?: string;
}

/**
 * Makes the object that handles the sessions of an app. `authority` is a client of the service, or
 * a function that makes a client. Throws TypeError or RangeError for invalid options.
 */
export function sessionAuthority(
  authority: Authority | (() => Authority),
  options: NextOptions = {},
): NextSessions {
  return new NextSessions(authority, options);
}

/** Handles the sessions of an app in its proxy, pages, route handlers and server actions. */
export class NextSessions {
  readonly #visits: Visits;
  readonly #peer: (request: NextRequest) => string;

  constructor(authority: Authority | (() => Authority), options: NextOptions) {
    this.#visits = new Visits(authority, options);
    this.#peer = options.peer ?? (() => "");
  }

  /**
   * The proxy function of an app, for `proxy.ts`. The proxy renews tokens, serves the page of
   * devices, and refuses forms that pages of other origins send. The proxy passes requests on even
   * if nobody is signed in, so each page and route must itself require a session.
   */
  readonly proxy = (request: NextRequest): Promise<Response> =>
    serveFetch(this.#visits, request, { peer: this.#peer(request) }, async (visit) => {
      const renewed = await visit.close();
      if (renewed.length === 0) return NextResponse.next();
      // The page must get the new token, as if the browser had already sent it.
      const headers = new Headers(request.headers);
      headers.set("cookie", withCookies(headers.get("cookie") ?? "", renewed));
      return NextResponse.next({ request: { headers } });
    });

  /**
   * Makes a route handler for `route.ts`, such as a handler that signs users in. The handler's
   * response sets the cookies of the visit.
   */
  route<Context = unknown>(
    handler: RouteHandler<Context>,
  ): (request: NextRequest, context: Context) => Promise<Response> {
    return (request, context) =>
      serveFetch(this.#visits, request, { peer: this.#peer(request) }, (visit) =>
        handler(request, visit, context),
      );
  }

  /**
   * Opens the visit of a request for a Server Component: `visit(await headers())`. `path` is the
   * path of the page with its query.
   */
  visit(headers: Headers, { path = "/" } = {}): Promise<Visit> {
    const lists: Record<string, readonly string[]> = {};
    for (const [name, value] of headers) lists[name] = [value];
    // Next.js also requests components with a script. The two headers make such a request look like
    // a request for a page, so that a refusal can redirect the user to the sign-in page.
    lists["sec-fetch-mode"] = ["navigate"];
    lists["sec-fetch-site"] = ["same-origin"];
    return this.#visits.open({ method: "GET", headers: lists, peer: "", target: path });
  }

  /**
   * Resolves to the session for a Server Component: `require(await headers(), { path: "/account"
   * })`. This method redirects a user who must sign in to `signInUrl`, as `redirect` of Next.js
   * does. Rejects with SignInRequired if there is no `signInUrl`, and with NoAnswer if the service
   * gave no answer.
   */
  async require(headers: Headers, { path, ...rules }: PageRules = {}): Promise<Session> {
    const visit = await this.visit(headers, path === undefined ? {} : { path });
    try {
      return visit.require(rules);
    } catch (error) {
      throw redirected(error);
    } finally {
      visit.leave();
    }
  }

  /**
   * Runs `work`, the work of a server action, such as a sign-in: `act((visit) =>
   * visit.signIn("ada"))`. The response of the action sets the cookies of the visit, even if `work`
   * fails.
   *
   * A user who must sign in is redirected to `signInUrl`, and returns to `path` after the sign-in.
   * Rejects with NoAnswer if the service gave no answer, and with every other error of `work`.
   */
  async act<Result>(
    work: (visit: Visit) => Result | Promise<Result>,
    { path = "/" } = {},
  ): Promise<Result> {
    const visit = await this.visit(await requestHeaders(), { path });
    try {
      return await work(visit);
    } catch (error) {
      throw redirected(error);
    } finally {
      await keepCookies(await visit.close());
      visit.leave();
    }
  }

  /** Closes the client if the app's function made it. A client that the app passed stays open. */
  close(): void {
    this.#visits.close();
  }
}

/**
 * Returns the error by which Next.js redirects if `error` is a refusal with a redirect. Else
 * returns `error` itself.
 */
function redirected(error: unknown): unknown {
  if (!(error instanceof Refused) || error.answer.status !== 303) return error;
  const location = error.answer.headers.find(([name]) => name === "Location");
  try {
    redirect(location?.[1] ?? "/");
  } catch (redirection) {
    return redirection;
  }
}

/** Sets cookies in the response of a server action, through the cookie store of Next.js. */
async function keepCookies(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  const carrier = new NextResponse();
  for (const line of lines) carrier.headers.append("set-cookie", line);
  const parsed = new NextResponse(null, { headers: carrier.headers }).cookies.getAll();
  const store = await cookies();
  for (const cookie of parsed) store.set(cookie);
}

/** Returns the `Cookie` header that a browser sends after it has got these `Set-Cookie` lines. */
function withCookies(cookie: string, lines: readonly string[]): string {
  const kept = new Map<string, string>();
  for (const pair of cookie.split(";")) {
    const at = pair.indexOf("=");
    if (at >= 0) kept.set(pair.slice(0, at).trim(), pair.slice(at + 1).trim());
  }
  for (const line of lines) {
    const [pair = ""] = line.split(";", 1);
    const at = pair.indexOf("=");
    if (at === pair.length - 1) kept.delete(pair.slice(0, at));
    else kept.set(pair.slice(0, at), pair.slice(at + 1));
  }
  return [...kept].map(([name, value]) => `${name}=${value}`).join("; ");
}
