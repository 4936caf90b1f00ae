/** Opens the visits of an app, over a client of its own or the app's. */

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
   * @param authority - A client, or a function that makes one, called with the first visit. `close`
   * closes only a client that the function made.
   * @param flow - How the app wants it.
   * @param now - The wall clock, for tests.
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
   * Whether a request comes for the first time. An app may use one middleware twice on its way, for
   * all routes and in a router: a second visit's cookies would be left out as the app's own.
   */
  meets(request: object): boolean {
    if (this.#met.has(request)) return false;
    this.#met.add(request);
    return true;
  }

  /**
   * Opens the visit of a request, and asks the Session Authority about its token. Rejects with
   * CrossOrigin, InsecureHost, ReturnHop before it asks. An outage is thrown by the code that looks
   * at the session.
   */
  async open(request: RequestFacts): Promise<Visit> {
    const visit = new Visit(this.#context(), this.#presented(request));
    await visit.open();
    return visit;
  }

  /** Closes the client that it made. Another visit would make another one. */
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
