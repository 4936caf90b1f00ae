/**
 * Provides middleware for Express 5, and for every framework whose middleware has the arguments
 * `(request, response, next)` with the request and the response of `node:http`.
 *
 *     app.use(sessionAuthority(() => new SessionAuthority("…"), { signInUrl: "/sign-in" }));
 *     app.get("/", requireSession(), (request, response) => {
 *       response.send(`Hello ${request.visit.require().userId}`);
 *     });
 *
 * Use this middleware before body parsers and before routes. Use other middleware that adds headers
 * to every response, such as CORS, before this middleware.
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
  // eslint-disable-next-line @typescript-eslint/no-namespace -- this namespace extends Express
  namespace Express {
    interface Request {
      /** The visit of this request, which says who is signed in, and signs users in and out. */
      visit: Visit;
    }
  }
}

/** A request to which the middleware has added its visit. */
export type VisitRequest = NodeRequest & { visit: Visit };
/** A function that calls the next middleware, or passes an error to the error middleware. */
export type Next = (error?: unknown) => void;

/** The middleware, with a method that closes its client. */
export interface SessionMiddleware {
  (request: NodeRequest, response: ServerResponse, next: Next): void;
  /** Closes the client if the app's function made it. A client that the app passed stays open. */
  close(): void;
}

/**
 * Makes the middleware, which adds `visit` to a request. `authority` is a client of the service, or
 * a function that makes a client. Throws TypeError or RangeError for invalid options.
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
 * Makes middleware that admits only requests of signed-in users. `rules` can also require a recent
 * or strong sign-in. A refused request gets 401, a redirect to the sign-in page, or 503 if the
 * service gave no answer.
 */
export function requireSession(
  rules: SignInRules = {},
): (request: NodeRequest, response: ServerResponse, next: Next) => void {
  stepUpOf(rules); // throws now, and not at the first request, if rules are invalid
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

/**
 * Returns the visit of a request. Throws Error if the request did not go through the middleware of
 * `sessionAuthority` before.
 */
export function visitOf(request: NodeRequest): Visit {
  const { visit } = request as Partial<VisitRequest>;
  if (visit === undefined) throw new Error("use sessionAuthority() before this");
  return visit;
}

/**
 * Sends the answer of a visit's refusal, and passes any other error to `next`. Add this error
 * middleware with `app.use` after all routes. Without this function, clients get the same answers,
 * but Express logs each refusal as an error.
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
