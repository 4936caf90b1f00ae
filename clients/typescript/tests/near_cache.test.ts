/** Tests the near cache with its watch on a real connection: when it may answer, and when not. */

import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import {
  type ClientOptions,
  NearCache,
  type NearCacheOptions,
  SessionAuthority,
} from "../src/index.js";
import { Refusal } from "../src/testing/loopback_server.js";
import { answers, DEVICE, refuses, StandIn, until } from "./stand_in.js";

const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

interface Scene {
  client: SessionAuthority;
  service: StandIn;
  cache: NearCache;
  log: string[];
  asked: () => number;
  ask: (user?: string, options?: object) => Promise<string>;
}

async function scene(of: NearCacheOptions = {}, options: ClientOptions = {}): Promise<Scene> {
  const service = await new StandIn().start();
  const cache = new NearCache({ maxSilenceMs: 10_000, ...of });
  const log: string[] = [];
  const client = new SessionAuthority(service.address, {
    timeoutMs: 20_000,
    cache,
    log: (message) => log.push(message),
    ...options,
  });
  ending.push(
    () => {
      service.stop();
    },
    () => {
      client.close();
    },
  );
  return {
    client,
    service,
    cache,
    log,
    asked: () => service.methods().reduce((sum, [, size]) => sum + size, 0),
    ask: async (user = "ada", more = {}) =>
      (await client.validateSession(`token of ${user}`, DEVICE, more)).status,
  };
}

/** Returns a scene whose watch is live. */
async function liveScene(of: NearCacheOptions = {}, options: ClientOptions = {}): Promise<Scene> {
  const found = await scene(of, options);
  await found.ask("first");
  await until(() => found.cache.live);
  return found;
}

test("the second validation of a token is answered from the cache", async () => {
  const { ask, asked, cache } = await liveScene();
  const before = asked();
  assert.deepEqual([await ask(), await ask(), await ask()], ["ACTIVE", "ACTIVE", "ACTIVE"]);
  assert.equal(asked(), before + 1);
  assert.equal(cache.stats().hits, 2);
});

test("before the watch works, every validation is a call, and none is kept", async () => {
  const { ask, asked, cache, service } = await scene();
  service.flow.close();
  await ask();
  await ask();
  assert.equal(asked(), 2);
  assert.equal(cache.stats().entries, 0);
});

test("a revocation drops the answers about the user, and about no other user", async () => {
  const { ask, asked, service, cache } = await liveScene();
  await ask("ada");
  await ask("bob");
  service.revoke("ada");
  await until(() => cache.stats().dropped.event === 1);
  const before = asked();
  assert.deepEqual([await ask("ada"), await ask("bob")], ["NO_SESSION", "ACTIVE"]);
  assert.equal(asked(), before + 1);
});

test("a refusal is never kept", async () => {
  const { ask, asked, service } = await liveScene();
  service.revoke("ada");
  const before = asked();
  assert.deepEqual([await ask(), await ask()], ["NO_SESSION", "NO_SESSION"]);
  assert.equal(asked(), before + 2);
});

test("an answer that was on its way when its user's event came is not kept", async () => {
  const { ask, service, cache } = await liveScene();
  service.answers.close();
  const decided = service.decided;
  const slow = ask();
  await until(() => service.decided === decided + 1);
  service.revoke("ada");
  const told = cache.ticket()?.events ?? 0;
  await until(() => (cache.ticket()?.events ?? 0) > told);
  service.answers.open();
  assert.equal(await slow, "ACTIVE");
  assert.equal(await ask(), "NO_SESSION");
});

test("equal validations share one call, unless an event came in between", async () => {
  const { ask, asked, service, cache } = await liveScene({}, { batching: false });
  service.answers.close();
  const before = asked();
  const first = [ask(), ask(), ask()];
  await until(() => asked() === before + 1);
  service.revoke("ada");
  const told = cache.ticket()?.events ?? 0;
  await until(() => (cache.ticket()?.events ?? 0) > told);
  const later = [ask(), ask()];
  await until(() => asked() === before + 2);
  service.answers.open();
  assert.deepEqual(await Promise.all(first), ["ACTIVE", "ACTIVE", "ACTIVE"]);
  assert.deepEqual(await Promise.all(later), ["NO_SESSION", "NO_SESSION"]);
});

test("a caller that gives up does not end the call that others share", async () => {
  const { ask, asked, service } = await liveScene();
  service.answers.close();
  const before = asked();
  const leaving = new AbortController();
  const first = ask("ada", { signal: leaving.signal });
  const other = ask("ada");
  await until(() => asked() === before + 1);
  leaving.abort();
  await assert.rejects(first, { name: "AbortError" });
  service.answers.open();
  assert.equal(await other, "ACTIVE");
  assert.equal(asked(), before + 1);
});

test("a caller with a longer timeout than the first one makes a call of its own", async () => {
  const { ask, asked, service } = await liveScene({}, { batching: false });
  service.answers.close();
  const before = asked();
  const hasty = assert.rejects(ask("ada", { timeoutMs: 100 }), { code: "DEADLINE_EXCEEDED" });
  const patient = ask("ada");
  await hasty;
  await until(() => asked() === before + 2);
  service.answers.open();
  assert.equal(await patient, "ACTIVE");
});

test("a watch that breaks empties the cache, and another one starts", async () => {
  const { ask, asked, service, cache, log } = await liveScene();
  await ask();
  service.cut();
  await until(() => cache.stats().emptied === 1);
  const before = asked();
  await ask();
  assert.equal(asked(), before + 1);
  await until(() => cache.live);
  await until(() => log.length === 2);
  assert.match(log[0] ?? "", /^the near cache is off .*: unavailable: cut$/);
  assert.equal(log[1], "the near cache is on again");
});

test("after a watch breaks, the cache is off even before the next watch", async () => {
  const live: boolean[] = [];
  const found = await liveScene({}, { log: () => live.push(found.cache.live) });
  await found.ask();
  found.service.cut();
  await until(() => live.length === 1);
  assert.deepEqual(live, [false]);
});

test("after the store's history was lost, no answer is kept for a while", async () => {
  const { ask, asked, service, cache, log } = await liveScene();
  service.watchRefusal = new Refusal("OUT_OF_RANGE", "gone", { reason: "CURSOR_EXPIRED" });
  service.cut();
  await until(() => log.some((message) => message.includes("cursor_expired")));
  service.watchRefusal = undefined;
  await until(() => cache.live);
  const before = asked();
  await ask();
  await ask();
  assert.equal(asked(), before + 2);
});

test("a watch that stalls is trusted for maxSilenceMs and no longer", async () => {
  const { ask, service, cache } = await liveScene({ maxSilenceMs: 500 });
  await ask();
  service.flow.close();
  await until(() => !cache.live);
  service.revoke("ada");
  assert.equal(await ask(), "NO_SESSION");
  const before = service.watches;
  service.flow.open();
  await until(() => service.watches > before && cache.live);
});

test("while the watch is refused, every validation is a call that works", async () => {
  const { ask, asked, service, log } = await scene();
  service.watchRefusal = new Refusal("PERMISSION_DENIED", "no", { reason: "CALLER_NOT_ALLOWED" });
  assert.deepEqual([await ask(), await ask()], ["ACTIVE", "ACTIVE"]);
  assert.equal(asked(), 2);
  await until(() => log.length === 1);
});

test("an answer that needs a renewal is not kept", async () => {
  const { ask, asked, service } = await liveScene();
  service.renew = true;
  const before = asked();
  await ask();
  await ask();
  assert.equal(asked(), before + 2);
});

test("observeOnly, passive and another form of the device ID get no cached answer", async () => {
  const { ask, asked, client } = await liveScene();
  await ask();
  const before = asked();
  await ask("ada", { observeOnly: true });
  await ask("ada", { passive: true });
  await client.validateSession("token of ada", DEVICE.toUpperCase());
  assert.equal(asked(), before + 3);
});

test("a change by this client drops the answers at once, even if it fails", async () => {
  const { ask, asked, client, service } = await liveScene();
  const changes: [string, () => Promise<unknown>][] = [
    ["revokeAll", () => client.revokeAll("ada")],
    ["revokeDevice", () => client.revokeDevice("ada", DEVICE)],
    ["issueDevice", () => client.issueDevice("ada")],
    ["updateSession", () => client.updateSession("ada", {})],
    ["renewSession", () => client.renewSession("token of ada", DEVICE)],
  ];
  for (const [name, change] of changes) {
    await ask();
    service.acts.push(refuses(new Refusal("INTERNAL", "fault")));
    await assert.rejects(change(), { code: "INTERNAL" });
    const before = asked();
    await ask();
    assert.equal(asked(), before + 1, name);
  }
});

test("an answer can't be changed by a caller that shares it", async () => {
  const { client } = await liveScene();
  const found = await client.validateSession("token of ada", DEVICE);
  assert(found.active);
  assert.throws(() => Object.assign(found, { active: false }), TypeError);
  assert.throws(() => Object.assign(found.session.claims, { plan: "gold" }), TypeError);
  assert.throws(() => (found.session.authMethods as string[]).push("otp"), TypeError);
});

test("a cache belongs to one client", async () => {
  const { cache, service } = await liveScene();
  assert.throws(() => new SessionAuthority(service.address, { cache }), /another client/);
});

test("the watch alone calls a listener for a session's end, and only once", async () => {
  const { client, service } = await liveScene();
  const found = await client.validateSession("token of ada", DEVICE);
  assert(found.active);
  let ends = 0;
  client.onSessionEnd(found.session, () => (ends += 1));
  const stop = client.onSessionEnd(found.session, () => assert.fail("it was stopped"));
  stop();
  const before = service.calls.length;
  service.happen(pb.EventType.DEVICE_REVOKED, "ada", found.session.sessionId);
  await until(() => ends === 1);
  service.happen(pb.EventType.DEVICE_REVOKED, "ada", found.session.sessionId);
  assert.equal(service.calls.length, before);
});

test("an event that may have ended a session makes the client check it", async () => {
  const { client, service } = await liveScene();
  const found = await client.validateSession("token of ada", DEVICE);
  assert(found.active);
  let ended = false;
  client.onSessionEnd(found.session, () => (ended = true));
  service.happen(pb.EventType.SESSION_UPDATED, "ada");
  await until(() => service.methods().some(([method]) => method === "CheckSessions"));
  assert.equal(ended, false);
  service.revoke("ada");
  await until(() => ended);
});

test("an outage ends no session", async () => {
  const { client, service, log } = await scene({}, { cache: undefined });
  const found = await client.validateSession("token of ada", DEVICE);
  assert(found.active);
  service.always = refuses(new Refusal("UNAVAILABLE", "away"));
  let ended = false;
  client.onSessionEnd(found.session, () => (ended = true));
  await until(() => log.length === 1);
  assert.equal(ended, false);
  const state = { status: pb.SessionStatus.SESSION_ENDED };
  const results = [{ outcome: { case: "state" as const, value: state } }];
  service.always = answers(create(pb.CheckSessionsResponseSchema, { results }));
  await until(() => ended);
});

test("options of a cache that are no numbers are refused", () => {
  const text = "15000" as unknown as number;
  assert.throws(() => new NearCache({ maxSilenceMs: text }), /maxSilenceMs/);
  assert.throws(() => new NearCache({ maxAgeMs: text }), /maxAgeMs/);
});
