/** Tests how requests are handled in each framework, by the cases that all clients share. */

import assert from "node:assert/strict";
import { afterEach, mock } from "node:test";

import type { Visit } from "../../src/web/visit.js";
import { testVectors, type Vector, type VectorSettings } from "../vectors.js";
import { CARRIERS, type Carry, type Got } from "./carriers.js";
import { optionsOf } from "./flow_options.js";
import { ScriptedAuthority } from "./scripted_authority.js";

const COMPARED = [
  "accept-ch",
  "cache-control",
  "clear-site-data",
  "content-security-policy",
  "content-type",
  "location",
  "retry-after",
  "vary",
  "www-authenticate",
];

afterEach(() => {
  mock.timers.reset();
});

for (const [name, carry] of Object.entries(CARRIERS)) {
  testVectors("conduct", (vector, settings) => play(vector, settings, carry), {
    over: name,
    // The sockets of these tests are on loopback, without TLS.
    leavesOut: ({ given: { request, settings } }) =>
      name !== "fetch" && (request.scheme === "https" || settings.trusted_proxies !== undefined),
  });
}

async function play({ given, expected }: Vector, settings: VectorSettings, carry: Carry) {
  mock.timers.enable({ apis: ["Date"], now: given.now * 1000 });
  const service = new ScriptedAuthority(given.service);
  let ran = false;
  let seen: string | null = null;
  const options = optionsOf(settings);
  const got = await carry(given.request, service.authority, options, async (visit) => {
    ran = true;
    try {
      await act(visit, given.app);
    } finally {
      seen = seenBy(visit, given.app);
    }
    return { status: given.app.status, headers: given.app.headers, body: "served" };
  });
  assertBody(got, expected.body);
  return {
    calls: service.calls,
    app_ran: ran,
    session_id: seen,
    status: got.status,
    headers: Object.fromEntries(
      COMPARED.flatMap((header) => {
        const values = got.headers[header];
        return values === undefined ? [] : [[header, values.join(", ")]];
      }),
    ),
    set_cookie: got.headers["set-cookie"] ?? [],
    body: expected.body,
  };
}

async function act(visit: Visit, app: Vector["given"]): Promise<void> {
  switch (app.action) {
    case "require_session":
      visit.require();
      return;
    case "require_step_up": {
      const maxAgeMs = app.max_age_seconds === null ? undefined : app.max_age_seconds * 1000;
      const authMethods = app.auth_methods.length === 0 ? undefined : app.auth_methods;
      visit.require({ maxAgeMs, authMethods });
      return;
    }
    case "sign_in":
      await visit.signIn(app.user_id, { remember: app.remember });
      return;
    case "sign_out":
      await visit.signOut();
      return;
    case "renew":
      await visit.renew();
  }
}

function seenBy(visit: Visit, app: Vector["given"]): string | null {
  return app.action === "ignore" ? null : (visit.session?.sessionId ?? null);
}

function assertBody({ body }: Got, said: Vector["expected"]): void {
  switch (said.kind) {
    case "json":
      assert.deepEqual(JSON.parse(body), said.json);
      return;
    case "json_with":
      assert.deepEqual({ ...JSON.parse(body), ...said.json }, JSON.parse(body));
      return;
    case "page":
      assert.ok(body.startsWith("<!doctype html>"), body);
      for (const part of said.includes) assert.ok(body.includes(part), part);
      for (const part of said.excludes) assert.ok(!body.includes(part), part);
      return;
    default:
      assert.equal(body, said.kind === "app" ? "served" : "");
  }
}
