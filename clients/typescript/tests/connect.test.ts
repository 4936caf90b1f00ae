/** Tests the client with the transport that uses Connect. */

import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { connectTransport } from "../src/connect.js";
import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import { type ClientOptions, NearCache, SessionAuthority } from "../src/index.js";
import { Refusal } from "../src/testing/loopback_server.js";
import { answers, DEVICE, refuses, StandIn, until } from "./stand_in.js";

const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

async function connected(options: ClientOptions = {}): Promise<[SessionAuthority, StandIn]> {
  const service = await new StandIn().start();
  const transport = connectTransport;
  const client = new SessionAuthority(service.address, {
    timeoutMs: 20_000,
    transport,
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
  return [client, service];
}

test("calls by Connect have the caller's token", async () => {
  const [client, service] = await connected({ token: "secret" });
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, true);
  const [call] = service.calls;
  assert.equal(call?.headers.authorization, "Bearer secret");
  assert.match(String(call.headers["user-agent"]), /^connect-es/);
});

test("an error by Connect has all details of the service", async () => {
  const [client, service] = await connected();
  const violations = [{ field: "user_id", description: "must not be empty" }];
  const details = { reason: "INVALID_REQUEST", violations };
  service.acts.push(refuses(new Refusal("INVALID_ARGUMENT", "bad", details)));
  const expected = { kind: "invalid_request", code: "INVALID_ARGUMENT", message: "bad" };
  await assert.rejects(client.revokeAll("ada"), { ...expected, violations });
});

test("a call by Connect is retried while the service is unavailable", async () => {
  const [client, service] = await connected();
  service.acts.push(
    refuses(new Refusal("UNAVAILABLE", "away")),
    refuses(new Refusal("CANCELLED", "stopping")),
    answers(create(pb.RevokeAllResponseSchema, { revokedDevices: 2 })),
  );
  assert.equal(await client.revokeAll("ada"), 2);
  assert.equal(service.calls.length, 3);
});

test("a call by Connect ends at its deadline, and by its signal", async () => {
  const [client, service] = await connected({ batching: false });
  service.answers.close();
  const late = client.validateSession("token of ada", DEVICE, { timeoutMs: 80 });
  await assert.rejects(late, { kind: "unavailable", code: "DEADLINE_EXCEEDED" });
  const leaving = new AbortController();
  const { signal } = leaving;
  const gone = client.validateSession("token of ada", DEVICE, { signal });
  await until(() => service.calls.length === 2);
  leaving.abort();
  await assert.rejects(gone, { name: "AbortError" });
});

test("a closed client ends its calls by Connect", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const call = client.validateSession("token of ada", DEVICE);
  await until(() => service.calls.length === 1);
  client.close();
  await assert.rejects(call, { kind: "unavailable", message: "the client is closed" });
});

test("the near cache learns of a revocation by Connect", async () => {
  const cache = new NearCache();
  const [client, service] = await connected({ cache });
  await client.validateSession("token of first", DEVICE);
  await until(() => cache.live);
  await client.validateSession("token of ada", DEVICE);
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, true);
  assert.equal(cache.stats().hits, 1);
  service.revoke("ada");
  await until(() => cache.stats().dropped.event === 1);
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, false);
});

test("Connect accepts only one host and port", () => {
  const transport = connectTransport;
  assert.throws(() => new SessionAuthority("dns:///a.example:1", { transport }), RangeError);
});
