/**
 * Middleware for Express 5, and for every framework whose middleware has the arguments
 * `(request, response, next)` of `node:http`.
 *
 *     app.use(sessionAuthority(() => new SessionAuthority("…"), { signInUrl: "/sign-in" }));
 *     app.get("/", requireSession(), (request, response) => {
 *       response.send(`Hello ${request.visit.require().userId}`);
 *     });
 *
 * Use it before body parsers and before routes. Use middleware that adds headers to every response,
 * such as CORS, before it.
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
      /** The visit: says who is signed in, and signs users in and out. */
      visit: Visit;
    }
  }
}

/** A request that has its visit. */
export type VisitRequest = NodeRequest & { visit: Visit };
/** Calls the next middleware, or passes an error to the error middleware. */
export type Next = (error?: unknown) => void;

/** The middleware, with a method that closes its client. */
export interface SessionMiddleware {
  (request: NodeRequest, response: ServerResponse, next: Next): void;
  /** Closes the client if `sessionAuthority` got a function that makes the client. */
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
 * Makes middleware that admits only requests of users who are signed in. The rules can also require
 * a recent or strong sign-in. Any other request gets 401, a redirect to the sign-in page, or 503.
 */
export function requireSession(
  rules: SignInRules = {},
): (request: NodeRequest, response: ServerResponse, next: Next) => void {
  stepUpOf(rules); // throws for invalid rules before the first request
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

/** Returns the visit of a request. Throws an Error if the middleware did not run before. */
export function visitOf(request: NodeRequest): Visit {
  const { visit } = request as Partial<VisitRequest>;
  if (visit === undefined) throw new Error("use sessionAuthority() before this");
  return visit;
}

/**
 * Error middleware that sends the answer to a refusal of a visit. Add it with `app.use` after all
 * routes. Without it, clients get the same answers, but Express logs each refusal as an error.
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
