/** Opens the visits of an app, with the app's client or with a client from the app's function. */

import type { VisitContext } from "./admission.js";
import type { Authority } from "./authority.js";
import { Flow } from "./flow.js";
import { values } from "./headers.js";
import type { RequestFacts } from "./presented.js";
import { Renewals } from "./renewals.js";
import { InsecureHost } from "./responses.js";
import type { FlowOptions } from "./settings.js";
import { ThrottledLog } from "./throttled_log.js";
import { Visit } from "./visit.js";

const INSECURE =
  "Refused a request: insecure cookies are for http://localhost only. Open the app there, or " +
  "serve it over HTTPS without cookies: { insecure: true }. The host was";

/** Opens the visits of one app. */
export class Visits {
  readonly flow: Flow;
  readonly #given: Authority | (() => Authority);
  readonly #renewals = new Renewals();
  readonly #states: ThrottledLog;
  readonly #now: () => Date;
  readonly #met = new WeakSet();
  #made: Authority | undefined;

  /**
   * @param authority - A client of the service, or a function that makes a client. The first visit
   *   calls this function. `close` closes only a client that the function made.
   * @param flow - The options of the app, or a `Flow` that was made from them.
   * @param now - Returns the current time. Tests pass their own function.
   */
  constructor(
    authority: Authority | (() => Authority),
    flow: Flow | FlowOptions = {},
    now: () => Date = () => new Date(),
  ) {
    this.flow = flow instanceof Flow ? flow : new Flow(flow);
    this.#given = authority;
    this.#states = new ThrottledLog(this.flow.settings.log);
    this.#now = now;
  }

  /**
   * Returns true at the first call for a request, and false at each later call. An app may use the
   * same middleware twice for a request: for all routes, and again in a router. The request must
   * have only one visit.
   */
  meets(request: object): boolean {
    if (this.#met.has(request)) return false;
    this.#met.add(request);
    return true;
  }

  /**
   * Opens the visit of a request, and validates its token with the Session Authority. Rejects with
   * CrossOrigin, InsecureHost or ReturnHop if the middleware refuses the request, and does not call
   * the Session Authority for such a request. This method does not reject if the Session Authority
   * gives no answer. After such an outage, the visit's methods that use the session throw NoAnswer.
   */
  async open(request: RequestFacts): Promise<Visit> {
    const visit = new Visit(this.#context(), this.#presented(request));
    await visit.open();
    return visit;
  }

  /** Closes the client if the app's function made it. A later visit makes another client. */
  close(): void {
    this.#made?.close();
    this.#made = undefined;
  }

  #presented(request: RequestFacts) {
    try {
      return this.flow.presented(request);
    } catch (error) {
      if (error instanceof InsecureHost) {
        const host = values(request.headers, "host").join("").slice(0, 200);
        this.#states.error(INSECURE, JSON.stringify(host));
      }
      throw error;
    }
  }

  #context(): VisitContext {
    return {
      authority: this.#authority(),
      flow: this.flow,
      renewals: this.#renewals,
      states: this.#states,
      now: this.#now,
    };
  }

  #authority(): Authority {
    if (typeof this.#given !== "function") return this.#given;
    this.#made ??= this.#given();
    return this.#made;
  }
}
