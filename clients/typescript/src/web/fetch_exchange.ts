/**
 * Passes a request of the Fetch API through the middleware. The modules for Hono and Next.js use
 * this module.
 */

import { MAX_BODY_BYTES } from "./devices/requests.js";
import type { Headers as HeaderLists } from "./headers.js";
import { dressHeaders, isEventStream, type OutgoingHeaders, withVary } from "./outgoing.js";
import type { RequestFacts } from "./presented.js";
import { isChosen } from "./refusals.js";
import { type Answer, Refused } from "./responses.js";
import type { Visit } from "./visit.js";
import type { Visits } from "./visits.js";

/** The facts that a platform knows about a request in addition to its `Request` object. */
export interface Connection {
  /** The IP address at the other end of the connection. Empty if the address is unknown. */
  readonly peer: string;
  /**
   * The request's headers, with one value for each header line. Undefined if the platform joins the
   * lines with the same name.
   */
  readonly headers?: HeaderLists | undefined;
  /**
   * The headers of the response that other middleware has set. An answer that replaces the app's
   * response has these headers, too.
   */
  readonly before?: Headers | undefined;
}

/** A function that makes the app's response to the request of a visit. */
export type Handler = (visit: Visit) => Response | Promise<Response>;

/**
 * Serves a request. Resolves to the app's response with the visit's cookies, or to an answer that
 * replaces the app's response.
 */
export async function serveFetch(
  visits: Visits,
  request: Request,
  connection: Connection,
  handler: Handler,
): Promise<Response> {
  const { flow } = visits;
  const answering = (answer: Answer) => responseOf(answer, connection.before);
  const url = new URL(request.url);
  const facts: RequestFacts = {
    method: request.method,
    headers: connection.headers ?? headersOf(request),
    peer: connection.peer,
    target: url.pathname + url.search,
  };
  const { devices } = flow.settings;
  const mount = devices?.serves(facts.target) === true ? devices : undefined;
  const publicAnswer = mount?.publicAnswer(facts);
  if (publicAnswer !== undefined) return answering(publicAnswer);
  let visit: Visit;
  try {
    visit = await visits.open(facts);
  } catch (error) {
    if (error instanceof Refused) return answering(withVary(error.answer));
    throw error;
  }
  const serve = async () =>
    mount === undefined
      ? handler(visit)
      : answering(await mount.answer(visit, { ...facts, body: await bodyOf(request) }));
  const response = await answered(visit, serve, answering);
  if (facts.method === "HEAD") discard(response);
  const shown = facts.method === "HEAD" ? new Response(null, response) : response;
  const acceptCh = flow.acceptCh(facts, url.protocol.slice(0, -1));
  return finish(visit, shown, { acceptCh, exchange: request });
}

/**
 * Cancels the body of a response that nobody will read. The body may be a stream without an end.
 */
function discard({ body }: Response): void {
  body?.cancel().catch(() => undefined); // fails if the app itself reads the body
}

/**
 * Makes a response from an answer. `before` has the headers that other middleware has set. The
 * response has these headers, too, unless the answer replaces them.
 */
export function responseOf({ status, headers, body }: Answer, before?: Headers): Response {
  const lists = new Headers(before);
  for (const [name] of headers) if (name !== "Vary") lists.delete(name);
  for (const [name, value] of headers) lists.append(name, value);
  return new Response(body === "" ? null : body, { status, headers: lists });
}

/**
 * Resolves to the app's response. If the visit refused the request and the app did not choose its
 * response, resolves to the refusal's answer.
 */
async function answered(
  visit: Visit,
  serve: () => Promise<Response>,
  answering: (answer: Answer) => Response,
): Promise<Response> {
  try {
    const response = await serve();
    const refused = visit.takeRefusal();
    if (refused === undefined || isChosen(response.status, refused)) return response;
    discard(response);
    return answering(refused.answer);
  } catch (error) {
    if (error instanceof Refused) return answering(error.answer);
    visit.leave();
    throw error;
  }
}

async function finish(
  visit: Visit,
  response: Response,
  asked: { readonly acceptCh: string; readonly exchange: object },
): Promise<Response> {
  const cookies = await visit.close();
  const headers = new FetchHeaders(new Headers(response.headers));
  dressHeaders(headers, visit, cookies, asked);
  const body = bodyUntilEnd(visit, response.body, isEventStream(headers));
  const { status, statusText } = response;
  return new Response(body, { status, statusText, headers: headers.lists });
}

/**
 * Returns the body of a response. If `endsWithSession` is true, the body ends when the session
 * ends. When the body is over, the listeners of the visit are removed. The app may have added a
 * listener while it made the body.
 */
function bodyUntilEnd(
  visit: Visit,
  body: ReadableStream<Uint8Array> | null,
  endsWithSession: boolean,
): ReadableStream<Uint8Array> | null {
  if (body === null) visit.leave();
  if (body === null || (!endsWithSession && !visit.canHear)) return body;
  const reader = body.getReader();
  let isOver = false;
  const over = () => {
    isOver = true;
    visit.leave();
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      if (!endsWithSession) return;
      visit.hangUpAtEnd(() => {
        if (isOver) return;
        over();
        controller.close();
        void reader.cancel("session_ended").catch(() => undefined);
      });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (isOver) return;
        if (!done) {
          controller.enqueue(value);
          return;
        }
        over();
        controller.close();
      } catch (error) {
        if (isOver) return;
        over();
        controller.error(error);
      }
    },
    async cancel(reason) {
      over();
      await reader.cancel(reason);
    },
  });
}

/**
 * Resolves to the body of a request. A body that is longer than `MAX_BODY_BYTES` is cut one byte
 * after this limit, so that the caller sees that the body is too long.
 */
async function bodyOf(request: Request): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_BODY_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES + 1);
}

function headersOf(request: Request): HeaderLists {
  const headers: Record<string, readonly string[]> = {};
  for (const [name, value] of request.headers) headers[name] = [value];
  headers.host ??= [new URL(request.url).host];
  return headers;
}

class FetchHeaders implements OutgoingHeaders {
  readonly lists: Headers;

  constructor(lists: Headers) {
    this.lists = lists;
  }

  names(): readonly string[] {
    return [...new Set(this.lists.keys())];
  }

  values(name: string): readonly string[] {
    if (name === "set-cookie") return this.lists.getSetCookie();
    const value = this.lists.get(name);
    return value === null ? [] : [value];
  }

  set(name: string, values: readonly string[]): void {
    this.lists.delete(name);
    for (const value of values) this.lists.append(name, value);
  }

  remove(name: string): void {
    this.lists.delete(name);
  }
}
