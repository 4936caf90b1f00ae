/** Tests the connection to a service that can't be reached, stalls, or comes back. */

import assert from "node:assert/strict";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { afterEach, test } from "node:test";

import { SessionAuthority } from "../src/index.js";
import { DEVICE, StandIn, until } from "./stand_in.js";

const ending: (() => void)[] = [];

afterEach(() => {
  for (const end of ending.splice(0).reverse()) end();
});

/** A proxy. While `stalls` is true, new connections to it stall. */
class Wire {
  stalls = false;
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(readonly target: string) {
    this.#server = createServer((socket) => {
      this.connections += 1;
      this.#keep(socket);
      if (this.stalls) return;
      const port = Number(this.target.split(":")[1]);
      const far = this.#keep(dial(port, "127.0.0.1"));
      socket.pipe(far).pipe(socket);
    });
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, "127.0.0.1", resolve);
    });
    const address = this.#server.address();
    assert(typeof address === "object" && address !== null);
    return `127.0.0.1:${String(address.port)}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop(): void {
    this.#server.close();
    this.cut();
  }
}

async function scene(): Promise<[SessionAuthority, StandIn, Wire]> {
  const service = await new StandIn().start();
  const wire = new Wire(service.address);
  const client = new SessionAuthority(await wire.start(), {
    timeoutMs: 20_000,
    channelOptions: { "grpc.min_reconnect_backoff_ms": 200 },
  });
  ending.push(
    () => {
      service.stop();
    },
    () => {
      wire.stop();
    },
    () => {
      client.close();
    },
  );
  return [client, service, wire];
}

test("an attempt to connect that stalls is ended, and no call is lost", async () => {
  const [client, , wire] = await scene();
  wire.stalls = true;
  const call = client.validateSession("token of ada", DEVICE);
  await until(() => wire.connections === 1);
  wire.stalls = false;
  assert.equal((await call).active, true);
  assert(wire.connections >= 2);
});

test("after a connection breaks, no later call fails", async () => {
  const [client, , wire] = await scene();
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, true);
  wire.cut();
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, true);
});

test("a call that a broken connection loses is retried", async () => {
  const [client, service, wire] = await scene();
  service.answers.close();
  const call = client.validateSession("token of ada", DEVICE);
  await until(() => service.calls.length === 1);
  wire.cut();
  await until(() => service.calls.length === 2);
  service.answers.open();
  assert.equal((await call).active, true);
});

test("a service that restarts is found again", async () => {
  const [client, service] = await scene();
  assert.equal((await client.validateSession("token of ada", DEVICE)).active, true);
  service.stop();
  await assert.rejects(client.validateSession("token of ada", DEVICE), { kind: "unavailable" });
  await service.start();
  let active = false;
  await until(() => {
    void client.validateSession("token of ada", DEVICE).then(
      (found) => (active ||= found.active),
      () => undefined,
    );
    return active;
  });
});

test("a connection of 64 streams loses none of 200 calls", async () => {
  const service = await new StandIn().start({ "grpc.max_concurrent_streams": 64 });
  const client = new SessionAuthority(service.address, { timeoutMs: 20_000, batching: false });
  ending.push(
    () => {
      service.stop();
    },
    () => {
      client.close();
    },
  );
  const calls = Array.from({ length: 200 }, (_, index) =>
    client.validateSession(`token of ${String(index)}`, DEVICE),
  );
  assert.equal((await Promise.all(calls)).filter(({ active }) => active).length, 200);
});
