/**
 * Implements the command `http`, which sends an HTTP request to a small app. The app uses the
 * middleware. Each client of the testee has an app of its own.
 */

import express from "express";
import { once } from "node:events";
import { createServer, type IncomingMessage, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import type { SessionAuthority } from "../src/index.js";
import { requireSession, sessionAuthority } from "../src/web/express.js";
import type { Connected, Note } from "./commands.js";
import { BadCommand, type Line, maybeText, text } from "./fields.js";

const servers = new WeakMap<SessionAuthority, Promise<Server>>();

/**
 * Sends a request to the client's app. Returns the status, the headers and the body of the
 * response, as a browser would get them. If the path is `/stream`, sends a note with the status
 * when the first bytes of the body arrive.
 */
export async function http({ client }: Connected, line: Line, note: Note): Promise<Line> {
  const framework = maybeText(line, "framework") ?? "express";
  if (framework !== "express") throw new BadCommand(`framework: there is no ${framework}`);
  const serving = servers.get(client) ?? serve(client);
  servers.set(client, serving);
  const { port } = (await serving).address() as AddressInfo;
  const response = await send(port, line);
  const chunks: Buffer[] = [];
  for await (const chunk of response) {
    const isFirst = chunks.push(chunk as Buffer) === 1;
    if (isFirst && text(line, "path") === "/stream") note({ status: response.statusCode });
  }
  const raw = response.rawHeaders;
  const headers = raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1]]] : []));
  return { status: response.statusCode, headers, body: Buffer.concat(chunks).toString() };
}

async function serve(client: SessionAuthority): Promise<Server> {
  const app = express();
  const log = (message: string) => process.stderr.write(`${message}\n`);
  app.use(
    sessionAuthority(client, {
      signInUrl: "/sign-in",
      cookies: { insecure: true },
      log: { error: log, warn: log, info: log },
    }),
  );
  app.use(express.urlencoded({ extended: false }));
  app.get("/public", (_request, response) => {
    response.send("public");
  });
  app.all("/private", requireSession(), (request, response) => {
    response.send(request.visit.require().userId);
  });
  app.post("/sign-in", async (request, response) => {
    const { user } = request.body as { user?: string };
    await request.visit.signIn(user ?? "");
    response.redirect(303, "/");
  });
  app.post("/sign-out", async (request, response) => {
    await request.visit.signOut();
    response.redirect(303, "/");
  });
  app.get("/stream", requireSession(), (_request, response) => {
    response.setHeader("content-type", "text/event-stream");
    response.write("data: open\n\n");
  });
  const server = createServer(app).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function send(port: number, line: Line): Promise<IncomingMessage> {
  const pairs = (line.headers ?? []) as readonly (readonly [string, string])[];
  if (!Array.isArray(pairs)) throw new BadCommand("headers: pairs");
  const body = maybeText(line, "body") ?? "";
  const named = new Set(pairs.map(([name]) => (name as string).toLowerCase()));
  const headers = (pairs as [string, string][]).flat();
  if (!named.has("host")) headers.push("Host", "localhost");
  if (!named.has("content-length")) headers.push("Content-Length", String(Buffer.byteLength(body)));
  const request = httpRequest({
    port,
    host: "127.0.0.1",
    method: text(line, "method"),
    path: text(line, "path"),
    headers,
    setHost: false,
    agent: false,
  });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return response;
}
