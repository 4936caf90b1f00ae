/**
 * Implements the commands that the tests of tests/polyglot send to this program, the testee. Each
 * command uses the client's public API. clients/vectors/TESTEE.md describes the commands.
 */

import {
  type CallOptions,
  type Claims,
  type Device,
  NearCache,
  type Session,
  SessionAuthority,
  SessionAuthorityError,
  type Validation,
} from "../src/index.js";
import {
  BadCommand,
  type Line,
  maybeFlag,
  maybeNumber,
  maybeObject,
  maybeText,
  objects,
  text,
} from "./fields.js";
import { http } from "./http.js";

/** Sends a note of a command. A note is a line that a command sends before its reply. */
export type Note = (note: Line) => void;

/**
 * The client that a command uses, and the near cache of the client. `cache` is undefined if the
 * client has no near cache.
 */
export interface Connected {
  readonly client: SessionAuthority;
  readonly cache: NearCache | undefined;
}

/** Owns the clients of the testee. A test gives each client a name when it connects the client. */
export class Clients {
  readonly #known = new Map<string, Connected>();

  connect(line: Line): Line {
    const wanted = maybeObject(line, "cache");
    const cache =
      wanted &&
      new NearCache({
        maxEntries: maybeNumber(wanted, "max_entries"),
        maxAgeMs: maybeNumber(wanted, "max_age_ms"),
        maxSilenceMs: maybeNumber(wanted, "max_silence_ms"),
      });
    const client = new SessionAuthority(text(line, "target"), {
      timeoutMs: maybeNumber(line, "timeout_ms"),
      batching: maybeFlag(line, "batching"),
      maxInFlight: maybeNumber(line, "max_in_flight"),
      cache,
      log: (message) => process.stderr.write(`${message}\n`),
    });
    this.#known.set(text(line, "client"), { client, cache });
    return {};
  }

  of(line: Line): Connected {
    const found = this.#known.get(text(line, "client"));
    if (found === undefined) throw new BadCommand("client: is not connected");
    return found;
  }

  closeAll(): void {
    for (const { client } of this.#known.values()) client.close();
  }
}

type Command = (connected: Connected, line: Line, note: Note) => Line | Promise<Line>;

/**
 * Maps the names of commands to the commands. The map does not contain `connect`, because `connect`
 * makes the client that all other commands need.
 */
export const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ["close", close],
  ["validate", validate],
  ["validate_many", validateMany],
  ["validate_batch", validateBatch],
  ["poll", poll],
  ["renew", renew],
  ["sign_in", signIn],
  ["revoke", revoke],
  ["revoke_all", revokeAll],
  ["list", list],
  ["check", check],
  ["watch", watch],
  ["http", http],
  ["stats", stats],
]);

/**
 * Returns the JSON object with which a reply reports an error. The names of the kinds are those of
 * clients/vectors/errors.json. An error that is no `SessionAuthorityError` has the kind `crashed`.
 */
export function errorLine(error: unknown): Line {
  if (!(error instanceof SessionAuthorityError)) {
    return { kind: "crashed", message: error instanceof Error ? error.stack : String(error) };
  }
  const { kind, code, reason, message, retryAfterMs, violations } = error;
  return { kind, code, reason, message, retry_after_ms: retryAfterMs ?? null, violations };
}

function close({ client }: Connected): Line {
  client.close();
  return {};
}

async function validate({ client }: Connected, line: Line): Promise<Line> {
  const userAgent = maybeText(line, "user_agent");
  const options = {
    ...limits(line),
    observeOnly: maybeFlag(line, "observe_only"),
    passive: maybeFlag(line, "passive"),
    ...(userAgent !== undefined && { client: { userAgent } }),
  };
  const started = moment();
  const found = await client.validateSession(...presented(line), options);
  return { ...validationLine(found), started, ended: moment() };
}

async function validateMany({ client }: Connected, line: Line): Promise<Line> {
  const calls = objects(line, "items").map((item) =>
    client.validateSession(...presented(item), limits(line)),
  );
  const settled = await Promise.allSettled(calls);
  return {
    results: settled.map((result) =>
      result.status === "fulfilled"
        ? { ok: validationLine(result.value) }
        : { error: errorLine(result.reason) },
    ),
  };
}

async function validateBatch({ client }: Connected, line: Line): Promise<Line> {
  const items = objects(line, "items").map((item) => {
    const [accessToken, deviceId] = presented(item);
    return { accessToken, deviceId };
  });
  const found = await client.validateSessions(items, limits(line));
  return {
    results: found.map((result) =>
      result instanceof Error ? { error: errorLine(result) } : { ok: validationLine(result) },
    ),
  };
}

async function poll({ client }: Connected, line: Line, note: Note): Promise<Line> {
  const interval = maybeNumber(line, "interval_ms") ?? 0;
  const [token, device] = presented(line);
  let [asked, errors] = [0, 0];
  let lastActiveStarted: number | null = null;
  for (;;) {
    const started = moment();
    asked += 1;
    try {
      const { active, status } = await client.validateSession(token, device, limits(line));
      if (!active) {
        return {
          status,
          asked,
          errors,
          last_active_started: lastActiveStarted,
          denied_started: started,
          denied_ended: moment(),
        };
      }
      if (lastActiveStarted === null) note({ active: true });
      lastActiveStarted = started;
    } catch (error) {
      if (!(error instanceof SessionAuthorityError) || error.message === "the client is closed") {
        throw error;
      }
      errors += 1;
    }
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}

async function renew({ client }: Connected, line: Line): Promise<Line> {
  const found = await client.renewSession(...presented(line), limits(line));
  const { active, status, rotated, accessToken, session } = found;
  return {
    active,
    status,
    rotated,
    access_token: accessToken ?? null,
    session: sessionLine(session),
  };
}

async function signIn({ client }: Connected, line: Line): Promise<Line> {
  const issued = await client.issueDevice(text(line, "user_id"), {
    ...limits(line),
    deviceId: maybeText(line, "device_id"),
    requestId: maybeText(line, "request_id"),
    claims: maybeObject(line, "claims") as Claims | undefined,
  });
  return {
    access_token: issued.accessToken,
    device: deviceLine(issued.device),
    device_id_assigned: issued.deviceIdAssigned,
    new_device: issued.newDevice,
  };
}

async function revoke({ client }: Connected, line: Line): Promise<Line> {
  const options = { ...limits(line), reason: maybeText(line, "reason") };
  const [user, device] = [text(line, "user_id"), text(line, "device_id")];
  return { revoked: await client.revokeDevice(user, device, options) };
}

async function revokeAll({ client }: Connected, line: Line): Promise<Line> {
  const options = { ...limits(line), exceptDeviceId: maybeText(line, "except_device_id") };
  return { revoked_devices: await client.revokeAll(text(line, "user_id"), options) };
}

async function list({ client }: Connected, line: Line): Promise<Line> {
  const page = await client.listDevices(text(line, "user_id"), {
    ...limits(line),
    currentDeviceId: maybeText(line, "current_device_id"),
    pageSize: maybeNumber(line, "page_size"),
    pageToken: maybeText(line, "page_token"),
  });
  return {
    devices: page.devices.map(deviceLine),
    next_page_token: page.nextPageToken,
    total_size: page.totalSize,
  };
}

async function check({ client }: Connected, line: Line): Promise<Line> {
  const names = objects(line, "sessions").map((name) => ({
    userId: text(name, "user_id"),
    deviceId: text(name, "device_id"),
    sessionId: text(name, "session_id"),
  }));
  const states = await client.checkSessions(names, limits(line));
  return {
    statuses: states.map((state) => {
      if (state instanceof Error) throw state;
      return state.status;
    }),
  };
}

async function watch({ client }: Connected, line: Line, note: Note): Promise<Line> {
  const options = { cursor: maybeText(line, "cursor") };
  for await (const { events, cursor } of client.watchEvents(options)) {
    note({ events: events.map(({ type }) => type), cursor });
  }
  return {};
}

function stats({ cache }: Connected): Line {
  if (cache === undefined) return { live: false, entries: 0, hits: 0, misses: 0 };
  const { live, entries, hits, misses } = cache.stats();
  return { live, entries, hits, misses };
}

function limits(line: Line): CallOptions {
  return { timeoutMs: maybeNumber(line, "timeout_ms") };
}

function presented(line: Line): [string, string] {
  return [text(line, "access_token"), text(line, "device_id")];
}

function moment(): number {
  return performance.timeOrigin + performance.now();
}

function validationLine(found: Validation): Line {
  return {
    active: found.active,
    status: found.status,
    device_id: found.deviceId,
    device_id_assigned: found.deviceIdAssigned,
    renew_recommended: found.renewRecommended,
    revoked_devices: found.revokedDevices,
    session: sessionLine(found.session),
  };
}

function sessionLine(session: Session | undefined): Line | null {
  if (session === undefined) return null;
  return {
    user_id: session.userId,
    device_id: session.deviceId,
    session_id: session.sessionId,
    generation: session.generation,
    claims: session.claims,
  };
}

function deviceLine(device: Device): Line {
  return {
    device_id: device.deviceId,
    display_name: device.displayName,
    session_id: device.sessionId,
    current: device.current,
    signed_in: device.signedIn,
  };
}
