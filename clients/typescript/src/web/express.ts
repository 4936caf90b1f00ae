/**
 * Middleware for Express 5, and for all that takes `(request, response, next)` of `node:http`.
 *
 *     app.use(sessionAuthority(() => new SessionAuthority("…"), { signInUrl: "/sign-in" }));
 *     app.get("/", requireSession(), (request, response) => {
 *       response.send(`Hello ${request.visit.require().userId}`);
 *     });
 *
 * Use it before parsers of contents and before routes. Middleware that adds headers to every
 * response, such as CORS, comes before it.
 */

import type { ServerResponse } from "node:http";

import type { Authority } from "./authority.js";
import { type NodeRequest, openVisit } from "./node_exchange.js";
import { sendAnswer } from "./node_response.js";
import { Refused } from "./responses.js";
import type { FlowOptions } from "./settings.js";
import { type SignInRules, stepUpOf } from "./step_up.js";
import type { Visit } from "./visit.js";
import { Visits } from "./visits.js";

export * from "./public.js";

declare global {
  // eslint-disable-next-line @typescript-eslint/no-namespace -- this is how Express is extended
  namespace Express {
    interface Request {
      /** Who is signed in, and signing in and out. */
      visit: Visit;
    }
  }
}

/** A request that has its visit. */
export type VisitRequest = NodeRequest & { visit: Visit };
/** Goes on with the next middleware, or with an error. */
export type Next = (error?: unknown) => void;

/** The middleware, and the end of the client that it made. */
export interface SessionMiddleware {
  (request: NodeRequest, response: ServerResponse, next: Next): void;
  /** Closes the client if `sessionAuthority` was given a function that makes it. */
  close(): void;
}

/**
 * Makes the middleware, which gives each request its `visit`. `authority` is a client, or a
 * function that makes one. Throws TypeError and RangeError for wrong options.
 */
export function sessionAuthority(
  authority: Authority | (() => Authority),
  options: FlowOptions = {},
): SessionMiddleware {
  const visits = new Visits(authority, options);
  const middleware = (request: NodeRequest, response: ServerResponse, next: Next): void => {
    if (!visits.meets(request)) {
      next();
      return;
    }
    openVisit(visits, request, response).then(
      (visit) => {
        if (visit === undefined) return;
        (request as VisitRequest).visit = visit;
        next();
      },
      (error: unknown) => {
        next(error);
      },
    );
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
export function requireSession(
  rules: SignInRules = {},
): (request: NodeRequest, response: ServerResponse, next: Next) => void {
  stepUpOf(rules); // a mistake shows before the first request
  return (request, response, next) => {
    try {
      visitOf(request).require(rules);
    } catch (error) {
      answerRefusals(error, request, response, next);
      return;
    }
    next();
  };
}

/** The visit of a request. Throws if the middleware is not in front. */
export function visitOf(request: NodeRequest): Visit {
  const { visit } = request as Partial<VisitRequest>;
  if (visit === undefined) throw new Error("use sessionAuthority() before this");
  return visit;
}

/**
 * Error middleware that sends what a visit refused, with `app.use` behind all routes. Without it
 * clients get the same, but Express writes each refusal to the log as an error.
 */
export function answerRefusals(
  error: unknown,
  _request: NodeRequest,
  response: ServerResponse,
  next: Next,
): void {
  if (error instanceof Refused && !response.headersSent) sendAnswer(response, error.answer);
  else next(error);
}
