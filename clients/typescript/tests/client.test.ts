/** Tests the client's calls: their requests, their results, and their failures. */

import { create } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { inspect } from "node:util";

import { timestamp } from "../src/convert.js";
import * as pb from "../src/gen/session_authority/v1/session_authority_pb.js";
import { type ClientOptions, SessionAuthority, SessionAuthorityError } from "../src/index.js";
import { Refusal } from "../src/testing/loopback_server.js";
import { answers, DEVICE, refuses, StandIn, until } from "./stand_in.js";

const PATIENCE_MS = 20_000;
const SIGNED_IN = new Date("2026-01-02T03:04:05.678Z");
const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

async function connected(options: ClientOptions = {}): Promise<[SessionAuthority, StandIn]> {
  const service = await new StandIn().start();
  const client = new SessionAuthority(service.address, { timeoutMs: PATIENCE_MS, ...options });
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

async function failure(work: Promise<unknown>): Promise<SessionAuthorityError> {
  try {
    await work;
  } catch (error) {
    assert(error instanceof SessionAuthorityError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "it did not fail" });
}

test("a sign-in sends all its options, and retries with the same request ID", async () => {
  const [client, service] = await connected();
  service.acts.push(
    refuses(new Refusal("UNAVAILABLE", "away")),
    answers(
      create(pb.IssueDeviceResponseSchema, {
        device: { deviceId: DEVICE, signedIn: true, formFactor: pb.FormFactor.PHONE },
        accessToken: "secret",
        tokenExpireTime: timestamp(SIGNED_IN),
        newDevice: true,
        durability: pb.Durability.LOCAL,
      }),
    ),
  );
  const issued = await client.issueDevice("ada", {
    deviceId: "nonsense",
    client: { ipAddress: "192.0.2.1", clientHints: { mobile: false }, place: { city: "Ulm" } },
    claims: { plan: "gold" },
    authMethods: ["pwd", "otp"],
    sessionTtlMs: 90_500,
    idleTimeoutMs: 120_000,
    requireReplicated: true,
  });
  const [first, second] = service.calls.map(({ request }) => request as pb.IssueDeviceRequest);
  assert(first !== undefined && second !== undefined);
  assert.equal(first.requestId.length, 36);
  assert.deepEqual(first, second);
  assert.equal(first.userId, "ada");
  assert.equal(first.deviceId, "nonsense");
  assert.equal(first.client?.ipAddress, "192.0.2.1");
  assert.equal(first.client.clientHints?.mobile, false);
  assert.equal(first.client.place?.city, "Ulm");
  assert.deepEqual({ ...first.claims }, { plan: "gold" });
  assert.deepEqual(first.authMethods, ["pwd", "otp"]);
  assert.deepEqual([first.sessionTtl?.seconds, first.sessionTtl?.nanos], [90n, 500_000_000]);
  assert.equal(first.idleTimeout?.seconds, 120n);
  assert.equal(first.requireReplicated, true);
  assert.equal(issued.device.formFactor, "PHONE");
  assert.equal(issued.device.createTime, undefined);
  assert.deepEqual(issued.tokenExpireTime, SIGNED_IN);
  assert.equal(issued.durability, "LOCAL");
  assert.equal(issued.newDevice, true);
  assert.equal(issued.accessToken, "secret");
  assert.doesNotMatch(inspect(issued), /secret/);
});

test("a validation is active only if both active and status say so", async () => {
  const [client, service] = await connected();
  const good = service.validation(
    create(pb.ValidateSessionRequestSchema, { accessToken: "token of ada", deviceId: DEVICE }),
  );
  const unknown = 99 as pb.SessionStatus;
  const withoutSession = create(pb.ValidateSessionResponseSchema, {
    active: true,
    status: pb.SessionStatus.ACTIVE,
  });
  service.acts.push(
    answers(good),
    answers(create(pb.ValidateSessionResponseSchema, { ...good, active: false })),
    answers(create(pb.ValidateSessionResponseSchema, { ...good, status: unknown })),
    answers(withoutSession),
  );
  const found = [];
  for (let index = 0; index < 4; index += 1) {
    const { active, status, session } = await client.validateSession("token of ada", DEVICE);
    found.push([active, status, session?.userId]);
  }
  assert.deepEqual(found, [
    [true, "ACTIVE", "ada"],
    [false, "ACTIVE", undefined],
    [false, "UNSPECIFIED", undefined],
    [false, "ACTIVE", undefined],
  ]);
});

test("a renewal without a session is not active, and an empty token is undefined", async () => {
  const [client, service] = await connected();
  service.always = answers(
    create(pb.RenewSessionResponseSchema, { status: pb.SessionStatus.ACTIVE, rotated: true }),
  );
  const renewal = await client.renewSession("token of ada", DEVICE, { passive: true });
  assert.equal(renewal.active, false);
  assert.equal(renewal.accessToken, undefined);
  assert.equal((service.calls[0]?.request as pb.RenewSessionRequest).passive, true);
});

test("devices yields all devices, page by page", async () => {
  const [client, service] = await connected();
  const page = (deviceId: string, nextPageToken: string) =>
    answers(create(pb.ListDevicesResponseSchema, { devices: [{ deviceId }], nextPageToken }));
  service.acts.push(page("a", "more"), page("b", ""));
  const found = [];
  for await (const { deviceId } of client.devices("ada", { pageSize: 1 })) found.push(deviceId);
  assert.deepEqual(found, ["a", "b"]);
  const tokens = service.calls.map(({ request }) => (request as pb.ListDevicesRequest).pageToken);
  assert.deepEqual(tokens, ["", "more"]);
});

test("an error has its kind, its reason and the details of the service", async () => {
  const [client, service] = await connected();
  const violations = [{ field: "user_id", description: "must not be empty" }];
  const metadata = { min_seconds: "120" };
  service.acts.push(
    refuses(
      new Refusal("INVALID_ARGUMENT", "bad", { reason: "INVALID_REQUEST", violations, metadata }),
    ),
  );
  const error = await failure(client.revokeAll("ada"));
  assert.equal(error.kind, "invalid_request");
  assert.equal(error.code, "INVALID_ARGUMENT");
  assert.equal(error.reason, "INVALID_REQUEST");
  assert.equal(error.message, "bad");
  assert.deepEqual(error.violations, violations);
  assert.deepEqual({ ...error.metadata }, metadata);
  assert.equal(error.unavailable, false);
});

test("a call is made three times if it is UNAVAILABLE, else only once", async () => {
  const [client, service] = await connected();
  const details = { reason: "STORE_UNAVAILABLE", retryAfterMs: 1000 };
  service.always = refuses(new Refusal("UNAVAILABLE", "away", details));
  const error = await failure(client.revokeAll("ada"));
  assert.deepEqual([error.kind, error.retryAfterMs, error.retriable], ["unavailable", 1000, true]);
  assert.equal(service.calls.length, 3);
  service.always = refuses(new Refusal("RESOURCE_EXHAUSTED", "busy", { reason: "OVERLOADED" }));
  const busy = await failure(client.revokeAll("ada"));
  assert.deepEqual([busy.kind, busy.retriable], ["overloaded", false]);
  assert.equal(busy.is("unavailable"), true);
  assert.equal(service.calls.length, 4);
});

test("a call that a stopping server drops is retried", async () => {
  const [client, service] = await connected();
  service.acts.push(
    refuses(new Refusal("CANCELLED", "stopping")),
    refuses(new Refusal("CANCELLED", "stopping")),
    answers(create(pb.RevokeAllResponseSchema, { revokedDevices: 2 })),
  );
  assert.equal(await client.revokeAll("ada"), 2);
  assert.equal(service.calls.length, 3);
});

test("a service that keeps failing gets no retries", async () => {
  const [client, service] = await connected();
  service.always = refuses(new Refusal("UNAVAILABLE", "away"));
  for (let index = 0; index < 5; index += 1) await failure(client.revokeAll("ada"));
  const before = service.calls.length;
  await failure(client.revokeAll("ada"));
  assert.equal(service.calls.length, before + 1);
});

test("a call ends at its deadline, which the service also gets", async () => {
  const [client, service] = await connected();
  service.answers.close();
  const error = await failure(client.validateSession("token of ada", DEVICE, { timeoutMs: 80 }));
  assert.deepEqual([error.kind, error.code], ["unavailable", "DEADLINE_EXCEEDED"]);
  const [call] = service.calls;
  assert(call !== undefined && call.leftMs > 0 && call.leftMs <= 80, String(call?.leftMs));
});

test("a call may have a longer timeout than a timer can wait", async () => {
  for (const batching of [false, true]) {
    const [client, service] = await connected({ timeoutMs: Number.MAX_SAFE_INTEGER, batching });
    service.answers.close();
    const calls = [1, 2, 3].map(() => client.validateSession("token of ada", DEVICE));
    await Promise.race([until(() => service.decided > 0), ...calls]);
    service.answers.open();
    assert.deepEqual(
      (await Promise.all(calls)).map(({ status }) => status),
      ["ACTIVE", "ACTIVE", "ACTIVE"],
    );
  }
});

test("a signal ends a call with its reason, and cancels it at the service", async () => {
  const [client, service] = await connected();
  const leaving = new AbortController();
  let left = false;
  service.acts.push(
    (_, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          left = true;
          resolve(create(pb.RevokeAllResponseSchema));
        });
      }),
  );
  const reason = new Error("no longer wanted");
  let ended: unknown;
  // The timeout is so long that only the signal can end the call.
  const options = { signal: leaving.signal, timeoutMs: 600_000 };
  client.revokeAll("ada", options).catch((error: unknown) => {
    ended = error;
  });
  await until(() => service.calls.length === 1);
  leaving.abort(reason);
  await until(() => ended === reason);
  await until(() => left);
  await assert.rejects(client.revokeAll("ada", { signal: leaving.signal }), reason);
  assert.equal(service.calls.length, 1);
});

test("a closed client fails all calls, also the calls under way", async () => {
  const [client, service] = await connected({ maxInFlight: 1 });
  service.answers.close();
  const calls = ["a", "b"].map((user) =>
    failure(client.validateSession(`token of ${user}`, DEVICE, { observeOnly: true })),
  );
  const waiting = failure(client.revokeAll("ada"));
  await until(() => service.calls.length === 1);
  client.close();
  for (const error of await Promise.all([...calls, waiting, failure(client.revokeAll("ada"))])) {
    assert.deepEqual([error.kind, error.code], ["unavailable", "CANCELLED"]);
    assert.equal(error.message, "the client is closed");
  }
});

test("no more calls than maxInFlight are under way, and the next one waits", async () => {
  const [client, service] = await connected({ maxInFlight: 2, batching: false });
  service.answers.close();
  const calls = ["a", "b", "c"].map((user) => client.validateSession(`token of ${user}`, DEVICE));
  await until(() => service.atOnce === 2);
  const late = await failure(client.validateSession("token of d", DEVICE, { timeoutMs: 20 }));
  assert.match(late.message, /^there was no slot in time: 2 calls/);
  service.answers.open();
  assert.equal((await Promise.all(calls)).filter(({ active }) => active).length, 3);
  assert.equal(service.mostAtOnce, 2);
  assert.equal(service.calls.length, 3);
});

test("each call has the caller's token, and fails if the token function fails", async () => {
  let token: unknown = "first";
  const [client, service] = await connected({ token: () => token as string });
  await client.validateSession("token of ada", DEVICE);
  token = "second ";
  await client.validateSession("token of ada", DEVICE);
  const headers = service.calls.map((call) => call.headers.authorization);
  assert.deepEqual(headers, ["Bearer first", "Bearer second"]);
  for (const bad of ["", "a\nb", "ä", 7]) {
    token = bad;
    const error = await failure(client.validateSession("token of ada", DEVICE));
    assert.equal(error.kind, "unavailable");
    assert.match(error.message, /^token: /);
  }
  assert.equal(service.calls.length, 2);
});

test("a token function that never returns delays neither a signal nor close", async () => {
  const never = () => new Promise<string>(() => undefined);
  const [client] = await connected({ token: never });
  const leaving = new AbortController();
  const watch = client.watchEvents({ signal: leaving.signal }).next();
  const closed = [client.watchEvents().next(), client.revokeAll("ada")].map(failure);
  leaving.abort(new Error("left"));
  await assert.rejects(watch, /left/);
  client.close();
  for (const error of await Promise.all(closed)) {
    assert.equal(error.message, "the client is closed");
  }
});

test("a token is never sent to another machine without TLS", () => {
  for (const target of ["authority.internal:443", "dns:///a.example:1", "10.0.0.1:1", "[::2]:1"]) {
    assert.throws(() => new SessionAuthority(target, { token: "secret" }), RangeError, target);
  }
  const local = ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:/run/sa", "ipv4:127.0.0.1:1"];
  for (const target of local) {
    new SessionAuthority(target, { token: "secret" }).close();
  }
  new SessionAuthority("authority.internal:443", { token: "secret", tls: {} }).close();
});

test("the error for a wrong argument names the argument", async () => {
  const [client] = await connected();
  const wrong: [RegExp, () => Promise<unknown>][] = [
    [/^userId: /, () => client.issueDevice(7 as never)],
    [/^accessToken: /, () => client.validateSession(undefined as never, DEVICE)],
    [/^authMethods: /, () => client.issueDevice("ada", { authMethods: "pwd" as never })],
    [/^timeoutMs: /, () => client.revokeAll("ada", { timeoutMs: 0 })],
    [/^types: /, () => client.watchEvents({ types: ["NONE" as never] }).next()],
    [/^since: /, () => client.watchEvents({ since: 5 as never }).next()],
    [/^claims: /, () => client.updateSession("ada", [] as never)],
  ];
  for (const [text, call] of wrong) {
    await assert.rejects(call, (error) => error instanceof Error && text.test(error.message));
  }
  const half = await failure(client.revokeAll("\ud800"));
  assert.deepEqual([half.kind, half.violations[0]?.field], ["invalid_request", "userId"]);
  assert.throws(() => new SessionAuthority("https://authority.internal"), RangeError);
  assert.throws(() => new SessionAuthority("a:1", { maxInFlight: 0 }), RangeError);
});

test("a watch yields events with strings and dates, and ends with its reader", async () => {
  const [client, service] = await connected();
  const seen: unknown[] = [];
  for await (const batch of client.watchEvents({ cursor: "c", types: ["ALL_REVOKED"] })) {
    assert.equal(typeof batch.readUptimeMs, "number");
    seen.push(...batch.events.map(({ type, userId }) => [type, userId]));
    if (seen.length === 2) break;
    if (seen.length === 0) service.revoke("ada");
    else service.happen(99, "bob");
  }
  assert.deepEqual(seen, [
    ["ALL_REVOKED", "ada"],
    ["UNSPECIFIED", "bob"],
  ]);
  const request = service.calls[0]?.request as pb.WatchEventsRequest;
  assert.deepEqual([request.cursor, [...request.types]], ["c", [pb.EventType.ALL_REVOKED]]);
});

test("a watch that can't go on throws cursor_expired", async () => {
  const [client, service] = await connected();
  service.watchRefusal = new Refusal("OUT_OF_RANGE", "too old", { reason: "CURSOR_EXPIRED" });
  const error = await failure(client.watchEvents({ cursor: "c" }).next());
  assert.equal(error.kind, "cursor_expired");
});
