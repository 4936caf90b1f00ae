/**
 * Middleware for Hono on Node.
 *
 *     app.use(sessionAuthority(() => new SessionAuthority("…"), { signInUrl: "/sign-in" }));
 *     app.get("/", requireSession(), (c) => c.text(`Hello ${c.get("visit").require().userId}`));
 *
 * Middleware that adds headers to every response, such as CORS, comes before it.
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
    /** Who is signed in, and signing in and out. */
    visit: Visit;
  }
}

/** What Hono's server does not tell, an app may. */
export interface HonoOptions extends FlowOptions {
  /**
   * The address at the other end of a request's connection. Told by `@hono/node-server`, unless
   * another server carries the app.
   */
  readonly peer?: ((context: Context) => string) | undefined;
}

/**
 * Makes the middleware, which sets the `visit` of each request. `authority` is a client, or a
 * function that makes one. Throws TypeError and RangeError for wrong options.
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
        await next(); // an error of the app is a response by now
        return context.res;
      },
    );
    context.res = undefined; // else Hono joins its headers with those of the new response
    context.res = response;
  };
  return Object.assign(middleware, {
    close: () => {
      visits.close();
    },
  });
}

/**
 * Makes middleware that lets only users through who are signed in, recently or strongly enough if
 * the rules say so. All others are answered: 401, the way to the sign-in, or 503.
 */
export function requireSession(rules: SignInRules = {}): MiddlewareHandler {
  stepUpOf(rules); // a mistake shows before the first request
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
    before: new Headers(context.res.headers), // as this is the object that the app adds to
  };
}
