/** Tests the behaviour of the fake service on which the tests of apps rely. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { type SessionAuthority, SessionAuthorityError } from "../src/index.js";
import { FakeAuthority } from "../src/testing.js";
import { DEVICE } from "./stand_in.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

/** A user of a fake service, whose calls make up a history. */
class World {
  constructor(
    readonly authority: FakeAuthority,
    readonly client: SessionAuthority,
  ) {}

  async signsIn(): Promise<[string, string]> {
    const issued = await this.client.issueDevice("ada");
    return [issued.accessToken, issued.device.deviceId];
  }

  /** Resolves to the verdict on a token as a short text. */
  async finds(token: string, device: string): Promise<string> {
    const found = await this.client.validateSession(token, device);
    const revoked = found.revokedDevices > 0 ? ` revoked ${String(found.revokedDevices)}` : "";
    return `${found.status}${found.renewRecommended ? " renew" : ""}${revoked}`;
  }

  async renews(token: string, device: string): Promise<string> {
    return (await this.client.renewSession(token, device)).accessToken ?? "";
  }
}

async function world(): Promise<World> {
  const authority = await new FakeAuthority().start();
  const client = authority.client();
  ending.push(
    () => {
      authority.stop();
    },
    () => {
      client.close();
    },
  );
  return new World(authority, client);
}

async function kindOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "done",
    (error: unknown) => (error instanceof SessionAuthorityError ? error.kind : String(error)),
  );
}

test("the fake can be unavailable, slow, full, or without replicas", async () => {
  const { authority, client } = await world();
  const signIn = (options: object = {}) => kindOf(client.issueDevice("ada", options));
  assert.equal(await authority.unavailable(() => signIn()), "unavailable");
  assert.equal(await authority.slow(1_000, () => signIn({ timeoutMs: 30 })), "unavailable");
  assert.equal(await signIn(), "done");
  assert.equal(await authority.deviceLimit(1, () => signIn()), "device_limit_reached");
  const insists = { requireReplicated: true };
  assert.equal(await signIn(insists), "invalid_request");
  assert.equal(await authority.replicas(false, () => signIn(insists)), "not_replicated");
  assert.equal(await authority.replicas(true, () => signIn(insists)), "done");
});

test("the fake signs an app in, returns its headers, and signs it out", async () => {
  const { authority, client } = await world();
  const claims = { plan: "gold" };
  const headers = await authority.signIn("ada", { claims, ageMs: 10 * MINUTE });
  const token = headers.authorization.replace("Bearer ", "");
  const found = await client.validateSession(token, headers["x-device-id"]);
  assert(found.active);
  assert.deepEqual(found.session.claims, claims);
  assert(Date.now() - found.session.signInTime.getTime() >= 10 * MINUTE);
  assert.equal(authority.calls("ValidateSession"), 1);
  assert.equal(await authority.signOut("ada"), 1);
  const { active } = await client.validateSession(token, headers["x-device-id"]);
  assert.equal(active, false);
});

test("a test can age, expire and replay the fake's tokens", async () => {
  const scene = await world();
  const [token, device] = await scene.signsIn();
  scene.authority.ageTokens();
  assert.equal(await scene.finds(token, device), "ACTIVE renew");
  scene.authority.expireTokens();
  assert.equal(await scene.finds(token, device), "TOKEN_EXPIRED");
  const next = await scene.renews(token, device);
  assert.equal(scene.authority.rotations, 1);
  scene.authority.replayTokens();
  assert.equal(await scene.finds(next, device), "REPLAYED revoked 1");
});

test("the fake lists, names and forgets devices, and sends events", async () => {
  const { authority, client } = await world();
  const cursor = (await client.watchEvents().next()).value?.cursor ?? "";
  const { device } = await client.issueDevice("ada", { client: { displayName: "Phone" } });
  const { deviceId } = device;
  const named = await client.updateDevice("ada", deviceId, "  Ada's \n phone");
  assert.equal(named.displayName, "Ada's phone");
  assert.equal(await kindOf(client.updateDevice("ada", DEVICE, "")), "device_not_found");
  assert.equal(await kindOf(client.issueDevice(" ada")), "invalid_request");
  assert.equal(await client.revokeDevice("ada", deviceId, { reason: "lost", forget: true }), true);
  assert.deepEqual((await client.listDevices("ada", { includeSignedOut: true })).devices, []);
  const told: string[] = [];
  let last = "";
  for await (const batch of client.watchEvents({ cursor, types: ["DEVICE_REVOKED"] })) {
    const { events } = batch;
    last = batch.cursor;
    told.push(...events.map(({ type, reason }) => `${type} ${reason}`));
    if (told.length > 0) break;
  }
  assert.deepEqual(told, ["DEVICE_REVOKED lost"]);
  authority.reset();
  assert.equal(await kindOf(client.watchEvents({ cursor: last }).next()), "cursor_expired");
});

test("a sign-in with the same request ID is one sign-in", async () => {
  const { client } = await world();
  const requestId = crypto.randomUUID();
  const first = await client.issueDevice("ada", { requestId });
  const again = await client.issueDevice("ada", { requestId });
  assert.equal(again.accessToken, first.accessToken);
  assert.equal(await kindOf(client.issueDevice("bob", { requestId })), "request_id_reused");
});
