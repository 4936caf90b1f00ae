/**
 * Guards a response of `node:http`. The guard replaces the methods by which an app sends the
 * response. When the app sends the headers, by any of these methods, the guard adds the visit's
 * cookies. If a framework answered a refusal with an error that the app did not choose, the guard
 * sends the refusal's answer instead.
 *
 * The visit may renew the token before the headers are sent. During the renewal the response waits,
 * and the guard queues the app's calls in their order.
 */

import type { OutgoingHttpHeaders, ServerResponse } from "node:http";

import { dressHeaders, isEventStream, type OutgoingHeaders } from "./outgoing.js";
import { isChosen } from "./refusals.js";
import type { Answer, Refused } from "./responses.js";
import type { Visit } from "./visit.js";

type Callback = () => void;

/** Sends an answer as the whole response. */
export function sendAnswer(response: ServerResponse, { status, headers, body }: Answer): void {
  response.statusCode = status;
  for (const [name, value] of headers) response.setHeader(name, value);
  response.end(body);
}

/**
 * Guards this response. Headers that were set before this call stay, even if the guard sends the
 * answer of a refusal.
 */
export function guardResponse(response: ServerResponse, visit: Visit, acceptCh: string): void {
  new GuardedResponse(response, visit, acceptCh);
}

/**
 * The state of a guarded response. `open`: the headers are not complete yet. `held`: a renewal is
 * under way, and the app's calls wait in the queue. `passing`: the guard passes the app's calls to
 * the response. `over`: the guard ignores the app's calls.
 */
type State = "open" | "held" | "passing" | "over";

class GuardedResponse {
  readonly #response: ServerResponse;
  readonly #visit: Visit;
  readonly #acceptCh: string;
  readonly #before: OutgoingHttpHeaders;
  readonly #writeHead: ServerResponse["writeHead"];
  readonly #write: ServerResponse["write"];
  readonly #end: ServerResponse["end"];
  readonly #flushHeaders: ServerResponse["flushHeaders"];
  #state: State = "open";
  #queue: Callback[] = [];
  #endIsQueued = false;
  #needsDrain = false;

  constructor(response: ServerResponse, visit: Visit, acceptCh: string) {
    this.#response = response;
    this.#visit = visit;
    this.#acceptCh = acceptCh;
    this.#before = { ...response.getHeaders() };
    /* eslint-disable @typescript-eslint/unbound-method -- each is called with the response */
    this.#writeHead = response.writeHead;
    this.#write = response.write;
    this.#end = response.end;
    this.#flushHeaders = response.flushHeaders;
    /* eslint-enable @typescript-eslint/unbound-method */
    response.writeHead = (...given: unknown[]) => this.writeHead(given);
    response.write = ((...given: unknown[]) => this.write(given)) as never;
    response.end = ((...given: unknown[]) => this.end(given)) as never;
    response.flushHeaders = () => {
      this.flushHeaders();
    };
    // The client may have closed the connection while the visit called the service.
    if (response.closed) visit.leave();
    else {
      response.once("close", () => {
        visit.leave();
      });
    }
  }

  writeHead(given: unknown[]): ServerResponse {
    const response = this.#response;
    if (this.#state === "passing") {
      return Reflect.apply(this.#writeHead, response, given) as ServerResponse;
    }
    if (this.#state === "over") return response;
    const [status, reason, headers] = headOf(given);
    response.statusCode = status;
    if (reason !== undefined) response.statusMessage = reason;
    setAll(response, headers);
    this.#go(() => Reflect.apply(this.#writeHead, response, [response.statusCode]) as unknown);
    return response;
  }

  write(given: unknown[]): boolean {
    const response = this.#response;
    if (this.#state === "over") {
      later(given);
      return true;
    }
    let written = true;
    const passed = this.#go(() => {
      written = Reflect.apply(this.#write, response, given) as boolean;
    });
    if (passed) return written;
    if (this.#isHeld()) this.#needsDrain = true;
    return !this.#needsDrain;
  }

  end(given: unknown[]): ServerResponse {
    const response = this.#response;
    if (this.#state === "over") later(given);
    else {
      const passed = this.#go(() => Reflect.apply(this.#end, response, given) as unknown);
      if (!passed) this.#endIsQueued = this.#isHeld();
    }
    return response;
  }

  flushHeaders(): void {
    if (this.#state === "over") return;
    this.#go(() => {
      Reflect.apply(this.#flushHeaders, this.#response, []);
    });
  }

  // This check is a method, because the compiler does not see that `#go` changes `#state`.
  #isHeld(): boolean {
    return this.#state === "held";
  }

  /**
   * Runs `act`, a call of the app, as soon as the headers are complete. Returns true if `act` has
   * run now. Returns false if `act` waits in the queue, or is ignored.
   */
  #go(act: Callback): boolean {
    if (this.#state === "open") this.#decide();
    if (this.#state === "held") this.#queue.push(act);
    if (this.#state !== "passing") return false;
    act();
    return true;
  }

  #decide(): void {
    const response = this.#response;
    const refused = this.#visit.takeRefusal();
    const replaced = refused && !isChosen(response.statusCode, refused) ? refused : undefined;
    const cookies = this.#visit.close();
    if (Array.isArray(cookies)) {
      this.#release(cookies as readonly string[], replaced);
      return;
    }
    this.#hold();
    (cookies as Promise<readonly string[]>)
      .then((lines) => {
        this.#unhold();
        this.#release(lines, replaced);
        this.#drain();
      })
      .catch((error: unknown) => {
        // The renewal failed unexpectedly, or Node refused a queued call of the app.
        this.#state = "over";
        response.destroy(error instanceof Error ? error : new Error("a renewal failed"));
      });
  }

  #release(cookies: readonly string[], replaced: Refused | undefined): void {
    const response = this.#response;
    const headers = new NodeHeaders(response);
    if (replaced !== undefined) this.#replaceHead(replaced.answer);
    const [acceptCh, exchange] = [this.#acceptCh, response];
    dressHeaders(headers, this.#visit, cookies, { acceptCh, exchange });
    this.#state = "passing";
    if (replaced !== undefined) {
      Reflect.apply(this.#end, response, [replaced.answer.body]);
      this.#state = "over";
    } else if (isEventStream(headers)) {
      this.#visit.hangUpAtEnd(() => {
        this.#state = "over";
        this.#finish();
      });
    }
  }

  /**
   * Ends the body of an event stream, because its session has ended. Later writes of the app are
   * ignored.
   */
  #finish(): void {
    const response = this.#response;
    response.writeHead = this.#writeHead;
    if (!response.writableEnded) Reflect.apply(this.#end, response, []);
  }

  #replaceHead({ status, headers }: Answer): void {
    const response = this.#response;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    for (const [name, value] of Object.entries(this.#before)) {
      if (value !== undefined) response.setHeader(name, value);
    }
    response.statusCode = status;
    response.statusMessage = "";
    for (const [name, value] of headers) response.setHeader(name, value);
  }

  /**
   * Holds the response during a renewal. Makes frameworks believe that the response has begun, so
   * that they don't send another response.
   */
  #hold(): void {
    this.#state = "held";
    const get = (of: () => boolean) => ({ configurable: true, get: of });
    Object.defineProperty(
      this.#response,
      "headersSent",
      get(() => true),
    );
    Object.defineProperty(
      this.#response,
      "writableEnded",
      get(() => this.#endIsQueued),
    );
  }

  #unhold(): void {
    Reflect.deleteProperty(this.#response, "headersSent");
    Reflect.deleteProperty(this.#response, "writableEnded");
  }

  #drain(): void {
    const queue = this.#queue;
    this.#queue = [];
    if (this.#state === "passing") for (const act of queue) act();
    if (this.#needsDrain) this.#response.emit("drain");
  }
}

class NodeHeaders implements OutgoingHeaders {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  names(): readonly string[] {
    return this.#response.getHeaderNames();
  }

  values(name: string): readonly string[] {
    const value = this.#response.getHeader(name);
    if (value === undefined) return [];
    return Array.isArray(value) ? value : [String(value)];
  }

  set(name: string, values: readonly string[]): void {
    const [only = "", ...more] = values;
    this.#response.setHeader(name, name === "set-cookie" || more.length > 0 ? values : only);
  }

  remove(name: string): void {
    this.#response.removeHeader(name);
  }
}

/**
 * Returns the status, the reason and the headers in the arguments of `writeHead`. The reason and
 * the headers are undefined if the arguments lack them.
 */
function headOf(given: unknown[]): [number, string | undefined, unknown] {
  const [status, second, third] = given;
  const reason = typeof second === "string" ? second : undefined;
  return [Number(status), reason, reason === undefined ? (second ?? third) : third];
}

function setAll(response: ServerResponse, headers: unknown): void {
  if (Array.isArray(headers)) {
    const pairs = pairsOf(headers);
    for (const [name] of pairs) response.removeHeader(name); // as `writeHead` of Node does
    for (const [name, value] of pairs) response.appendHeader(name, value);
  } else if (typeof headers === "object" && headers !== null) {
    for (const [name, value] of Object.entries(headers as OutgoingHttpHeaders)) {
      if (value !== undefined) response.setHeader(name, value);
    }
  }
}

/**
 * Returns the names and values in a list as pairs. The list contains pairs, or each name followed
 * by its value.
 */
function pairsOf(list: unknown[]): [string, string | string[]][] {
  if (Array.isArray(list[0])) return list as [string, string | string[]][];
  const flat = list as (string | string[])[];
  return flat.flatMap((name, at) => (at % 2 === 0 ? [[String(name), flat[at + 1] ?? ""]] : []));
}

/** Calls the callback in the arguments of an ignored call, if there is a callback. */
function later(given: unknown[]): void {
  const callback = given.findLast((each) => typeof each === "function");
  if (callback !== undefined) process.nextTick(callback);
}
