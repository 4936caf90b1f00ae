/**
 * Owns the client, `SessionAuthority`. The client has one typed method for each RPC of the
 * contract. A call that fails throws a `SessionAuthorityError`. There are two exceptions: an
 * argument that is wrong throws TypeError or RangeError, and an aborted call throws the reason of
 * its signal.
 */

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageShape,
} from "@bufbuild/protobuf";
import { randomUUID } from "node:crypto";

import * as check from "./arguments.js";
import { BatchQueue } from "./batching.js";
import type { NearCache } from "./cache.js";
import { type CallLimits, Calls } from "./calls.js";
import { Coalescer } from "./coalescing.js";
import * as convert from "./convert.js";
import { Endings } from "./endings.js";
import type { SessionAuthorityError } from "./errors.js";
import * as pb from "./gen/session_authority/v1/session_authority_pb.js";
import { grpcTransport } from "./grpc_transport.js";
import { stateItem, validationItem } from "./items.js";
import { MAX_IN_FLIGHT } from "./limiter.js";
import type * as o from "./options.js";
import { checkTarget } from "./transport.js";
import type * as t from "./types.js";
import { CacheWatch } from "./watching.js";

const { method: rpc } = pb.SessionAuthorityService;

/** The default timeout of a call in milliseconds, retries included. */
export const DEFAULT_TIMEOUT_MS = 300;

/**
 * A client of one Session Authority. Call `close` when you no longer need the client, or declare
 * the client with `await using`.
 *
 * `target` is `host:port`. With `dns:///host:port`, the calls are spread over all addresses that
 * DNS returns for the host.
 *
 * The comments of the methods name the kinds of errors that a method throws, as `ErrorKind` lists
 * them. Every call may also throw an `unavailable` error.
 */
export class SessionAuthority implements AsyncDisposable {
  /** The default timeout of this client's calls in milliseconds, retries included. */
  readonly timeoutMs: number;
  readonly #calls: Calls;
  readonly #batchQueue: BatchQueue;
  readonly #cache: NearCache | undefined;
  readonly #coalescer: Coalescer | undefined;
  readonly #cacheWatch: CacheWatch | undefined;
  readonly #endings: Endings;

  constructor(target: string, options: o.ClientOptions = {}) {
    const { tls, token, cache, transport = grpcTransport } = options;
    const log = harmless(options.log ?? (() => undefined));
    checkTarget(target, tls, token);
    this.timeoutMs = check.milliseconds("timeoutMs", options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const batching = check.flag("batching", options.batching ?? true);
    const maxInFlight = options.maxInFlight ?? MAX_IN_FLIGHT;
    const settings = { target, tls, channelOptions: options.channelOptions ?? {} };
    this.#calls = new Calls(() => transport(settings), token, maxInFlight);
    this.#batchQueue = new BatchQueue(this.#calls, batching);
    this.#endings = new Endings(this.#calls, cache, log);
    this.#cache = cache;
    if (cache !== undefined) {
      cache.claim();
      this.#coalescer = new Coalescer(cache, this.#batchQueue);
      this.#cacheWatch = new CacheWatch({
        cache,
        sessions: this.#endings.sessions,
        open: () => transport(settings),
        token,
        log,
      });
    }
  }

  /**
   * Closes the connection. Calls and watches that are under way fail with an `unavailable` error,
   * and so does every later call. After `close`, the client does not keep the process alive.
   */
  close(): void {
    this.#calls.close();
    this.#batchQueue.close();
    this.#endings.close();
    this.#cacheWatch?.close();
  }

  /** Closes the connection, as `close` does. */
  // eslint-disable-next-line @typescript-eslint/require-await -- the interface is asynchronous
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    options: o.CallOptions,
  ): Promise<MessageShape<O>> {
    return this.#calls.make(method, request, this.#limits(options));
  }

  #limits({ timeoutMs, signal }: o.CallOptions): CallLimits {
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new TypeError("signal: an AbortSignal");
    }
    return {
      timeoutMs: check.milliseconds("timeoutMs", timeoutMs ?? this.timeoutMs),
      signal,
    };
  }

  /**
   * Drops the cache's answers about a user. This method is called after every call that changes the
   * user's sessions, even if the call failed. So the next validation asks the service, even if the
   * watch has not reported the change yet.
   */
  #forget(userId: string): void {
    this.#cache?.forgetUser(userId);
    this.#endings.sessions.doubt(userId);
  }

  // --- signing in -------------------------------------------------------------------------------

  /**
   * Signs a user in on a device. If `deviceId` is empty or malformed, the service assigns a new
   * device ID.
   *
   * Throws `invalid_request`, `device_limit_reached`, `request_id_reused`, `request_id_spent` or
   * `not_replicated`.
   */
  async issueDevice(userId: string, options: o.IssueDeviceOptions = {}): Promise<t.IssuedDevice> {
    const { sessionTtlMs, idleTimeoutMs } = options;
    const client = convert.clientMessage(options.client);
    const request = create(pb.IssueDeviceRequestSchema, {
      userId: check.text("userId", userId),
      deviceId: check.presented("deviceId", options.deviceId ?? ""),
      claims: check.claims(options.claims ?? {}),
      authMethods: check.texts("authMethods", options.authMethods ?? []),
      requestId: check.text("requestId", options.requestId ?? "") || randomUUID(),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
      ...(client && { client }),
      ...(sessionTtlMs !== undefined && {
        sessionTtl: convert.duration(check.duration("sessionTtlMs", sessionTtlMs)),
      }),
      ...(idleTimeoutMs !== undefined && {
        idleTimeout: convert.duration(check.duration("idleTimeoutMs", idleTimeoutMs)),
      }),
    });
    try {
      return convert.issuedDevice(await this.#call(rpc.issueDevice, request, options));
    } finally {
      this.#forget(userId);
    }
  }

  /**
   * Renews a session: exchanges its token for the next token. Call this method if a validation has
   * `renewRecommended`, or if the token has expired. The result has no token if the end user's
   * client keeps its token. Throws `not_replicated` if `requireReplicated` is true and too few
   * replicas confirm the renewal in time.
   */
  async renewSession(
    accessToken: string,
    deviceId: string,
    options: o.RenewSessionOptions = {},
  ): Promise<t.Renewal> {
    const client = convert.clientMessage(options.client);
    const request = create(pb.RenewSessionRequestSchema, {
      accessToken: check.presented("accessToken", accessToken),
      deviceId: check.presented("deviceId", deviceId),
      passive: check.flag("passive", options.passive ?? false),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
      ...(client && { client }),
    });
    try {
      return convert.renewal(await this.#call(rpc.renewSession, request, options));
    } finally {
      this.#cache?.discard(accessToken, deviceId);
    }
  }

  /**
   * Changes the claims of a user's live sessions: facts about the user, such as an e-mail address.
   * `claims` replaces all present claims. Returns how many live sessions have the new claims now.
   *
   * A session gets a token with the new claims at its next renewal. Until that renewal, validations
   * of the session return `renewRecommended`. Throws `session_not_found` if `deviceId` is given and
   * the user is not signed in on this device. Throws `invalid_request` if a field breaks a rule.
   */
  async updateSession(
    userId: string,
    claims: t.Claims,
    options: o.UpdateSessionOptions = {},
  ): Promise<number> {
    const request = create(pb.UpdateSessionRequestSchema, {
      userId: check.text("userId", userId),
      deviceId: check.text("deviceId", options.deviceId ?? ""),
      claims: check.claims(claims),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
    });
    try {
      return (await this.#call(rpc.updateSession, request, options)).updatedSessions;
    } finally {
      this.#forget(userId);
    }
  }

  // --- validating -------------------------------------------------------------------------------

  /**
   * Checks a token that a device presented, and returns whether the session is good. If the
   * client's near cache has an answer for the token and device, this method returns the answer of
   * the cache. If not, this method asks the service.
   */
  validateSession(
    accessToken: string,
    deviceId: string,
    options: o.ValidateSessionOptions = {},
  ): Promise<t.Validation> {
    if (this.#cache !== undefined && mayBeCached(options)) {
      const found = this.#cache.get(accessToken, deviceId);
      if (found !== undefined) return Promise.resolve(found);
    }
    return this.#ask(accessToken, deviceId, options);
  }

  async #ask(
    accessToken: string,
    deviceId: string,
    options: o.ValidateSessionOptions,
  ): Promise<t.Validation> {
    const { observeOnly = false, passive = false } = options;
    const client = convert.clientMessage(options.client);
    const request = create(pb.ValidateSessionRequestSchema, {
      accessToken: check.presented("accessToken", accessToken),
      deviceId: check.presented("deviceId", deviceId),
      observeOnly: check.flag("observeOnly", observeOnly),
      passive: check.flag("passive", passive),
      ...(client && { client }),
    });
    const limits = this.#limits(options);
    if (this.#coalescer === undefined || !mayBeCached(options)) {
      return convert.validation(await this.#batchQueue.validate(request, limits));
    }
    this.#cacheWatch?.start();
    return await this.#coalescer.validate(request, limits);
  }

  /**
   * Validates up to 500 pairs of access token and device ID in one call. Returns one item for each
   * pair, in the order of the pairs. If a pair breaks a rule, the item of this pair is an error,
   * and the other items are not affected. No answer comes from the near cache.
   */
  async validateSessions(
    presented: readonly o.Presented[],
    options: o.CallOptions = {},
  ): Promise<(t.Validation | SessionAuthorityError)[]> {
    const requests = presented.map(({ accessToken, deviceId }) => ({
      accessToken: check.presented("accessToken", accessToken),
      deviceId: check.presented("deviceId", deviceId),
    }));
    const request = create(pb.BatchValidateSessionsRequestSchema, { requests });
    const { results } = await this.#call(rpc.batchValidateSessions, request, options);
    return results.map(validationItem);
  }

  /**
   * Checks whether up to 500 sessions still live, for connections that stay open after their tokens
   * expire. The check does not count as a use of the sessions. Returns one item for each session,
   * in the order of the sessions. An item is an error if the state of its session is unknown.
   *
   * Do not decide by this method whether a request is admitted, because this method checks no
   * token.
   */
  async checkSessions(
    sessions: readonly t.SessionName[],
    options: o.CallOptions = {},
  ): Promise<(t.SessionState | SessionAuthorityError)[]> {
    const names = sessions.map(({ userId, deviceId, sessionId }) => ({
      userId: check.text("userId", userId),
      deviceId: check.text("deviceId", deviceId),
      sessionId: check.text("sessionId", sessionId),
    }));
    const request = create(pb.CheckSessionsRequestSchema, { sessions: names });
    const { results } = await this.#call(rpc.checkSessions, request, options);
    return results.map(stateItem);
  }

  /**
   * Calls the listener once when a session has ended. A client with a near cache learns of the end
   * from the events of the cache's watch. A client without a near cache checks the session about
   * once a minute. Returns a function that removes the listener. Throws an `unavailable` error if
   * the client is closed.
   */
  onSessionEnd(session: t.Session, listener: () => void): () => void {
    return this.#endings.listen(session, listener);
  }

  // --- devices ----------------------------------------------------------------------------------

  /** Returns one page of a user's devices. The method `devices` yields the devices of all pages. */
  async listDevices(userId: string, options: o.ListPageOptions = {}): Promise<t.DevicePage> {
    const request = create(pb.ListDevicesRequestSchema, {
      userId: check.text("userId", userId),
      currentDeviceId: check.presented("currentDeviceId", options.currentDeviceId ?? ""),
      includeSignedOut: check.flag("includeSignedOut", options.includeSignedOut ?? false),
      pageSize: check.whole("pageSize", options.pageSize ?? 0),
      pageToken: check.text("pageToken", options.pageToken ?? ""),
    });
    return convert.devicePage(await this.#call(rpc.listDevices, request, options));
  }

  /**
   * Yields a user's devices, most recently used first, for a page such as "My devices". Devices on
   * which the user is signed out are included only if `includeSignedOut` is true.
   */
  async *devices(
    userId: string,
    options: o.ListDevicesOptions = {},
  ): AsyncGenerator<t.Device, void> {
    let pageToken = "";
    do {
      const page = await this.listDevices(userId, { ...options, pageToken });
      yield* page.devices;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Sets the display name of a device. An empty string removes the name. Throws `device_not_found`,
   * `invalid_request` or `not_replicated`.
   */
  async updateDevice(
    userId: string,
    deviceId: string,
    displayName: string,
    options: o.ChangeOptions = {},
  ): Promise<t.Device> {
    const request = create(pb.UpdateDeviceRequestSchema, {
      userId: check.text("userId", userId),
      deviceId: check.text("deviceId", deviceId),
      displayName: check.text("displayName", displayName),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
    });
    return convert.device((await this.#call(rpc.updateDevice, request, options)).device);
  }

  /** Signs a user out on a device. Returns true if the user was signed in on the device. */
  async revokeDevice(
    userId: string,
    deviceId: string,
    options: o.RevokeOptions = {},
  ): Promise<boolean> {
    const request = create(pb.RevokeDeviceRequestSchema, {
      userId: check.text("userId", userId),
      deviceId: check.text("deviceId", deviceId),
      reason: check.text("reason", options.reason ?? ""),
      forget: check.flag("forget", options.forget ?? false),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
    });
    try {
      return (await this.#call(rpc.revokeDevice, request, options)).revoked;
    } finally {
      this.#forget(userId);
    }
  }

  /**
   * Signs a user out on all devices except `exceptDeviceId`. Returns the number of devices on which
   * the user was signed out.
   */
  async revokeAll(userId: string, options: o.RevokeAllOptions = {}): Promise<number> {
    const request = create(pb.RevokeAllRequestSchema, {
      userId: check.text("userId", userId),
      exceptDeviceId: check.text("exceptDeviceId", options.exceptDeviceId ?? ""),
      reason: check.text("reason", options.reason ?? ""),
      forget: check.flag("forget", options.forget ?? false),
      requireReplicated: check.flag("requireReplicated", options.requireReplicated ?? false),
    });
    try {
      return (await this.#call(rpc.revokeAll, request, options)).revokedDevices;
    } finally {
      this.#forget(userId);
    }
  }

  // --- keys and events --------------------------------------------------------------------------

  /**
   * Returns the service's public keys, with which other programs can verify tokens. A verified
   * token may still belong to a session that has ended.
   */
  async getSigningKeys(options: o.CallOptions = {}): Promise<t.SigningKeys> {
    const request = create(pb.GetSigningKeysRequestSchema);
    return convert.signingKeys(await this.#call(rpc.getSigningKeys, request, options));
  }

  /**
   * Watches the events of the service, and yields them in batches. The watch goes on until the
   * service, the connection or the signal ends the watch.
   *
   * The first batch comes at once, and may have no events. Keep the cursor of the last batch. After
   * an `unavailable` error, start a new watch with this cursor. The service limits the calls and
   * watches on one connection with its setting `MAX_PER_CONNECTION`. Throws `cursor_expired` if the
   * watch can't continue from the cursor without missing events.
   */
  async *watchEvents(options: o.WatchEventsOptions = {}): AsyncGenerator<t.EventBatch, void> {
    const { since, types = [] } = options;
    if (!Array.isArray(types)) throw new TypeError("types: an array of types of events");
    for (const type of types) check.member("types", convert.EVENT_TYPES, type);
    const request = create(pb.WatchEventsRequestSchema, {
      cursor: check.text("cursor", options.cursor ?? ""),
      types: types.map(convert.eventType),
      userIds: check.texts("userIds", options.userIds ?? []),
      ...(since && { startTime: convert.timestamp(check.moment("since", since)) }),
    });
    for await (const message of this.#calls.watch(request, options.signal)) {
      yield convert.eventBatch(message);
    }
  }
}

/**
 * Wraps a log function so that its errors are dropped, because an error of the log must not end the
 * cache's watch.
 */
function harmless(log: (message: string) => void): (message: string) => void {
  if (typeof log !== "function") throw new TypeError(`log: a function, not ${typeof log}`);
  return (message) => {
    try {
      log(message);
    } catch {
      return; // there is nowhere to report the error
    }
  };
}

function mayBeCached({ observeOnly, passive }: o.ValidateSessionOptions): boolean {
  return !observeOnly && !passive;
}
