/**
 * Passes a request of `node:http` through the middleware. The modules for Express (and Connect) and
 * for Fastify use this.
 */

import type { IncomingMessage, ServerResponse } from "node:http";

import type { DevicesMount } from "./devices/mount.js";
import { MAX_BODY_BYTES } from "./devices/requests.js";
import type { Headers } from "./headers.js";
import { guardResponse, sendAnswer } from "./node_response.js";
import { withVary } from "./outgoing.js";
import type { RequestFacts } from "./presented.js";
import { Refused } from "./responses.js";
import type { Visit } from "./visit.js";
import type { Visits } from "./visits.js";

/** A request of `node:http`, with the fields that frameworks add. */
export type NodeRequest = IncomingMessage & {
  /** The target before the framework removed the path of a mount. */
  readonly originalUrl?: string;
  /** The body, if a body parser ran before. */
  readonly body?: unknown;
};

/**
 * Opens the visit of a request, and guards its response from then on. Resolves to undefined if the
 * request is answered already: it was refused, or it was for the page of devices.
 */
export async function openVisit(
  visits: Visits,
  request: NodeRequest,
  response: ServerResponse,
): Promise<Visit | undefined> {
  const facts = factsOf(request);
  const { flow } = visits;
  const { devices } = flow.settings;
  const mount = devices?.serves(facts.target) === true ? devices : undefined;
  const publicAnswer = mount?.publicAnswer(facts);
  if (publicAnswer !== undefined) {
    sendAnswer(response, publicAnswer);
    return undefined;
  }
  let visit: Visit;
  try {
    visit = await visits.open(facts);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    sendAnswer(response, withVary(error.answer));
    return undefined;
  }
  const scheme = "encrypted" in request.socket ? "https" : "http";
  guardResponse(response, visit, flow.acceptCh(facts, scheme));
  if (mount === undefined) return visit;
  await answerDevices(mount, visit, request, response, facts);
  return undefined;
}

async function answerDevices(
  mount: DevicesMount,
  visit: Visit,
  request: NodeRequest,
  response: ServerResponse,
  facts: RequestFacts,
): Promise<void> {
  const body = await bodyOf(request);
  if (body === undefined) {
    visit.leave();
    response.destroy(); // the client left, and half of a name is another name
    return;
  }
  sendAnswer(response, await mount.answer(visit, { ...facts, body }));
}

/**
 * Resolves to the body of a request, cut after one byte more than `MAX_BODY_BYTES`. Resolves to
 * undefined if the client left before the end of the body.
 */
async function bodyOf(request: NodeRequest): Promise<Uint8Array | undefined> {
  if (request.body !== undefined && request.readableEnded) return parsedBody(request.body);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk as Buffer);
      length += (chunk as Buffer).length;
      if (length > MAX_BODY_BYTES) break;
    }
  } catch {
    return undefined;
  }
  if (!request.complete && length <= MAX_BODY_BYTES) return undefined;
  return Buffer.concat(chunks).subarray(0, MAX_BODY_BYTES + 1);
}

function parsedBody(body: unknown): Uint8Array {
  if (body instanceof Uint8Array) return body;
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return Buffer.from(text);
}

function factsOf(request: NodeRequest): RequestFacts {
  return {
    method: request.method ?? "GET",
    headers: headersOf(request),
    peer: request.socket.remoteAddress ?? "",
    target: request.originalUrl ?? request.url ?? "/",
  };
}

function headersOf(request: IncomingMessage): Headers {
  // Requests of HTTP/2 have no `headersDistinct`. If a header came twice, `headers` has a list.
  const distinct = request.headersDistinct as Headers | undefined;
  if (distinct !== undefined) return distinct;
  const headers: Record<string, readonly string[]> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value : [value];
  }
  const authority = headers[":authority"];
  return authority && !headers.host ? { ...headers, host: authority } : headers;
}
