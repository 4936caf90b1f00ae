/** Tests that a closed client does not keep the process alive. */

import type { Message } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import type { ServedCall } from "../src/testing/loopback_server.js";
import { DEVICE, StandIn, until } from "./stand_in.js";

const INDEX = fileURLToPath(new URL("../src/index.js", import.meta.url));
// The program does everything that opens a handle: finished calls, a call under way, a call that
// waits for its next attempt, a watch, the watch of the cache, and an open session.
const PROGRAM = `
  import { NearCache, SessionAuthority } from ${JSON.stringify(INDEX)};
  const cache = new NearCache();
  const client = new SessionAuthority(process.argv[1], { cache, timeoutMs: 600_000 });
  const found = await client.validateSession("token of ada", ${JSON.stringify(DEVICE)});
  client.onSessionEnd(found.session, () => undefined);
  const watch = client.watchEvents();
  await watch.next();
  const more = watch.next().catch(() => undefined);
  const held = client.revokeAll("held").catch(({ message }) => message);
  const away = new SessionAuthority("127.0.0.1:1", { timeoutMs: 600_000 });
  const trying = away.revokeAll("ada").catch(() => undefined);
  while (!cache.live) await new Promise((resolve) => setTimeout(resolve, 2));
  client.close();
  away.close();
  await Promise.all([more, trying]);
  process.stdout.write(await held);
`;

/** A stand-in that never answers RevokeAll. */
class Holding extends StandIn {
  override unary(request: Message, call: ServedCall): Promise<Message> {
    if (call.method === "RevokeAll") return new Promise(() => undefined);
    return super.unary(request, call);
  }
}

test("a process ends by itself when its clients are closed", async () => {
  const service = await new Holding().start();
  try {
    const more = ["--input-type=module", "-e", PROGRAM, service.address];
    const process_ = spawn(process.execPath, more);
    let [out, err] = ["", ""];
    let code: number | null | undefined;
    process_.stdout.on("data", (text: Buffer) => (out += text.toString()));
    process_.stderr.on("data", (text: Buffer) => (err += text.toString()));
    process_.on("close", (status) => (code = status));
    await until(() => code !== undefined).finally(() => process_.kill("SIGKILL"));
    assert.deepEqual([code, out, err], [0, "the client is closed", ""]);
  } finally {
    service.stop();
  }
});
