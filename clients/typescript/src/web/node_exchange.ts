/**
 * Passes a request of `node:http` through the middleware. The modules for Express (and Connect) and
 * for Fastify use this module.
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
  /**
   * The path and query of the request, before the framework removed the path at which a router is
   * mounted.
   */
  readonly originalUrl?: string;
  /** The parsed body, if a body parser ran before the middleware. */
  readonly body?: unknown;
};

/**
 * Opens the visit of a request, and guards the response from now on: the guard adds the visit's
 * cookies. Resolves to undefined if the request is already answered, because it was refused or was
 * for the page of devices.
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
    response.destroy(); // the client left, so the body may be incomplete
    return;
  }
  sendAnswer(response, await mount.answer(visit, { ...facts, body }));
}

/**
 * Resolves to the body of a request, or to undefined if the client left before the end of the body.
 * This function does not read more than it needs to see that a body is longer than
 * `MAX_BODY_BYTES`: it cuts such a body one byte after this limit. The body of a body parser is not
 * cut.
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
  // Requests of HTTP/2 have no `headersDistinct`. A value in `headers` is a string or a list of
  // strings.
  const distinct = request.headersDistinct as Headers | undefined;
  if (distinct !== undefined) return distinct;
  const headers: Record<string, readonly string[]> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value : [value];
  }
  const authority = headers[":authority"];
  return authority && !headers.host ? { ...headers, host: authority } : headers;
}
