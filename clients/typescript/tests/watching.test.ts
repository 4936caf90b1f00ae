/** Tests the watch of a near cache with a token that never comes, and with a log that throws. */

import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test, type TestContext } from "node:test";

import { NearCache, SessionAuthority } from "../src/index.js";
import { OpenSessions } from "../src/open_sessions.js";
import { type Transport, TransportError } from "../src/transport.js";
import { CacheWatch } from "../src/watching.js";

/** A transport that has no service and fails all calls. */
const nowhere: Transport = {
  unary: () => Promise.reject(new TransportError(14, "nowhere")),
  // eslint-disable-next-line @typescript-eslint/require-await -- it only fails
  async *stream() {
    throw new TransportError(14, "nowhere");
  },
  close: () => undefined,
};

test("a token that never comes ends the attempt to watch", async (context: TestContext) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const cache = new NearCache();
  const log: string[] = [];
  const parts = { cache, wake: () => undefined, log: () => undefined };
  const watch = new CacheWatch({
    cache,
    sessions: new OpenSessions(parts),
    open: () => nowhere,
    token: () => new Promise(() => undefined),
    log: (message) => log.push(message),
  });
  watch.start();
  context.mock.timers.tick(15_000);
  await turn();
  watch.close();
  assert.match(log.join(), /the near cache is off/);
});

test("a log function that throws ends neither the watch nor the process", async () => {
  let logged = 0;
  let watches = 0;
  const transport = {
    ...nowhere,
    stream: () => {
      watches += 1;
      throw new TransportError(watches % 2 === 0 ? 14 : 13, "nowhere");
    },
  };
  const log = () => {
    logged += 1;
    throw new Error("the log is full");
  };
  const cache = new NearCache();
  const client = new SessionAuthority("nowhere:1", { cache, log, transport: () => transport });
  await assert.rejects(client.validateSession("a token", "a device"), /nowhere/);
  while (watches < 2) await turn();
  client.close();
  assert(logged > 0);
});

test("a log that is no function is refused by the constructor", () => {
  const log = console as unknown as () => void;
  assert.throws(() => new SessionAuthority("nowhere:1", { log }), /log: a function/);
});
