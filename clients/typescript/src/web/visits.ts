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
   * @param authority - A client, or a function that makes one. The function is called with the
   * first visit. `close` closes only a client that the function made.
   * @param flow - The options of the app, or a `Flow` with its options.
   * @param now - The wall clock. Tests pass their own.
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
   * Returns true if this request was not met before. An app may use the same middleware twice for a
   * request, for all routes and in a router. Then there must be no second visit: its cookies would
   * be left out, because they would look like the app's own.
   */
  meets(request: object): boolean {
    if (this.#met.has(request)) return false;
    this.#met.add(request);
    return true;
  }

  /**
   * Opens the visit of a request, and asks the Session Authority about its token. Rejects with
   * CrossOrigin, InsecureHost, ReturnHop before it asks. If the Session Authority gave no answer,
   * the methods that use the session throw NoAnswer.
   */
  async open(request: RequestFacts): Promise<Visit> {
    const visit = new Visit(this.#context(), this.#presented(request));
    await visit.open();
    return visit;
  }

  /** Closes the client that the app's function made. The next visit would make another client. */
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
