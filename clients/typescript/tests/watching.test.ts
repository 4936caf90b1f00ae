/** The watch of a near cache beside a token that never comes. */

import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test, type TestContext } from "node:test";

import { NearCache } from "../src/index.js";
import { OpenSessions } from "../src/open_sessions.js";
import { type Transport, TransportError } from "../src/transport.js";
import { CacheWatch } from "../src/watching.js";

/** A transport that reaches nothing. */
const nowhere: Transport = {
  unary: () => Promise.reject(new TransportError(14, "nowhere")),
  // eslint-disable-next-line @typescript-eslint/require-await, require-yield -- it only fails
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
