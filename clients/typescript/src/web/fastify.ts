/**
 * A plugin for Fastify 5.
 *
 *     await app.register(sessionAuthority, { authority: () => new SessionAuthority("…") });
 *     app.get("/", { preHandler: requireSession() }, (request) => request.visit.require().userId);
 *
 * Register it before routes. Plugins that add headers to every response, such as CORS, come before
 * it.
 */

import type {
  FastifyInstance,
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
  preHandlerAsyncHookHandler,
  RouteHandlerMethod,
} from "fastify";

import type { Authority } from "./authority.js";
import { openVisit } from "./node_exchange.js";
import { type Answer, Refused } from "./responses.js";
import type { FlowOptions } from "./settings.js";
import { type SignInRules, stepUpOf } from "./step_up.js";
import type { Visit } from "./visit.js";
import { Visits } from "./visits.js";

export * from "./public.js";

declare module "fastify" {
  interface FastifyRequest {
    /** Who is signed in, and signing in and out. */
    visit: Visit;
  }
}

/** The options of the plugin. */
export interface FastifySessionOptions extends FlowOptions {
  /** A client, or a function that makes one. Only a client that it makes is closed with the app. */
  readonly authority: Authority | (() => Authority);
}

const plugin: FastifyPluginAsync<FastifySessionOptions> = (app, { authority, ...flow }) => {
  const visits = new Visits(authority, flow);
  app.decorateRequest("visit", null as unknown as Visit);
  app.addHook("onRequest", async (request, reply) => {
    const visit = await openVisit(visits, request.raw, reply.raw);
    if (visit === undefined) reply.hijack();
    else request.visit = visit;
  });
  app.addHook("onRoute", (route) => {
    route.handler = answersRefusals(route.handler);
  });
  app.addHook("onClose", () => {
    visits.close();
    return Promise.resolve();
  });
  return Promise.resolve();
};

/** Gives each request its `visit`, in the whole app. */
export const sessionAuthority = Object.assign(plugin, {
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "@session-authority/client",
});

/**
 * Makes a hook that lets only users through who are signed in, recently or strongly enough if the
 * rules say so. All others are answered: 401, the way to the sign-in, or 503.
 */
export function requireSession(rules: SignInRules = {}): preHandlerAsyncHookHandler {
  stepUpOf(rules); // a mistake shows before the first request

  return async (request, reply) => {
    try {
      request.visit.require(rules);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return send(reply, error.answer);
    }
    return undefined;
  };
}

/** A handler that sends what a visit refuses, instead of an error for the log. */
function answersRefusals(handler: RouteHandlerMethod): RouteHandlerMethod {
  return function answered(this: FastifyInstance, request: FastifyRequest, reply: FastifyReply) {
    const refused = (error: unknown) => {
      if (error instanceof Refused && !reply.sent) return send(reply, error.answer);
      throw error;
    };
    try {
      const result = handler.call(this, request, reply);
      return result instanceof Promise ? result.catch(refused) : result;
    } catch (error) {
      return refused(error);
    }
  };
}

function send(reply: FastifyReply, { status, headers, body }: Answer): FastifyReply {
  for (const [name, value] of headers) void reply.header(name, value);
  // To text Fastify adds a charset.
  return reply.code(status).send(body === "" ? undefined : Buffer.from(body));
}
