/** Tests the open sessions of a client that has many of them. */

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { OpenSessions } from "../src/open_sessions.js";
import type { Session } from "../src/types.js";

function session(number: number): Session {
  const now = new Date();
  return {
    userId: `user ${String(number)}`,
    deviceId: "device",
    sessionId: `session ${String(number)}`,
    generation: 1,
    claims: {},
    authMethods: [],
    signInTime: now,
    tokenExpireTime: now,
    expireTime: new Date(now.getTime() + 3_600_000),
    absoluteExpireTime: undefined,
  };
}

test("opening or closing a connection does not iterate all sessions", (context: TestContext) => {
  const sessions = new OpenSessions({
    cache: undefined,
    wake: () => sessions.msUntilDue(),
    log: () => undefined,
  });
  for (let number = 0; number < 100; number += 1) sessions.listen(session(number), () => undefined);
  const looks = context.mock.method(Map.prototype, "values");
  const stop = sessions.listen(session(100), () => undefined);
  stop();
  assert.equal(looks.mock.callCount(), 0);
});

test("a session is checked when it is due, even if earlier sessions were dropped", () => {
  let now = 1_000;
  const sessions = new OpenSessions({
    cache: undefined,
    wake: () => undefined,
    log: () => undefined,
    now: () => now,
  });
  const stop = sessions.listen(session(1), () => undefined);
  assert.equal(sessions.msUntilDue(), 0);
  const first = sessions.takeDue();
  assert.equal(first?.sessions.length, 1);
  sessions.answered(first, [
    { active: true, status: "ACTIVE", expireTime: undefined, absoluteExpireTime: undefined },
  ]);
  assert.equal(sessions.msUntilDue(), 60_000);
  sessions.doubt("user 1");
  assert.equal(sessions.msUntilDue(), 0);
  stop();
  assert.equal(sessions.takeDue(), undefined);
  assert.equal(sessions.msUntilDue(), undefined);
  sessions.listen(session(2), () => undefined);
  now += 1;
  assert.deepEqual(
    sessions.takeDue()?.sessions.map(({ name }) => name.userId),
    ["user 2"],
  );
});
