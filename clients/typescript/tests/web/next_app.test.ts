/** Builds the app of WEB.md for Next.js for production, starts it, and uses it. */

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { FakeAuthority } from "../../src/testing.js";
import { CLIENT } from "../vectors.js";

/** The build may take long on a busy machine. */
const PATIENCE_MS = 300_000;
const BLOCK = /<!-- next: (\S+) -->\n```tsx?\n(.*?)\n```/gs;
const NEXT = join(CLIENT, "node_modules", "next", "dist", "bin", "next");
const FILES: Readonly<Record<string, string>> = {
  "app/layout.tsx": `import type { ReactNode } from "react";
export default function Layout({ children }: { children: ReactNode }) {
  return <html lang="en"><body>{children}</body></html>;
}`,
  // The modules of this app are in the folder of the client.
  "next.config.ts": `import config from "./page.config";
export default { ...config, turbopack: { root: ${JSON.stringify(CLIENT)} } };`,
  "package.json": `{ "private": true }`,
  "tsconfig.json": JSON.stringify({
    compilerOptions: {
      ...{ target: "ES2022", lib: ["dom", "esnext"], module: "esnext", strict: true, noEmit: true },
      ...{ moduleResolution: "bundler", jsx: "react-jsx", isolatedModules: true },
      ...{ skipLibCheck: true, esModuleInterop: true, resolveJsonModule: true, incremental: true },
      ...{ allowJs: true, plugins: [{ name: "next" }], paths: { "@/*": ["./*"] } },
    },
    include: ["**/*.ts", "**/*.tsx"],
    exclude: ["node_modules"],
  }),
};
let folder: string;
let authority: FakeAuthority;
let server: ChildProcess | undefined;
let origin: string;

before(
  async () => {
    folder = mkdtempSync(join(CLIENT, "build", "next-app-"));
    const write = (name: string, text: string) => {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    };
    const page = readFileSync(join(CLIENT, "WEB.md"), "utf8");
    for (const [, name = "", code = ""] of page.matchAll(BLOCK)) {
      write(name === "next.config.ts" ? "page.config.ts" : name, code);
    }
    for (const [name, text] of Object.entries(FILES)) write(name, text);
    const installed = join(folder, "node_modules", "@session-authority", "client");
    for (const part of ["assets", "dist", "package.json"]) {
      cpSync(join(CLIENT, part), join(installed, part), { recursive: true });
    }
    authority = new FakeAuthority();
    await authority.start();
    const env = { ...process.env, AUTHORITY: authority.address, NEXT_TELEMETRY_DISABLED: "1" };
    const options = { cwd: folder, env: { ...env, NODE_ENV: "production" as const } };
    await promisify(execFile)(process.execPath, [NEXT, "build"], options).catch(
      (error: unknown) => {
        const { stdout, stderr } = error as { stdout: string; stderr: string };
        throw new Error(`${stdout}\n${stderr}`);
      },
    );
    server = spawn(process.execPath, [NEXT, "start", "-H", "localhost", "-p", "0"], {
      ...options,
      stdio: ["ignore", "pipe", "inherit"],
    });
    origin = await addressOf(server);
  },
  { timeout: PATIENCE_MS },
);

after(async () => {
  if (server?.exitCode === null) {
    const exited = once(server, "exit");
    server.kill();
    await exited;
  }
  authority.stop();
  rmSync(folder, { recursive: true });
});

test("a page redirects a user without a session to the sign-in", async () => {
  const response = await send("/");
  assert.equal(response.status, 307);
  assert.equal(response.headers.get("location"), "/sign-in?next=/");
});

test("a server action signs in, a page shows the user, a route signs out", async () => {
  const signedIn = await submit("ada");
  assert.equal(signedIn.status, 303);
  const lines = signedIn.headers.getSetCookie();
  assert.match(lines.join("\n"), /^session=[^;]+; Path=\/; .*\ndevice=[^;]+; Path=\/; /);
  for (const line of lines) {
    assert.match(line, /; Max-Age=\d+/);
    assert.match(line, /; HttpOnly/);
    assert.match(line, /; SameSite=strict/i);
  }
  const cookie = lines.map((line) => line.split(";", 1)[0]).join("; ");
  assert.match(await (await send("/", { cookie })).text(), /Hello (<!-- -->)?ada/);
  assert.match(await (await send("/devices", { cookie })).text(), /<session-devices/);
  const list = (await (await send("/devices/api/devices", { cookie })).json()) as {
    devices: { current: boolean }[];
  };
  assert.deepEqual(
    list.devices.map(({ current }) => current),
    [true],
  );
  const signedOut = await send("/sign-out", { cookie, origin }, "");
  assert.deepEqual([signedOut.status, signedOut.headers.get("location")], [303, "/sign-in"]);
  assert.match(signedOut.headers.getSetCookie().join("\n"), /^session=;/);
  assert.equal((await send("/", { cookie })).status, 307);
});

test("the proxy refuses the form of another origin", async () => {
  const response = await send("/sign-out", { origin: "https://evil.example" }, "");
  assert.equal(response.status, 403);
});

/** Submits the form of the sign-in page as a browser without JavaScript does. */
async function submit(user: string): Promise<Response> {
  const page = await (await send("/sign-in")).text();
  const form = new FormData();
  for (const [field] of page.matchAll(/<input type="hidden"[^>]*>/g)) {
    const [, name = ""] = /name="([^"]*)"/.exec(field) ?? [];
    const [, value = ""] = /value="([^"]*)"/.exec(field) ?? [];
    form.set(name, value.replaceAll("&quot;", '"'));
  }
  form.set("user", user);
  return send("/sign-in", { origin }, form);
}

function send(
  path: string,
  headers: Record<string, string> = {},
  body?: string | FormData,
): Promise<Response> {
  const method = body === undefined ? "GET" : "POST";
  return fetch(origin + path, { method, headers, body: body ?? null, redirect: "manual" });
}

/** Resolves to the address that the server prints when it listens. */
async function addressOf({ stdout }: ChildProcess): Promise<string> {
  let text = "";
  assert.ok(stdout);
  for await (const chunk of stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    const found = /Local:\s+(http:\/\/localhost:\d+)[\s\S]*Ready/.exec(text);
    if (found?.[1] === undefined) continue;
    stdout.resume();
    return found[1];
  }
  throw new Error(`the server did not start: ${text}`);
}
