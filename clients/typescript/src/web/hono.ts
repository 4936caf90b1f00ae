/**
 * Provides middleware for Hono on Node.
 *
 *     app.use(sessionAuthority(() => new SessionAuthority("…"), { signInUrl: "/sign-in" }));
 *     app.get("/", requireSession(), (c) => c.text(`Hello ${c.get("visit").require().userId}`));
 *
 * Use other middleware that adds headers to every response, such as CORS, before this middleware.
 */

import type { HttpBindings } from "@hono/node-server";
import type { Context, MiddlewareHandler } from "hono";

import type { Authority } from "./authority.js";
import { type Connection, responseOf, serveFetch } from "./fetch_exchange.js";
import { Refused } from "./responses.js";
import type { FlowOptions } from "./settings.js";
import { type SignInRules, stepUpOf } from "./step_up.js";
import type { Visit } from "./visit.js";
import { Visits } from "./visits.js";

export * from "./public.js";

declare module "hono" {
  interface ContextVariableMap {
    /** The visit of this request, which says who is signed in, and signs users in and out. */
    visit: Visit;
  }
}

/** The options of the middleware for Hono. */
export interface HonoOptions extends FlowOptions {
  /**
   * A function that returns the IP address at the other end of a request's connection. Only an app
   * that does not run on `@hono/node-server` needs this function. Default: the address that
   * `@hono/node-server` knows.
   */
  readonly peer?: ((context: Context) => string) | undefined;
}

/**
 * Makes the middleware, which sets `visit` in the context of a request. `authority` is a client of
 * the service, or a function that makes a client. Throws TypeError or RangeError for invalid
 * options.
 */
export function sessionAuthority(
  authority: Authority | (() => Authority),
  options: HonoOptions = {},
): MiddlewareHandler & { close(): void } {
  const visits = new Visits(authority, options);
  const middleware: MiddlewareHandler = async (context, next) => {
    if (!visits.meets(context.req.raw)) {
      await next();
      return;
    }
    const response = await serveFetch(
      visits,
      context.req.raw,
      connectionOf(context, options.peer),
      async (visit) => {
        context.set("visit", visit);
        await next(); // if the app threw an error, Hono has made a response of it
        return context.res;
      },
    );
    context.res = undefined; // else Hono adds the old response's headers to the new response
    context.res = response;
  };
  return Object.assign(middleware, {
    close: () => {
      visits.close();
    },
  });
}

/**
 * Makes middleware that admits only requests of signed-in users. `rules` can also require a recent
 * or strong sign-in. A refused request gets 401, a redirect to the sign-in page, or 503 if the
 * service gave no answer.
 */
export function requireSession(rules: SignInRules = {}): MiddlewareHandler {
  stepUpOf(rules); // throws now, and not at the first request, if rules are invalid
  return async (context, next) => {
    try {
      context.get("visit").require(rules);
    } catch (error) {
      if (error instanceof Refused) return responseOf(error.answer);
      throw error;
    }
    await next();
    return undefined;
  };
}

function connectionOf(context: Context, peer: HonoOptions["peer"]): Connection {
  const bindings = context.env as Partial<HttpBindings> | undefined;
  const incoming = bindings?.incoming;
  return {
    peer: peer?.(context) ?? incoming?.socket.remoteAddress ?? "",
    headers: incoming?.headersDistinct,
    before: new Headers(context.res.headers), // a copy, because the app changes the original
  };
}
