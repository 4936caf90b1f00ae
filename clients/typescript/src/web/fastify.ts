/**
 * Provides a plugin for Fastify 5.
 *
 *     await app.register(sessionAuthority, { authority: () => new SessionAuthority("…") });
 *     app.get("/", { preHandler: requireSession() }, (request) => request.visit.require().userId);
 *
 * Register this plugin before your routes. Register other plugins that add headers to every
 * response, such as CORS, before this plugin.
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
    /** The visit of this request, which says who is signed in, and signs users in and out. */
    visit: Visit;
  }
}

/** The options of the plugin. */
export interface FastifySessionOptions extends FlowOptions {
  /**
   * A client of the service, or a function that makes a client. When the Fastify app closes, the
   * plugin closes a client that this function made. You must close a client that you passed.
   */
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

/** The plugin, which adds `visit` to the requests of the whole app. */
export const sessionAuthority = Object.assign(plugin, {
  [Symbol.for("skip-override")]: true,
  [Symbol.for("fastify.display-name")]: "@session-authority/client",
});

/**
 * Makes a hook that admits only requests of signed-in users. `rules` can also require a recent or
 * strong sign-in. A refused request gets 401, a redirect to the sign-in page, or 503 if the service
 * gave no answer.
 */
export function requireSession(rules: SignInRules = {}): preHandlerAsyncHookHandler {
  stepUpOf(rules); // throws now, and not at the first request, if rules are invalid

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

/**
 * Wraps a route handler. If the handler throws the refusal of a visit, the wrapper sends the
 * refusal's answer, and Fastify logs no error.
 */
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
  // The body is sent as bytes, because Fastify would add a charset to the `Content-Type` of a
  // string.
  return reply.code(status).send(body === "" ? undefined : Buffer.from(body));
}
