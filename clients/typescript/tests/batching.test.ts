/** Tests batching: which validations are sent alone or together, and how long callers wait. */

import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import { type ClientOptions, SessionAuthority, SessionAuthorityError } from "../src/index.js";
import { Refusal } from "../src/testing/loopback_server.js";
import { answers, DEVICE, refuses, StandIn, until } from "./stand_in.js";

const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

async function connected(options: ClientOptions = {}): Promise<[SessionAuthority, StandIn]> {
  const service = await new StandIn().start();
  const client = new SessionAuthority(service.address, { timeoutMs: 20_000, ...options });
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

function asks(client: SessionAuthority, users: readonly string[]) {
  return users.map((user) => client.validateSession(`token of ${user}`, DEVICE));
}

function users(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `user${String(index)}`);
}

test("callers one after the other make single calls", async () => {
  const [client, service] = await connected();
  for (const user of users(3)) {
    assert.equal((await client.validateSession(`token of ${user}`, DEVICE)).active, true);
  }
  assert.deepEqual(service.methods(), Array(3).fill(["ValidateSession", 1]));
});

test("validations that arrive during another one are sent as one batch", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const others = asks(client, users(10));
  service.answers.open();
  assert.equal((await first)?.active, true);
  const found = await Promise.all(others);
  assert.deepEqual(
    found.map(({ session }) => session?.userId),
    users(10),
  );
  assert.deepEqual(service.methods(), [
    ["ValidateSession", 1],
    ["BatchValidateSessions", 10],
  ]);
});

test("no caller waits for long for a call that is under way", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const others = asks(client, users(3));
  await until(() => service.calls.length === 2);
  assert.deepEqual(service.methods()[1], ["BatchValidateSessions", 3]);
  service.answers.open();
  await Promise.all([first, ...others]);
});

test("a second batch is sent when 32 callers are queued", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const more = asks(client, users(32));
  await until(() => service.calls.length === 2);
  assert.deepEqual(service.methods()[1], ["BatchValidateSessions", 32]);
  service.answers.open();
  await Promise.all([first, ...more]);
});

test("a batch has at most 500 requests", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const more = asks(client, users(700));
  await until(() => service.calls.length >= 2);
  service.answers.open();
  await Promise.all([first, ...more]);
  const sizes = service.methods().map(([, size]) => size);
  assert.equal(Math.max(...sizes), 500);
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    701,
  );
});

test("a bad request fails alone", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const bad = client.validateSession("broken", DEVICE);
  const good = asks(client, ["ada"]);
  service.answers.open();
  await assert.rejects(bad, { kind: "invalid_request", message: "broken" });
  assert.equal((await Promise.all([first, ...good])).length, 2);
});

test("a batch that fails gives each caller its own error", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  service.always = refuses(new Refusal("PERMISSION_DENIED", "no"));
  const errors = asks(client, ["a", "b"]).map((call) => call.catch((error: unknown) => error));
  service.answers.open();
  await first;
  const [one, other] = await Promise.all(errors);
  assert(one instanceof SessionAuthorityError && other instanceof SessionAuthorityError);
  assert.deepEqual([one.kind, other.kind], ["caller_not_allowed", "caller_not_allowed"]);
  assert.notEqual(one, other);
});

test("a caller that gives up before the batch is sent is not in the batch", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const leaving = new AbortController();
  const { signal } = leaving;
  const gone = client.validateSession("token of gone", DEVICE, { signal });
  const stay = asks(client, ["stay"]);
  leaving.abort();
  await assert.rejects(gone, { name: "AbortError" });
  service.answers.open();
  await Promise.all([first, ...stay]);
  assert.deepEqual(service.methods(), Array(2).fill(["ValidateSession", 1]));
});

test("each caller keeps its deadline, and a batch has the latest of them", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const hasty = client.validateSession("token of hasty", DEVICE, { timeoutMs: 150 });
  const [patient] = asks(client, ["patient"]);
  await assert.rejects(hasty, { kind: "unavailable", code: "DEADLINE_EXCEEDED" });
  const [, batch] = service.calls;
  assert(batch !== undefined && batch.leftMs > 1_000, String(batch?.leftMs));
  service.answers.open();
  assert.equal((await Promise.all([first, patient])).length, 2);
});

test("a batch answer with a wrong number of results is an internal error", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  service.always = answers(create(pb.BatchValidateSessionsResponseSchema, { results: [{}] }));
  const errors = asks(client, ["a", "b"]).map((call) =>
    assert.rejects(call, { kind: "internal_error" }),
  );
  service.answers.open();
  await Promise.all([first, ...errors]);
});

test("a batch waits for a slot, and then has all callers that are queued", async () => {
  const [client, service] = await connected({ maxInFlight: 1 });
  service.answers.close();
  const [first] = asks(client, ["first"]);
  await until(() => service.calls.length === 1);
  const others = asks(client, users(40));
  const late = client.validateSession("token of late", DEVICE, { timeoutMs: 100 });
  await assert.rejects(late, { code: "DEADLINE_EXCEEDED", message: /maxInFlight/ });
  service.answers.open();
  await Promise.all([first, ...others]);
  assert.deepEqual(service.methods()[1], ["BatchValidateSessions", 40]);
});

test("without batching each validation is one call", async () => {
  const [client, service] = await connected({ batching: false });
  await Promise.all(asks(client, users(5)));
  assert.deepEqual(service.methods(), Array(5).fill(["ValidateSession", 1]));
});
