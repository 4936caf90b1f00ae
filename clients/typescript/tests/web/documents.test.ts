/**
 * Tests the blocks of code of README.md and WEB.md: the compiler checks each block, and each app is
 * run. `next_app.test.ts` builds the blocks for Next.js.
 */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { FakeAuthority } from "../../src/testing.js";
import { CLIENT } from "../vectors.js";
import { ask, type Got } from "./carriers.js";

/** The build and the start may take long on a busy machine. */
const PATIENCE_MS = 120_000;
const BLOCK = /<!-- (?:app: (\w+)|check|run: \S+) -->\n```(js|ts)\n(.*?)\n```/gs;
const pages = ["README.md", "WEB.md"].map((name) => readFileSync(join(CLIENT, name), "utf8"));
const blocks = [...pages.join("\n").matchAll(BLOCK)].map(
  ([, app, kind = "", code = ""], at) => ({ app, file: `${app ?? `block${at}`}.${kind}`, code }),
);
let folder: string;
let authority: FakeAuthority;

before(async () => {
  // The folder is below the client's folder, so that Node finds the package by its own name.
  folder = mkdtempSync(join(CLIENT, "build", "documents-"));
  for (const { file, code } of blocks) writeFileSync(join(folder, file), code);
  authority = new FakeAuthority();
  await authority.start();
});

after(() => {
  authority.stop();
  rmSync(folder, { recursive: true });
});

test("each block of code is checked here, or belongs to the app for Next.js", () => {
  for (const page of pages) {
    const all = page.match(/^```(js|ts|tsx)$/gm) ?? [];
    const next = page.match(/^<!-- next: \S+ -->$/gm) ?? [];
    assert.equal([...page.matchAll(BLOCK)].length + next.length, all.length);
  }
});

test(
  "all blocks are valid, by the types of the built package",
  { timeout: PATIENCE_MS },
  async () => {
    const options = { extends: join(CLIENT, "tsconfig.examples.json"), include: [`${folder}/*`] };
    const settings = {
      ...options,
      exclude: [],
      compilerOptions: { rootDir: CLIENT, strict: true },
    };
    const config = join(folder, "tsconfig.json");
    writeFileSync(config, JSON.stringify(settings));
    const compiler = join(CLIENT, "node_modules", "typescript", "bin", "tsc");
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, [compiler, "-p", config]).catch(
      (error: unknown) => error as { stdout: string },
    );
    assert.equal(stdout, "");
  },
);

for (const { app, file } of blocks.filter((block) => block.app !== undefined)) {
  test(
    `the app with ${app ?? ""} signs in, and lists the device`,
    { timeout: PATIENCE_MS },
    async () => {
      authority.reset();
      const port = await freePort();
      const process_ = spawn(process.execPath, [join(folder, file)], {
        env: { ...process.env, AUTHORITY: authority.address, PORT: String(port) },
        stdio: ["ignore", "inherit", "inherit"],
      });
      const exited = once(process_, "exit");
      try {
        const get = (target: string, cookie = "") => send(port, "GET", target, cookie);
        await get("/");
        const form = app === "express" ? "user=ada" : "";
        const path = app === "express" ? "/sign-in?next=/devices" : "/sign-in/ada";
        const signedIn = await send(port, "POST", path, "", form);
        const lines = signedIn.headers["set-cookie"] ?? [];
        const cookie = lines.map((line) => line.split(";", 1)[0]).join("; ");
        assert.match(cookie, /^session=.+; device=/);
        if (app === "express") assert.deepEqual(signedIn.headers.location, ["/devices"]);
        assert.match((await get("/", cookie)).body, /^Hello ada/);
        assert.match((await get("/devices", cookie)).body, /<session-devices/);
        const list = JSON.parse((await get("/devices/api/devices", cookie)).body) as {
          devices: { current: boolean }[];
        };
        assert.deepEqual(
          list.devices.map(({ current }) => current),
          [true],
        );
        assert.equal((await get("/", "")).status, 401);
      } finally {
        process_.kill();
        await exited;
      }
    },
  );
}

/** Sends a request, and repeats it until the app listens. */
async function send(
  port: number,
  method: string,
  target: string,
  cookie: string,
  body = "",
): Promise<Got> {
  const headers: [string, string][] = [["host", "localhost"]];
  if (cookie !== "") headers.push(["cookie", cookie]);
  if (body !== "") headers.push(["content-type", "application/x-www-form-urlencoded"]);
  for (;;) {
    try {
      const sent = { method, target, peer: "", scheme: "http", headers, body };
      return await ask(port, sent, "localhost");
    } catch (error) {
      if ((error as { code?: string }).code !== "ECONNREFUSED") throw error;
      await new Promise(setImmediate);
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "localhost");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
