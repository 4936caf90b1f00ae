/** Tests responses over real connections: cookies, renewals, refusals and streams. */

import { createAdaptorServer } from "@hono/node-server";
import express, { type RequestHandler } from "express";
import { fastify } from "fastify";
import { Hono } from "hono";
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, test } from "node:test";

import { SessionAuthorityError } from "../../src/errors.js";
import { answerRefusals, requireSession, sessionAuthority } from "../../src/web/express.js";
import { sessionAuthority as fastifySessions } from "../../src/web/fastify.js";
import { sessionAuthority as honoSessions } from "../../src/web/hono.js";
import type { FlowOptions } from "../../src/web/public.js";
import { MemoryAuthority } from "./memory_authority.js";

const lines: string[] = [];
const write = (line: string) => {
  lines.push(line);
};
const OPTIONS: FlowOptions = { log: { error: write, warn: write, info: () => undefined } };

/** A test fails if its condition does not become true within this time. */
const PATIENCE_MS = 30_000;
const LIMIT = { timeout: PATIENCE_MS };

let service: MemoryAuthority;
let cookie: string;
let deviceId: string;
let server: Server | undefined;

beforeEach(async () => {
  lines.length = 0;
  service = new MemoryAuthority();
  const { accessToken, device } = await service.issueDevice("ada");
  deviceId = device.deviceId;
  cookie = `__Host-session=${accessToken}; __Host-device=${deviceId}`;
});

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

async function listen(made: Server): Promise<number> {
  server = made;
  made.listen(0, "127.0.0.1");
  await once(made, "listening");
  return (made.address() as AddressInfo).port;
}

/** Serves one Express handler for all paths. */
function serve(handler: RequestHandler, options: FlowOptions = OPTIONS): Promise<number> {
  const app = express();
  app.set("env", "test"); // so that Express logs no error
  app.use(sessionAuthority(service.authority, options));
  app.use(handler);
  return listen(createServer(app));
}

/** Sends a request, and resolves as soon as the headers of the response are there. */
async function ask(port: number, path = "/"): Promise<IncomingMessage> {
  const request = get({ port, host: "127.0.0.1", path, headers: { cookie }, agent: false });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  response.setEncoding("utf8");
  return response;
}

async function contentsOf(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of response) text += part as string;
  return text;
}

const newToken = (response: IncomingMessage) =>
  response.headers["set-cookie"]?.[0]?.split(";", 1)[0] ?? "";

const WRITERS: Readonly<Record<string, RequestHandler>> = {
  send: (_request, response) => {
    response.send("one two");
  },
  "writeHead, then parts": (_request, response) => {
    response.writeHead(200, "Fine", { "content-type": "text/plain", "set-cookie": ["a=1", "b=2"] });
    response.write("one ");
    response.end("two");
  },
  "a raw list of headers": (_request, response) => {
    response.writeHead(200, ["Set-Cookie", "a=1", "Set-Cookie", "b=2"]);
    response.end("one two");
  },
  "a list of headers by pairs": (_request, response) => {
    response.writeHead(200, [
      ["Set-Cookie", "a=1"],
      ["set-cookie", "b=2"],
    ] as never);
    response.end("one two");
  },
  "a raw header with two values": (_request, response) => {
    response.writeHead(200, ["Set-Cookie", ["a=1", "b=2"]] as never);
    response.end("one two");
  },
  "flushHeaders, then parts": (_request, response) => {
    response.flushHeaders();
    response.write("one ");
    response.end("two");
  },
  "a stream": (_request, response) => {
    const parts = new PassThrough();
    parts.pipe(response);
    parts.write("one ");
    parts.end("two");
  },
};

for (const [name, handler] of Object.entries(WRITERS)) {
  test(`a token is renewed before the headers go out: ${name}`, async () => {
    service.isRenewalDue = true;
    const response = await ask(await serve(handler));
    assert.equal(await contentsOf(response), "one two");
    const given = response.headers["set-cookie"] ?? [];
    assert.ok(
      given.some((line) => line.startsWith("__Host-session=token-2;")),
      name,
    );
    if (/writeHead|raw|pairs/.test(name)) {
      assert.deepEqual(given.slice(0, 2), ["a=1", "b=2"]);
    }
    assert.equal(response.headers["cache-control"], "no-store");
    assert.equal(service.renewals, 1);
  });
}

test("an error while the response waits for a renewal changes nothing", async () => {
  service.isRenewalDue = true;
  const port = await serve((_request, response, next) => {
    response.send("done");
    next(new Error("too late"));
  });
  const response = await ask(port);
  assert.deepEqual([response.statusCode, newToken(response)], [200, "__Host-session=token-2"]);
});

test("a renewal that fails does not change the cookies", async () => {
  service.isRenewalDue = true;
  const facts = { kind: "unavailable", code: "UNAVAILABLE" } as const;
  service.beforeRenewal = Promise.reject(new SessionAuthorityError("away", facts));
  service.beforeRenewal.catch(() => undefined);
  const response = await ask(await serve((_request, answer) => answer.send("done")));
  assert.deepEqual([response.statusCode, newToken(response)], [200, ""]);
});

test("parallel requests with one token share a renewal", async () => {
  service.isRenewalDue = true;
  let arrived = 0;
  let all: () => void = () => undefined;
  const together = new Promise<void>((resolve) => (all = resolve));
  const port = await serve(async (_request, response) => {
    if (++arrived === 4) all();
    await together;
    response.send("done");
  });
  const responses = await Promise.all([1, 2, 3, 4].map(() => ask(port)));
  assert.deepEqual([...new Set(responses.map(newToken))], ["__Host-session=token-2"]);
  assert.equal(service.renewals, 1);
});

test("a refusal replaces an error response, and keeps earlier headers", async () => {
  cookie = "";
  const app = express();
  app.set("env", "test");
  app.use((_request, response, next) => {
    response.setHeader("x-outer", "stays");
    next();
  });
  app.use(sessionAuthority(service.authority, OPTIONS));
  app.use(async (request, response) => {
    response.setHeader("x-inner", "goes");
    await Promise.resolve();
    request.visit.require();
  });
  const response = await ask(await listen(createServer(app)));
  assert.equal(response.statusCode, 401);
  assert.deepEqual(JSON.parse(await contentsOf(response)), { error: "sign_in_required" });
  assert.equal(response.headers["x-outer"], "stays");
  assert.equal(response.headers["x-inner"], undefined);
});

for (const [status, said] of [
  [200, 200],
  [303, 303],
  [403, 403],
  [404, 404],
  [418, 401],
  [500, 401],
] as const) {
  test(`an app that answers a refusal with ${status} sends ${said}`, async () => {
    cookie = "";
    const port = await serve((request, response) => {
      try {
        request.visit.require();
      } catch {
        response.status(status).send("for members");
      }
    });
    const response = await ask(port);
    assert.equal(response.statusCode, said);
    const isOwn = status === said;
    assert.equal((await contentsOf(response)).includes("for members"), isOwn);
  });
}

test("an answer that replaces the app's keeps earlier headers, over hono", async () => {
  const app = new Hono();
  app.use(async (context, next) => {
    context.res.headers.set("access-control-allow-origin", "https://spa.example");
    context.res.headers.set("vary", "Origin");
    await next();
  });
  app.use(honoSessions(service.authority, { ...OPTIONS, devices: true }));
  app.get("/", (context) => context.text(context.get("visit").require().userId));
  app.onError((_error, context) => context.text("Internal Server Error", 500));
  const port = await listen(createAdaptorServer({ fetch: app.fetch }) as Server);
  cookie = "";
  for (const [path, status] of [
    ["/", 401],
    ["/devices/api/devices", 401],
    ["/devices/api/messages", 200],
  ] as const) {
    const { statusCode, headers } = await ask(port, path);
    assert.equal(statusCode, status);
    assert.equal(headers["access-control-allow-origin"], "https://spa.example");
    assert.match(headers.vary ?? "", /^Origin/);
  }
});

test("middleware that is used twice keeps the cookies of a sign-in, over express", async () => {
  const app = express();
  const sessions = sessionAuthority(service.authority, OPTIONS);
  app.use(sessions);
  app.use(sessions, async (request, response) => {
    await request.visit.signIn("ada");
    response.end();
  });
  const response = await ask(await listen(createServer(app)));
  assert.match(newToken(response), /^__Host-session=/);
});

test("middleware that is used twice keeps the cookies of a sign-in, over hono", async () => {
  const app = new Hono();
  const sessions = honoSessions(service.authority, OPTIONS);
  app.use(sessions, sessions);
  app.get("/", async (context) => {
    await context.get("visit").signIn("ada");
    return context.text("");
  });
  const response = await ask(await listen(createAdaptorServer({ fetch: app.fetch }) as Server));
  assert.match(newToken(response), /^__Host-session=/);
});

/** The cookies that a response sets: their names, and the first 4 characters of their values. */
const setBy = (response: IncomingMessage) =>
  (response.headers["set-cookie"] ?? []).map((line) => line.slice(0, line.indexOf("=") + 5));

for (const isSignedIn of [true, false]) {
  const name = isSignedIn ? "another session" : "an ended session";

  test(`the inner of two middlewares sets the cookies, over express, with ${name}`, async () => {
    if (!isSignedIn) await service.revokeDevice("ada", deviceId);
    const app = express();
    app.use(sessionAuthority(service.authority, OPTIONS));
    app.use(sessionAuthority(service.authority, OPTIONS), async (request, response) => {
      const { accessToken } = await request.visit.signIn("ada");
      response.send(accessToken);
    });
    const response = await ask(await listen(createServer(app)));
    const token = await contentsOf(response);
    assert.equal(newToken(response), `__Host-session=${token}`);
    assert.deepEqual(setBy(response), [
      `__Host-session=${token.slice(0, 4)}`,
      `__Host-device=${deviceId.slice(0, 4)}`,
    ]);
    assert.deepEqual(lines, []);
  });

  test(`the inner of two middlewares sets the cookies, over hono, with ${name}`, async () => {
    if (!isSignedIn) await service.revokeDevice("ada", deviceId);
    const app = new Hono();
    app.use(honoSessions(service.authority, OPTIONS));
    app.use(honoSessions(service.authority, OPTIONS));
    app.get("/", async (context) => {
      const { accessToken } = await context.get("visit").signIn("ada");
      return context.text(accessToken);
    });
    const response = await ask(await listen(createAdaptorServer({ fetch: app.fetch }) as Server));
    const token = await contentsOf(response);
    assert.equal(newToken(response), `__Host-session=${token}`);
    assert.equal(response.headers["set-cookie"]?.length, 2);
    assert.deepEqual(lines, []);
  });
}

test("the outer of two middlewares renews if the inner one sets no cookie", async () => {
  const app = express();
  app.use(sessionAuthority(service.authority, OPTIONS));
  app.use((_request, _response, next) => {
    service.isRenewalDue = false; // no renewal is recommended to the inner middleware
    next();
  });
  app.use(sessionAuthority(service.authority, OPTIONS), (_request, response) => {
    response.send("done");
  });
  service.isRenewalDue = true;
  const response = await ask(await listen(createServer(app)));
  assert.deepEqual([service.renewals, response.headers["set-cookie"]?.length], [1, 2]);
});

test("guards and the error middleware answer, and no error is logged", async () => {
  cookie = "";
  const failures: unknown[] = [];
  const app = express();
  app.use(sessionAuthority(service.authority, { ...OPTIONS, signInUrl: "/sign-in" }));
  app.get("/guarded", requireSession({ maxAgeMs: 1000 }), (_request, response) => {
    response.send("secret");
  });
  app.get("/thrown", (request, response) => response.send(request.visit.require().userId));
  app.use(answerRefusals);
  app.use(((error, _request, _response, next) => {
    failures.push(error);
    next(error);
  }) satisfies express.ErrorRequestHandler);
  const port = await listen(createServer(app));
  for (const path of ["/guarded", "/thrown"]) {
    assert.equal((await ask(port, path)).statusCode, 401, path);
  }
  assert.deepEqual(failures, []);
});

test("an app's cookie with one of the visit's names is left out, and logged", async () => {
  const response = await ask(
    await serve((_request, answer) => {
      answer.setHeader("set-cookie", ["__Host-session=mine", "theme=dark"]);
      answer.send("done");
    }),
  );
  assert.deepEqual(response.headers["set-cookie"], ["theme=dark"]);
  assert.match(lines.join("\n"), /named __Host-session/);
});

test("an outage writes one line to the log, and signs no user out", async () => {
  const port = await serve((request, response) => response.send(request.visit.require().userId));
  const facts = { kind: "unavailable", code: "UNAVAILABLE" } as const;
  service.failure = new SessionAuthorityError("away", facts);
  for (let asked = 0; asked < 3; asked++) {
    const response = await ask(port);
    assert.deepEqual([response.statusCode, newToken(response)], [503, ""]);
  }
  assert.equal(lines.length, 1);
  service.failure = undefined;
  assert.equal((await ask(port)).statusCode, 200);
});

// --- connections that stay open -----------------------------------------------------------------

type Streams = (looks: boolean, options?: FlowOptions) => Promise<number>;

const STREAMS: Readonly<Record<string, Streams>> = {
  express: (looks, options = OPTIONS) =>
    serve((request, response) => {
      if (looks) request.visit.require();
      response.setHeader("content-type", "text/event-stream");
      response.flushHeaders();
      response.write("data: open\n\n");
      response.on("close", () => response.write("data: after the end\n\n"));
    }, options),
  fastify: async (looks, options = OPTIONS) => {
    const app = fastify();
    await app.register(fastifySessions, { authority: service.authority, ...options });
    app.get("/", (request, reply) => {
      if (looks) request.visit.require();
      const parts = new PassThrough();
      parts.write("data: open\n\n");
      return reply.header("content-type", "text/event-stream").send(parts);
    });
    await app.ready();
    return listen(app.server);
  },
  hono: (looks, options = OPTIONS) => {
    const app = new Hono();
    app.use(honoSessions(service.authority, options));
    app.get("/", (context) => {
      if (looks) context.get("visit").require();
      const encoder = new TextEncoder();
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(encoder.encode("data: open\n\n"));
        },
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    });
    return listen(createAdaptorServer({ fetch: app.fetch }) as Server);
  },
};

for (const [name, stream] of Object.entries(STREAMS)) {
  test(
    `an event stream ends with its session, over ${name}`,
    { timeout: PATIENCE_MS },
    async () => {
      const response = await ask(await stream(true));
      assert.deepEqual(await once(response, "data"), ["data: open\n\n"]);
      const rest = contentsOf(response);
      await service.revokeDevice("ada", deviceId);
      assert.equal(await rest, "");
      while (service.listening > 0) await new Promise(setImmediate);
    },
  );

  test(`a public stream goes on, over ${name}`, async () => {
    const response = await ask(await stream(false));
    await once(response, "data");
    assert.equal(service.listening, 0);
    response.destroy();
  });

  test(`without endConnections no listener is added, over ${name}`, async () => {
    const response = await ask(await stream(true, { ...OPTIONS, endConnections: false }));
    await once(response, "data");
    assert.equal(service.listening, 0);
    response.destroy();
  });

  test(
    `no listener stays for a client that has left, over ${name}`,
    { timeout: PATIENCE_MS },
    async () => {
      const response = await ask(await stream(true));
      await once(response, "data");
      assert.equal(service.listening, 1);
      response.destroy();
      while (service.listening > 0) await new Promise(setImmediate);
    },
  );
}

test("no listener stays if the client left during a renewal", LIMIT, async () => {
  service.isRenewalDue = true;
  let renew: () => void = () => undefined;
  service.beforeRenewal = new Promise<void>((resolve) => (renew = resolve));
  let left: () => void = () => undefined;
  const gone = new Promise<void>((resolve) => (left = resolve));
  const port = await serve((request, response) => {
    request.visit.require();
    response.on("close", left);
    response.setHeader("content-type", "text/event-stream");
    response.flushHeaders();
    asked.destroy();
  });
  const asked = get({ port, host: "127.0.0.1", headers: { cookie }, agent: false });
  asked.on("error", () => undefined);
  await gone;
  renew();
  await new Promise(setImmediate);
  assert.deepEqual([service.renewals, service.listening], [1, 0]);
});

test("no listener stays if the client left before its session was known", LIMIT, async () => {
  let served: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (served = resolve));
  const validate = service.validateSession.bind(service);
  service.validateSession = async (token, device) => {
    asked.destroy();
    await gone;
    return validate(token, device);
  };
  const app = express();
  const gone = new Promise<void>((resolve) => {
    app.use((_request, response, next) => {
      response.on("close", resolve);
      next();
    });
  });
  app.use(sessionAuthority(service.authority, OPTIONS));
  app.use((request, response) => {
    request.visit.onEnded(() => undefined);
    response.setHeader("content-type", "text/event-stream");
    response.flushHeaders();
    served();
  });
  const port = await listen(createServer(app));
  const asked = get({ port, host: "127.0.0.1", headers: { cookie }, agent: false });
  asked.on("error", () => undefined);
  await opened;
  assert.equal(service.listening, 0);
});

test("a wrong call during a renewal breaks only that response", LIMIT, async () => {
  service.isRenewalDue = true;
  const port = await serve((_request, response) => {
    response.write(undefined);
  });
  await assert.rejects(ask(port), { code: "ECONNRESET" });
  service.isRenewalDue = false;
});

test("the callback of an app runs when the session ends", async () => {
  let heard: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (heard = resolve));
  const port = await serve((request, response) => {
    request.visit.onEnded(() => {
      heard();
      response.end("ended");
    });
    response.write("part ");
  });
  const response = await ask(port);
  await once(response, "data");
  await service.revokeDevice("ada", deviceId);
  await ended;
  assert.equal(await contentsOf(response), "ended");
});

test("a listener that the app adds while it makes the body is removed", LIMIT, async () => {
  let go: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const app = new Hono();
  app.use(honoSessions(service.authority, OPTIONS));
  app.get("/", (context) => {
    const visit = context.get("visit");
    const contents = new ReadableStream({
      async pull(controller) {
        await gate; // the headers are out
        visit.onEnded(() => undefined);
        controller.enqueue(new TextEncoder().encode(`${service.listening} listens`));
        controller.close();
      },
    });
    return context.body(contents);
  });
  const port = await listen(createAdaptorServer({ fetch: app.fetch }) as Server);
  const response = await ask(port);
  go();
  assert.equal(await contentsOf(response), "1 listens");
  assert.equal(service.listening, 0);
});

test("bodies that nobody reads are cancelled: for a HEAD, and after a refusal", async () => {
  const left: string[] = [];
  const endless = (name: string) =>
    new ReadableStream({
      cancel() {
        left.push(name);
      },
    });
  const app = new Hono();
  app.use(honoSessions(service.authority, OPTIONS));
  app.get("/", (context) => context.body(endless("head")));
  app.get("/refused", (context) => {
    context.get("visit").require({ authMethods: ["hwk"] });
    return context.text("");
  });
  app.onError((_error, context) => context.body(endless("refused"), 500));
  const headers = { cookie, host: "localhost" };
  const asked = (path: string, method: string) =>
    app.request(`http://localhost${path}`, { method, headers });
  assert.equal((await asked("/", "HEAD")).status, 200);
  assert.equal((await asked("/refused", "GET")).status, 401);
  assert.deepEqual(left, ["head", "refused"]);
});
