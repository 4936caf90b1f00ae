/**
 * The ways in which a request reaches an app through the middleware: each framework over a socket,
 * and the Fetch exchange that the modules for Hono and Next.js use.
 */

import express from "express";
import { fastify } from "fastify";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { sessionAuthority as forExpress, visitOf } from "../../src/web/express.js";
import { sessionAuthority as forFastify } from "../../src/web/fastify.js";
import { serveFetch } from "../../src/web/fetch_exchange.js";
import { sessionAuthority as forHono } from "../../src/web/hono.js";
import type { Authority, FlowOptions } from "../../src/web/public.js";
import type { Visit } from "../../src/web/visit.js";
import { Visits } from "../../src/web/visits.js";
import { Hono } from "hono";
import { createAdaptorServer } from "@hono/node-server";

/** A request of a client. */
export interface Sent {
  readonly method: string;
  readonly target: string;
  readonly peer: string;
  readonly scheme: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body?: string;
}

/** The response that the client got. */
export interface Got {
  readonly status: number;
  /** The headers: lists of values by lower-case names. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly body: string;
}

/** The answer of the app after its action. */
export interface AppAnswer {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

/** An app: it does its action with the visit of a request, and answers. */
export type App = (visit: Visit) => Promise<AppAnswer>;

/** Sends one request through the middleware to an app. */
export type Carry = (
  sent: Sent,
  authority: Authority,
  options: FlowOptions,
  app: App,
) => Promise<Got>;

const overFetch: Carry = async (sent, authority, options, app) => {
  const lists: Record<string, string[]> = {};
  for (const [name, value] of sent.headers) (lists[name] ??= []).push(value);
  const body = sent.body === undefined ? {} : { body: sent.body };
  const request = new Request(`${sent.scheme}://localhost${sent.target}`, {
    method: sent.method,
    ...body,
  });
  const connection = { peer: sent.peer, headers: lists };
  const response = await serveFetch(new Visits(authority, options), request, connection, (visit) =>
    fetched(app(visit)),
  );
  const headers: Record<string, string[]> = {};
  for (const [name, value] of response.headers) (headers[name] ??= []).push(value);
  return { status: response.status, headers, body: await response.text() };
};

async function fetched(answering: Promise<AppAnswer>): Promise<Response> {
  const { status, headers, body } = await answering;
  return new Response(body, { status, headers: headers.map(([name, value]) => [name, value]) });
}

const overExpress: Carry = async (sent, authority, options, app) => {
  const server = express();
  server.set("env", "test"); // so that Express logs no error
  server.use(forExpress(authority, options));
  server.use(async (request, response) => {
    const { status, headers, body } = await app(visitOf(request));
    for (const [name, value] of headers) response.appendHeader(name, value);
    response.status(status).end(body); // `send` would add a charset
  });
  return overSocket(createServer({ requireHostHeader: false }, server), sent);
};

const overFastify: Carry = async (sent, authority, options, app) => {
  const server = fastify({ http: { requireHostHeader: false } });
  await server.register(forFastify, { authority, ...options });
  server.all("*", async (request, reply) => {
    const { status, headers, body } = await app(request.visit);
    for (const [name, value] of headers) void reply.header(name, value);
    return reply.code(status).send(Buffer.from(body));
  });
  await server.ready();
  return overSocket(server.server, sent);
};

const overHono: Carry = async (sent, authority, options, app) => {
  const server = new Hono();
  server.use(forHono(authority, options));
  server.onError((_error, context) => context.text("Internal Server Error", 500));
  server.all("*", (context) => fetched(app(context.get("visit"))));
  const isNamed = sent.headers.some(([name]) => name === "host");
  const headers = isNamed ? sent.headers : [...sent.headers, ["host", "localhost"] as const];
  const carried = createAdaptorServer({ fetch: server.fetch }) as Server;
  return overSocket(carried, { ...sent, headers }); // Hono's server requires a `Host` header
};

/** All ways to send a request to an app, by name. */
export const CARRIERS: Readonly<Record<string, Carry>> = {
  fetch: overFetch,
  express: overExpress,
  fastify: overFastify,
  hono: overHono,
};

/** Sends one request to a server on a free port of loopback, and stops the server. */
export async function overSocket(server: Server, sent: Sent): Promise<Got> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await ask((server.address() as AddressInfo).port, sent);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Sends one request to a port of loopback. */
export function ask(port: number, sent: Sent, host = "127.0.0.1"): Promise<Got> {
  return new Promise((resolve, reject) => {
    const length = String(Buffer.byteLength(sent.body ?? ""));
    const headers = [...sent.headers.flat(), "content-length", length];
    const request = httpRequest({
      port,
      host,
      method: sent.method,
      path: sent.target,
      headers,
      setHost: false,
      agent: false,
    });
    request.on("error", reject);
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const lists = response.headersDistinct as Record<string, string[]>;
        const body = Buffer.concat(chunks).toString();
        resolve({ status: response.statusCode ?? 0, headers: lists, body });
      });
    });
    request.end(sent.body);
  });
}
