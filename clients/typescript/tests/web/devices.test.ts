/** Tests the API of the page of devices against its OpenAPI document, and the files of the page. */

import { Ajv2020 } from "ajv/dist/2020.js";
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, test } from "node:test";

import { SessionAuthorityError } from "../../src/errors.js";
import { DevicesMount } from "../../src/web/devices/mount.js";
import type { FlowOptions } from "../../src/web/public.js";
import { CLIENT } from "../vectors.js";
import { type Got, CARRIERS } from "./carriers.js";
import { MemoryAuthority } from "./memory_authority.js";

const SILENT = { error: () => undefined, warn: () => undefined, info: () => undefined };
const OPTIONS: FlowOptions = {
  devices: { secureAccountUrl: "/password" },
  signInUrl: "/sign-in",
  log: SILENT,
};
const ASSETS = join(CLIENT, "assets", "devices");
const PYTHON = join(CLIENT, "..", "python", "session_authority_client", "devices");
const API = JSON.parse(readFileSync(join(ASSETS, "openapi.json"), "utf8")) as {
  paths: Record<string, Record<string, { responses: Record<string, unknown> }>>;
};
const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema(API, "api");

let service: MemoryAuthority;
let here: Browser;
let elsewhere: Browser;

interface Browser {
  readonly cookie: string;
  readonly deviceId: string;
}

beforeEach(async () => {
  service = new MemoryAuthority();
  elsewhere = await signedIn("ada");
  here = await signedIn("ada");
});

async function signedIn(user: string): Promise<Browser> {
  const { accessToken, device } = await service.issueDevice(user);
  const cookie = `__Host-session=${accessToken}; __Host-device=${device.deviceId}`;
  return { cookie, deviceId: device.deviceId };
}

interface Asked {
  readonly browser?: Browser | undefined;
  readonly body?: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly over?: string;
  readonly options?: FlowOptions;
}

async function ask(method: string, target: string, asked: Asked = {}): Promise<Got> {
  const { browser = here, body, headers = [], over = "express", options = OPTIONS } = asked;
  const carry = CARRIERS[over];
  assert.ok(carry);
  const sent = {
    method,
    target,
    peer: "192.0.2.1",
    scheme: "http",
    headers: [["host", "localhost"], ["cookie", browser.cookie], ...headers] as const,
    ...(body === undefined ? {} : { body }),
  };
  return carry(sent, service.authority, options, () => Promise.reject(new Error("not the app's")));
}

/** A response of the API. */
interface Told {
  readonly devices: readonly { id: string; current: boolean; name: string | null }[];
  readonly device: { name: string };
  readonly next: string | null;
  readonly language: string;
  readonly direction: string;
  readonly error?: { code: string };
}

const JSON_BODY = [["content-type", "application/json"]] as const;

/** Sends a request to the API, and checks the response against the document. */
async function askApi(method: string, path: string, asked: Asked = {}) {
  const got = await ask(method, `/devices${path}`, asked);
  const pattern = path.split("?", 1)[0]?.replace(/[0-9a-f-]{36}|no-device/, "{id}") ?? "";
  const described = API.paths[pattern]?.[method.toLowerCase()]?.responses[got.status];
  assert.ok(described, `${method} ${pattern} has no ${got.status}`);
  const operation = `${pattern.replaceAll("/", "~1")}/${method.toLowerCase()}`;
  const content = `paths/${operation}/responses/200/content/application~1json/schema`;
  const schema = got.status < 400 ? `api#/${content}` : "api#/components/schemas/Error";
  const validate = ajv.getSchema(schema);
  assert.ok(validate, schema);
  const json: unknown = JSON.parse(got.body);
  assert.ok(validate(json), JSON.stringify(validate.errors));
  assert.deepEqual(got.headers["cache-control"], ["no-store"]);
  return { ...got, json: json as Told };
}

for (const over of Object.keys(CARRIERS)) {
  test(`the list has this device first, over ${over}`, async () => {
    const { json, status } = await askApi("GET", "/api/devices", { over });
    assert.equal(status, 200);
    const { devices } = json;
    assert.deepEqual(
      devices.map(({ id, current }) => [id, current]),
      [
        [here.deviceId, true],
        [elsewhere.deviceId, false],
      ],
    );
    assert.equal(devices[0]?.name, null); // the service made the name, and not the user
  });

  test(`a device is renamed, signed out, and reported, over ${over}`, async () => {
    const path = `/api/devices/${elsewhere.deviceId}`;
    const body = JSON.stringify({ name: "Ada's phone" });
    const renamed = await askApi("POST", `${path}/rename`, { over, body, headers: JSON_BODY });
    assert.equal(renamed.json.device.name, "Ada's phone");
    const out = await askApi("POST", `${path}/sign-out`, { over });
    assert.deepEqual(out.json, { signed_out: 1 });
    const reported = await askApi("POST", `${path}/not-me`, { over });
    assert.deepEqual(reported.json, {
      signed_out: 0,
      secure_account_url: "/password?next=/devices",
    });
    const { json } = await askApi("GET", "/api/devices", { over });
    assert.equal(json.devices.length, 1);
  });
}

test("all other devices are signed out, then this device with its cookie", async () => {
  assert.deepEqual((await askApi("POST", "/api/sign-out-others")).json, { signed_out: 1 });
  const out = await askApi("POST", "/api/sign-out");
  assert.deepEqual(out.json, { signed_out: 1 });
  assert.match(out.headers["set-cookie"]?.[0] ?? "", /^__Host-session=; Path=\/; Max-Age=0/);
});

test("a device of another user counts as unknown", async () => {
  const stranger = await signedIn("bob");
  for (const action of ["sign-out", "not-me"]) {
    const { json, status } = await askApi("POST", `/api/devices/${stranger.deviceId}/${action}`);
    assert.deepEqual([status, json.error?.code], [404, "unknown_device"]);
  }
  const validated = await service.validateSession("token-3", stranger.deviceId);
  assert.equal(validated.active, true);
});

test("requests that break a rule are refused with a code", async () => {
  const rename = `/api/devices/${here.deviceId}/rename`;
  const long = JSON.stringify({ name: "x".repeat(101) });
  const huge = JSON.stringify({ name: "x".repeat(9000) });
  const rows: [string, Asked, number, string][] = [
    [
      "/api/devices/no-device/rename",
      { body: '{"name":"a"}', headers: JSON_BODY },
      404,
      "unknown_device",
    ],
    [rename, { body: '{"name":1}', headers: JSON_BODY }, 400, "bad_request"],
    [rename, { body: "{", headers: JSON_BODY }, 400, "bad_request"],
    [rename, { body: long, headers: JSON_BODY }, 400, "name_too_long"],
    [rename, { body: huge, headers: JSON_BODY }, 413, "too_large"],
    [
      rename,
      { body: "name=a", headers: [["content-type", "text/plain"]] },
      415,
      "unsupported_type",
    ],
    [
      "/api/sign-out",
      { body: "x", headers: [["content-type", "text/plain"]] },
      415,
      "unsupported_type",
    ],
    ["/api/sign-out", { headers: [["sec-fetch-site", "cross-site"]] }, 403, "foreign_origin"],
    ["/api/sign-out", { browser: { cookie: "", deviceId: "" } }, 401, "signed_out"],
  ];
  for (const [path, asked, status, code] of rows) {
    const got = await askApi("POST", path, asked);
    assert.deepEqual([got.status, got.json.error?.code], [status, code], path);
  }
  const cursor = await askApi("GET", "/api/devices?after=nonsense");
  assert.deepEqual([cursor.status, cursor.json.error?.code], [400, "bad_request"]);
  assert.equal((await ask("GET", "/devices/api/nothing")).status, 404);
  const wrong = await ask("GET", "/devices/api/sign-out");
  assert.deepEqual([wrong.status, wrong.headers.allow], [405, ["POST"]]);
});

test("the origin is checked even if the app turned that off", async () => {
  const options = { ...OPTIONS, checkOrigin: false };
  const headers = [["sec-fetch-site", "cross-site"]] as const;
  const { status } = await askApi("POST", "/api/sign-out-others", { options, headers });
  assert.equal(status, 403);
  assert.ok(!service.calls.includes("revokeAll"));
});

test("an outage is 503, a missing permission is 500 without Retry-After", async () => {
  const unavailable = { kind: "unavailable", code: "UNAVAILABLE", retryAfterMs: 2500 } as const;
  service.failure = new SessionAuthorityError("away", unavailable);
  const away = await askApi("GET", "/api/devices");
  assert.deepEqual([away.status, away.headers["retry-after"]], [503, ["3"]]);
  assert.equal(away.json.error?.code, "unavailable");
  const barred = { kind: "caller_not_allowed", code: "PERMISSION_DENIED" } as const;
  service.failure = new SessionAuthorityError("barred", barred);
  const refused = await askApi("GET", "/api/devices");
  assert.deepEqual([refused.status, refused.headers["retry-after"]], [500, undefined]);
  assert.equal(refused.json.error?.code, "misconfigured");
});

test("a user with many devices gets each device once, page by page", async () => {
  for (let made = 0; made < 118; made++) await signedIn("ada");
  const seen: string[] = [];
  let after = "";
  do {
    const { json } = await askApi("GET", `/api/devices?after=${after}`);
    const { devices } = json;
    assert.ok(devices.length <= 50);
    seen.push(...devices.map(({ id }) => id));
    after = json.next ?? "";
  } while (after !== "");
  assert.deepEqual([seen.length, new Set(seen).size, seen[0]], [120, 120, here.deviceId]);
});

test("the page loads the element, and nothing from other origins", async () => {
  const page = await ask("GET", "/devices?alarm=%22%3E%3Cscript%3E");
  assert.equal(page.status, 200);
  assert.match(page.headers["content-security-policy"]?.[0] ?? "", /^default-src 'none'/);
  assert.match(page.body, /<session-devices src="\/devices" sign-in="\/devices"/);
  assert.ok(!page.body.includes('"><script>'));
  for (const [, url = "", integrity] of page.body.matchAll(
    /(?:src|href)="(\/devices\/static[^"]+)" integrity="([^"]+)"/g,
  )) {
    const file = await ask("GET", url, { browser: { cookie: "", deviceId: "" } });
    assert.equal(file.status, 200, url);
    assert.match(file.headers["cache-control"]?.[0] ?? "", /immutable/);
    const hash = await crypto.subtle.digest("SHA-384", Buffer.from(file.body));
    assert.equal(integrity, `sha384-${Buffer.from(hash).toString("base64")}`);
  }
  const stranger = await ask("GET", "/devices", {
    browser: { cookie: "", deviceId: "" },
    headers: [["accept", "text/html"]],
  });
  assert.deepEqual([stranger.status, stranger.headers.location], [303, ["/sign-in?next=/devices"]]);
});

test("files and texts need no session and no service", async () => {
  const browser = { cookie: "", deviceId: "" };
  const german = await askApi("GET", "/api/messages", {
    browser,
    headers: [["accept-language", "tlh, de-AT;q=0.8, en;q=0.5"]],
  });
  assert.equal(german.json.language, "de");
  const arabic = await askApi("GET", "/api/messages?language=ar", { browser });
  assert.deepEqual([arabic.json.language, arabic.json.direction], ["ar", "rtl"]);
  const own = {
    ...OPTIONS,
    devices: { path: "/me/devices", messages: { de: { title: "Meine" } } },
  };
  const at = await ask("GET", "/me/devices/api/messages?language=de", { browser, options: own });
  assert.equal((JSON.parse(at.body) as { messages: { title: string } }).messages.title, "Meine");
  assert.equal((await ask("GET", "/devices/static/openapi.json", { browser })).status, 404);
  assert.deepEqual(service.calls.slice(2), []); // the first two calls are the sign-ins
});

test("the files of the package are equal to those of the Python client", () => {
  assert.ok(existsSync(PYTHON), "this test wants the whole checkout");
  const pairs = [
    ["session-devices.js", "static/session-devices.js"],
    ["devices.css", "static/devices.css"],
    ["openapi.json", "openapi.json"],
    ...readdirSync(join(PYTHON, "messages")).map((name) => [
      `messages/${name}`,
      `messages/${name}`,
    ]),
  ];
  for (const [copy = "", original = ""] of pairs) {
    const found = readFileSync(join(ASSETS, copy), "utf8");
    assert.ok(found === readFileSync(join(PYTHON, original), "utf8"), `${copy} is stale`);
  }
  const known = pairs.map(([copy]) => copy).filter((copy) => copy?.startsWith("messages/"));
  assert.deepEqual(
    readdirSync(join(ASSETS, "messages")).map((name) => `messages/${name}`),
    known,
  );
});

test("the description of the API is made once for a path", () => {
  const mount = new DevicesMount({ path: "/mine" });
  const asked = { method: "GET", target: "/mine/api/openapi.json", headers: {} };
  const first = mount.publicAnswer(asked);
  assert.match(first?.body ?? "", /"servers":\[\{"url":"\/mine"\}\]/);
  assert.ok(mount.publicAnswer(asked) === first);
});
