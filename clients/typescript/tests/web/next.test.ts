/**
 * Tests the module for Next.js: the proxy, route handlers and Server Components, with the requests
 * and responses of Next.js.
 */

import { NextRequest } from "next/server.js";
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { sessionAuthority } from "../../src/web/next.js";
import { MemoryAuthority } from "./memory_authority.js";

let service: MemoryAuthority;
let cookie: string;

beforeEach(async () => {
  service = new MemoryAuthority();
  const { accessToken, device } = await service.issueDevice("ada");
  cookie = `theme=dark; __Host-session=${accessToken}; __Host-device=${device.deviceId}`;
});

const sessions = () =>
  sessionAuthority(service.authority, { signInUrl: "/sign-in", devices: true });

function ask(path: string, init: { method?: string; headers?: Record<string, string> } = {}) {
  const headers = { cookie, ...init.headers };
  return new NextRequest(`https://app.example${path}`, { ...init, headers });
}

test("the proxy passes a request on", async () => {
  const response = await sessions().proxy(ask("/"));
  assert.equal(response.headers.get("x-middleware-next"), "1");
  assert.deepEqual(response.headers.getSetCookie(), []);
});

test("the proxy renews a token, for the browser and for the page", async () => {
  service.isRenewalDue = true;
  const response = await sessions().proxy(ask("/"));
  assert.match(response.headers.getSetCookie()[0] ?? "", /^__Host-session=token-2;/);
  const forPage = response.headers.get("x-middleware-request-cookie") ?? "";
  assert.match(forPage, /^theme=dark; __Host-session=token-2; __Host-device=/);
});

test("the proxy refuses a form of another origin, and serves the page of devices", async () => {
  const headers = { "sec-fetch-site": "cross-site" };
  const refused = await sessions().proxy(ask("/anything", { method: "POST", headers }));
  assert.equal(refused.status, 403);
  const list = await sessions().proxy(ask("/devices/api/devices"));
  assert.equal(((await list.json()) as { devices: unknown[] }).devices.length, 1);
  assert.equal(list.headers.get("x-middleware-next"), null);
});

test("a route signs in with cookies, and answers refusals", async () => {
  const own = sessions();
  cookie = "";
  const signIn = own.route(async (_request, visit) => {
    await visit.signIn("bob");
    return Response.redirect("https://app.example/", 303); // its headers can't be changed
  });
  const signedIn = await signIn(ask("/sign-in", { method: "POST" }), {});
  assert.equal(signedIn.status, 303);
  assert.equal(signedIn.headers.getSetCookie().length, 2);
  const me = own.route((_request, visit) => Response.json(visit.require().userId));
  const refused = await me(ask("/me"), {});
  assert.deepEqual([refused.status, await refused.json()], [401, { error: "sign_in_required" }]);
});

test("a Server Component gets the session, or redirects to the sign-in", async () => {
  const session = await sessions().require(new Headers({ cookie }), { path: "/me" });
  assert.equal(session.userId, "ada");
  await assert.rejects(sessions().require(new Headers(), { path: "/me" }), ({ digest }) => {
    assert.match(String(digest), /^NEXT_REDIRECT;.*;\/sign-in\?next=\/me;/);
    return true;
  });
});
