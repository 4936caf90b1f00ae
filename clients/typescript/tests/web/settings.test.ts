/** Tests the options of an app. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { FlowOptions } from "../../src/web/public.js";
import { settingsOf } from "../../src/web/settings.js";
import { Visits } from "../../src/web/visits.js";
import { MemoryAuthority } from "./memory_authority.js";

test("an option that is undefined has its default", () => {
  const options: Required<FlowOptions> = {
    cookies: {
      token: undefined,
      device: undefined,
      sameSite: undefined,
      deviceSameSite: undefined,
      insecure: undefined,
    },
    signInUrl: undefined,
    trustedProxies: undefined,
    deviceHeader: undefined,
    bearer: undefined,
    checkOrigin: undefined,
    trustedOrigins: undefined,
    returnPaths: undefined,
    briefIdleTimeoutMs: undefined,
    passivePaths: undefined,
    endConnections: undefined,
    devices: undefined,
    log: undefined,
  };
  assert.deepEqual(settingsOf(options), settingsOf({}));
  const devices = {
    path: undefined,
    secureAccountUrl: undefined,
    language: undefined,
    messages: undefined,
  };
  assert.equal(settingsOf({ devices }).devices?.path, "/devices");
});

test("undefined options of a sign-in and a sign-out have their defaults", async () => {
  const service = new MemoryAuthority();
  const visits = new Visits(service.authority);
  const headers = { host: ["localhost"] };
  const visit = await visits.open({ method: "POST", target: "/", peer: "", headers });
  const nothing = {
    claims: undefined,
    authMethods: undefined,
    sessionTtlMs: undefined,
    requestId: undefined,
    remember: undefined,
    idleTimeoutMs: undefined,
  };
  await visit.signIn("ada", nothing);
  assert.deepEqual(visit.require().claims, {});
  assert.equal(await visit.signOutEverywhere({ exceptCurrent: undefined, reason: undefined }), 0);
  const here = { deviceId: undefined, reason: undefined, forget: undefined };
  assert.equal(await visit.signOut(here), true);
});
