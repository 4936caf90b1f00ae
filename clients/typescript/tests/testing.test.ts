/** The fake service: what apps may rely on in their tests. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { type SessionAuthority, SessionAuthorityError } from "../src/index.js";
import { FakeAuthority, type FakeAuthorityOptions } from "../src/testing.js";
import { DEVICE } from "./stand_in.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

/** Lives through a history of one user. */
class World {
  constructor(
    readonly authority: FakeAuthority,
    readonly client: SessionAuthority,
  ) {}

  async signsIn(deviceId = "", more: object = {}): Promise<[string, string]> {
    const issued = await this.client.issueDevice("ada", { deviceId, ...more });
    return [issued.accessToken, issued.device.deviceId];
  }

  /** The verdict, in short. */
  async finds(token: string, device: string, options: object = {}): Promise<string> {
    const found = await this.client.validateSession(token, device, options);
    const revoked = found.revokedDevices > 0 ? ` revoked ${String(found.revokedDevices)}` : "";
    return `${found.status}${found.renewRecommended ? " renew" : ""}${revoked}`;
  }

  async renews(token: string, device: string): Promise<string> {
    return (await this.client.renewSession(token, device)).accessToken ?? "";
  }

  /** The next token, after the old one has been in use for long enough. */
  async goesOn(token: string, device: string): Promise<string> {
    assert.match(await this.finds(token, device), /^ACTIVE/);
    this.authority.passTime(6 * MINUTE);
    const successor = await this.renews(token, device);
    assert.notEqual(successor, "");
    return successor;
  }
}

async function world(options: FakeAuthorityOptions = {}): Promise<World> {
  const authority = await new FakeAuthority(options).start();
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

// The histories and their verdicts are those that Python's fake and the service live through.
const HISTORIES: Record<string, [string[], (world: World) => Promise<string[]>]> = {
  "no token": [
    ["TOKEN_MISSING", "TOKEN_INVALID"],
    async (world) => {
      const [, device] = await world.signsIn();
      return [await world.finds("", device), await world.finds("nonsense", device)];
    },
  ],
  "a token ages": [
    ["ACTIVE", "ACTIVE renew", "ACTIVE renew", "TOKEN_EXPIRED"],
    async (world) => {
      const [token, device] = await world.signsIn();
      const found = [await world.finds(token, device)];
      for (const step of [31, 29, 1]) {
        world.authority.passTime(step * MINUTE);
        found.push(await world.finds(token, device));
      }
      return found;
    },
  ],
  "an idle end of its own": [
    ["ACTIVE", "ACTIVE", "SESSION_EXPIRED"],
    async (world) => {
      const [token, device] = await world.signsIn("", { idleTimeoutMs: 10 * MINUTE });
      const found = [];
      for (const step of [9, 9, 10]) {
        world.authority.passTime(step * MINUTE);
        found.push(await world.finds(token, device));
      }
      return found;
    },
  ],
  "a page that asks by itself does not count": [
    ["ACTIVE", "ACTIVE", "SESSION_EXPIRED"],
    async (world) => {
      const [token, device] = await world.signsIn("", { idleTimeoutMs: 10 * MINUTE });
      const found = [];
      for (const step of [4, 5, 1]) {
        world.authority.passTime(step * MINUTE);
        found.push(await world.finds(token, device, { passive: true }));
      }
      return found;
    },
  ],
  "a live token left its device": [
    ["REPLAYED revoked 2", "NO_SESSION"],
    async (world) => {
      const [token, device] = await world.signsIn();
      const [, other] = await world.signsIn();
      return [await world.finds(token, other), await world.finds(token, device)];
    },
  ],
  "a dead token left its device": [
    ["WRONG_DEVICE", "SUPERSEDED", "ACTIVE"],
    async (world) => {
      const [token, device] = await world.signsIn();
      const [current] = await world.signsIn(device);
      const found = [await world.finds(token, DEVICE), await world.finds(token, device)];
      return [...found, await world.finds(current, device)];
    },
  ],
  "a token is superseded once the next is seen": [
    ["ACTIVE renew", "ACTIVE", "ACTIVE renew", "SUPERSEDED", "SUPERSEDED", "REPLAYED revoked 1"],
    async (world) => {
      const [old, device] = await world.signsIn();
      const token = await world.goesOn(old, device);
      const found = [await world.finds(old, device)];
      world.authority.passTime(3 * MINUTE);
      found.push(await world.finds(token, device));
      for (const step of [29 * SECOND, SECOND, 4 * MINUTE, 31 * SECOND]) {
        world.authority.passTime(step);
        found.push(await world.finds(old, device));
      }
      return found;
    },
  ],
  "two hold one generation": [
    ["ACTIVE", "ACTIVE", "ACTIVE", "REPLAYED revoked 1"],
    async (world) => {
      const [old, device] = await world.signsIn();
      const one = await world.goesOn(old, device);
      const other = await world.renews(old, device);
      const found = [await world.finds(one, device), await world.finds(other, device)];
      world.authority.passTime(5 * MINUTE);
      return [...found, await world.finds(one, device), await world.finds(other, device)];
    },
  ],
  "the session that this one replaced": [
    ["SUPERSEDED", "ACTIVE", "SUPERSEDED", "REPLAYED revoked 1"],
    async (world) => {
      const [old, device] = await world.signsIn();
      world.authority.passTime(6 * MINUTE);
      const [token] = await world.signsIn(device);
      world.authority.passTime(3 * MINUTE);
      const found = [await world.finds(old, device), await world.finds(token, device)];
      for (const step of [4 * MINUTE, MINUTE]) {
        world.authority.passTime(step);
        found.push(await world.finds(old, device));
      }
      return found;
    },
  ],
  "a device ID that was assigned": [
    ["WRONG_DEVICE", "ACTIVE"],
    async (world) => {
      const [token, device] = await world.signsIn();
      const { deviceId } = await world.client.validateSession("", "");
      return [await world.finds(token, deviceId), await world.finds(token, device)];
    },
  ],
  "any other session": [
    ["SESSION_ENDED", "ACTIVE"],
    async (world) => {
      const [old, device] = await world.signsIn();
      await world.client.revokeDevice("ada", device);
      const [token] = await world.signsIn(device);
      return [await world.finds(old, device), await world.finds(token, device)];
    },
  ],
  "claims that change": [
    ["ACTIVE renew", "new 1", "ACTIVE"],
    async (world) => {
      const [old, device] = await world.signsIn("", { claims: { email: "old" } });
      assert.equal(await world.client.updateSession("ada", { email: "new" }), 1);
      const found = [await world.finds(old, device)];
      const { session, accessToken } = await world.client.renewSession(old, device);
      found.push(`${session?.claims.email ?? ""} ${String(session?.generation)}`);
      await world.client.renewSession(accessToken ?? "", device);
      return [...found, await world.finds(old, device)];
    },
  ],
};

for (const [name, [verdicts, live]] of Object.entries(HISTORIES)) {
  test(`the fake gives the service's verdicts: ${name}`, async () => {
    assert.deepEqual(await live(await world()), verdicts);
  });
}

test("with the alarm on renewals only, a superseded token is denied quietly", async () => {
  const scene = await world({ replayAlarm: "renewed" });
  const [old, device] = await scene.signsIn();
  const token = await scene.goesOn(await scene.goesOn(old, device), device);
  assert.equal(await scene.finds(old, device), "SUPERSEDED renew");
  assert.equal(await scene.finds(token, device), "ACTIVE");
  assert.equal((await scene.client.renewSession(old, device)).status, "REPLAYED");
  assert.equal(await scene.finds(token, device), "NO_SESSION");
});

async function kindOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "done",
    (error: unknown) => (error instanceof SessionAuthorityError ? error.kind : String(error)),
  );
}

test("the fake may be away, slow, full, or without replicas", async () => {
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

test("the fake signs in an app, with the headers of its requests, and signs it out", async () => {
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

test("the fake's tokens age, expire and are replayed as a test wants", async () => {
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

test("the fake lists, names and forgets devices, and tells of it", async () => {
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
