/**
 * For Next.js 16 with the App Router, in the Node runtime.
 *
 *     // sessions.ts
 *     export const sessions = sessionAuthority(() => new SessionAuthority("…"), { devices: true });
 *     // proxy.ts
 *     export const proxy = sessions.proxy;
 *     // app/page.tsx
 *     const { userId } = await sessions.require(await headers(), { path: "/" });
 *
 * The proxy renews tokens: Server Components can't set cookies. Route handlers and server actions
 * sign users in and out. The edge runtime can't call the service: put `session-authority gateway`
 * in front of an app that runs there.
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

/** What Next.js does not tell, an app may. */
export interface NextOptions extends FlowOptions {
  /**
   * The address at the other end of a request's connection. Next.js does not tell it, so without
   * this function `trustedProxies: ["unix"]` says that `X-Forwarded-For` is believed.
   */
  readonly peer?: ((request: NextRequest) => string) | undefined;
}

/** A route handler with the visit of its request. */
export type RouteHandler<Context> = (
  request: NextRequest,
  visit: Visit,
  context: Context,
) => Response | Promise<Response>;

/** What a Server Component asks of the session. */
export interface PageRules extends SignInRules {
  /** The path of the page with its query, to which the user returns after the sign-in. */
  readonly path?: string;
}

/**
 * Makes the sessions of an app. `authority` is a client, or a function that makes one. Throws
 * TypeError and RangeError for wrong options.
 */
export function sessionAuthority(
  authority: Authority | (() => Authority),
  options: NextOptions = {},
): NextSessions {
  return new NextSessions(authority, options);
}

/** The sessions of an app. */
export class NextSessions {
  readonly #visits: Visits;
  readonly #peer: (request: NextRequest) => string;

  constructor(authority: Authority | (() => Authority), options: NextOptions) {
    this.#visits = new Visits(authority, options);
    this.#peer = options.peer ?? (() => "");
  }

  /**
   * The proxy of an app (`proxy.ts`): refuses forms of other origins, renews tokens, answers for
   * the page of devices. All else goes on, signed in or not: each page and route says what it
   * requires.
   */
  readonly proxy = (request: NextRequest): Promise<Response> =>
    serveFetch(this.#visits, request, { peer: this.#peer(request) }, async (visit) => {
      const renewed = await visit.close();
      if (renewed.length === 0) return NextResponse.next();
      // The page must see the new token, as the next request will bring it.
      const headers = new Headers(request.headers);
      headers.set("cookie", withCookies(headers.get("cookie") ?? "", renewed));
      return NextResponse.next({ request: { headers } });
    });

  /**
   * Makes a route handler (`route.ts`), such as one that signs in. Its response sets the cookies.
   */
  route<Context = unknown>(
    handler: RouteHandler<Context>,
  ): (request: NextRequest, context: Context) => Promise<Response> {
    return (request, context) =>
      serveFetch(this.#visits, request, { peer: this.#peer(request) }, (visit) =>
        handler(request, visit, context),
      );
  }

  /** The visit of the request that a Server Component renders for: `visit(await headers())`. */
  visit(headers: Headers, { path = "/" } = {}): Promise<Visit> {
    const lists: Record<string, readonly string[]> = {};
    for (const [name, value] of headers) lists[name] = [value];
    // Next.js fetches components by script, too. A refusal leads to a page in either case.
    lists["sec-fetch-mode"] = ["navigate"];
    lists["sec-fetch-site"] = ["same-origin"];
    return this.#visits.open({ method: "GET", headers: lists, peer: "", target: path });
  }

  /**
   * The session for a Server Component: `require(await headers(), { path: "/account" })`. Sends a
   * user without it to `signInUrl` as `redirect` does; throws NoAnswer if the session is unknown.
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
   * Does the work of a server action, such as a sign-in: `act((visit) => visit.signIn("ada"))`. The
   * response of the action sets the cookies of the visit, also if the work fails.
   *
   * A user who must sign in is sent to `signInUrl`, and from there back to `path`. Rejects with
   * NoAnswer if the session is unknown, and with every error of the work.
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

  /** Closes the client if it was made here. */
  close(): void {
    this.#visits.close();
  }
}

/** The error by which Next.js redirects, in place of a refusal that is a redirect. */
function redirected(error: unknown): unknown {
  if (!(error instanceof Refused) || error.answer.status !== 303) return error;
  const location = error.answer.headers.find(([name]) => name === "Location");
  try {
    redirect(location?.[1] ?? "/");
  } catch (redirection) {
    return redirection;
  }
}

/** Sets cookies in the response of a server action, by the store that Next.js has for them. */
async function keepCookies(lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  const carrier = new NextResponse();
  for (const line of lines) carrier.headers.append("set-cookie", line);
  const parsed = new NextResponse(null, { headers: carrier.headers }).cookies.getAll();
  const store = await cookies();
  for (const cookie of parsed) store.set(cookie);
}

/** A `Cookie` header after a browser has kept these `Set-Cookie` lines. */
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
