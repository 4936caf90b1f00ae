/**
 * Measures the CPU time that the middleware adds to a bare handler. Each request looks like one of
 * a browser, and passes through Express without a socket. The near cache answers its validation.
 *
 *     npm run bench
 *
 * Rounds are interleaved, and the median of each kind is printed: a busy machine slows both kinds
 * equally.
 */

import express, { type RequestHandler } from "express";
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";

import { NearCache, SessionAuthority } from "../src/index.js";
import { FakeAuthority } from "../src/testing.js";
import { requireSession, sessionAuthority } from "../src/web/express.js";

const ROUNDS = 11;
const PASSES = 1500;
const HEADERS = [
  ["host", "app.example"],
  ["user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
  ["accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
  ["sec-fetch-site", "same-origin"],
  ["sec-fetch-mode", "navigate"],
  ["sec-fetch-dest", "document"],
] as const;

type App = ReturnType<typeof express>;

function appWith(...before: RequestHandler[]): App {
  const app = express();
  for (const handler of before) app.use(handler);
  app.get("/", (_request, response) => {
    response.setHeader("content-type", "text/plain");
    response.end("hello");
  });
  return app;
}

/** Passes one request through an app. Resolves when the response has ended. */
function pass(app: App, cookie: string): Promise<ServerResponse> {
  const request = new IncomingMessage(new Socket());
  request.method = "GET";
  request.url = "/";
  request.rawHeaders = [...HEADERS.flat(), "cookie", cookie];
  for (const [name, value] of [...HEADERS, ["cookie", cookie] as const]) {
    request.headers[name] = value;
    request.headersDistinct[name] = [value];
  }
  const response = new ServerResponse(request);
  return new Promise((resolve) => {
    const end = response.end.bind(response);
    response.end = ((...given: never[]) => {
      end(...given);
      resolve(response);
      return response;
    }) as never;
    app(request, response);
  });
}

async function cpuOfAPass(app: App, cookie: string): Promise<number> {
  const start = process.cpuUsage();
  for (let passed = 0; passed < PASSES; passed++) await pass(app, cookie);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / PASSES;
}

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1] ?? NaN;

const authority = await new FakeAuthority().start();
const cache = new NearCache();
const client = new SessionAuthority(authority.address, { cache, timeoutMs: 10_000 });
const { accessToken, device } = await client.issueDevice("ada");
const cookie = `__Host-session=${accessToken}; __Host-device=${device.deviceId}`;
const bare = appWith();
const guarded = appWith(sessionAuthority(client) as RequestHandler, requireSession());
while (cache.stats().entries === 0) {
  if ((await pass(guarded, cookie)).statusCode !== 200) throw new Error("no session");
}
const found: { bare: number[]; guarded: number[] } = { bare: [], guarded: [] };
for (let round = 0; round < ROUNDS; round++) {
  found.bare.push(await cpuOfAPass(bare, cookie));
  found.guarded.push(await cpuOfAPass(guarded, cookie));
}
const calls = authority.calls("ValidateSession") + authority.calls("BatchValidateSessions");
const [without, whole] = [median(found.bare), median(found.guarded)];
console.log(`bare handler ${without.toFixed(1)} us, with the middleware ${whole.toFixed(1)} us`);
console.log(
  `the pass adds ${(whole - without).toFixed(1)} us, ${(whole / without).toFixed(2)} times`,
);
console.log(`calls of the service in all: ${calls}; spread of bare: ${spread(found.bare)}`);
client.close();
authority.stop();

function spread(values: number[]): string {
  return `${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)} us`;
}
