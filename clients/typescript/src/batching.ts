/**
 * Batches validations adaptively. If no validation is under way, a validation is sent at once.
 * Validations that arrive meanwhile are sent together afterwards, as one batch.
 *
 * No caller waits for a batch to fill: at low load each validation is one call, as it would be
 * without batching. Each caller keeps its own deadline, signal and errors.
 */

import { create, toBinary } from "@bufbuild/protobuf";

import type { CallLimits, Calls } from "./calls.js";
import type { SessionAuthorityError } from "./errors.js";
import { clientClosed, copyOf, internalError, tooLate } from "./failures.js";
import * as pb from "./gen/session_authority/v1/session_authority_pb.js";
import { validationMessage } from "./items.js";

const { method: rpc } = pb.SessionAuthorityService;

// The service accepts 500 requests, in a message of 4 MiB.
const MAX_BATCH_ITEMS = 500;
const MAX_BATCH_BYTES = 3 * 1024 * 1024;
// A good request is smaller than this. The service refuses a single validation of more than 64 KiB.
// The client sends a request over this limit alone, so that the requests of other callers don't
// fail if this request is refused.
const MAX_ITEM_BYTES = 8 * 1024;
// When a caller has waited for this time, or for this share of its timeout, it does not wait any
// longer for the call that is under way. A batch is sent while that call goes on.
const MAX_WAIT_MS = 50;
const MAX_WAIT_SHARE = 0.25;
// When this many callers are queued, a second batch is sent: the service can read the second batch
// while it answers the first one.
const SECOND_BATCH_WAITERS = 32;

type Request = pb.ValidateSessionRequest;
type Response = pb.ValidateSessionResponse;

/** A caller in the queue. `deadline` is a time of `performance.now()`. */
class Waiter {
  readonly promise: Promise<Response>;
  done = false;
  #resolve!: (response: Response) => void;
  #reject!: (error: unknown) => void;
  #settled: () => void;

  constructor(
    readonly request: Request,
    readonly bytes: number,
    { timeoutMs, signal }: CallLimits,
    readonly deadline: number,
    expire: (waiter: Waiter) => void,
  ) {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const expiry = setTimeout(expire, timeoutMs, this);
    const abort = () => {
      this.fail(signal?.reason);
    };
    signal?.addEventListener("abort", abort);
    this.#settled = () => {
      this.done = true;
      clearTimeout(expiry);
      signal?.removeEventListener("abort", abort);
    };
  }

  settle(response: Response): void {
    if (this.done) return;
    this.#settled();
    this.#resolve(response);
  }

  fail(error: unknown): void {
    if (this.done) return;
    this.#settled();
    this.#reject(error);
  }
}

/** The queue of the validations of one client. */
export class BatchQueue {
  readonly #calls: Calls;
  readonly #batching: boolean;
  #queue: Waiter[] = [];
  #underWay = 0;
  #waitsForSlot = false;
  #due: { readonly cancel: () => void } | undefined;

  constructor(calls: Calls, batching: boolean) {
    this.#calls = calls;
    this.#batching = batching;
  }

  /** Sends a validation, alone or in a batch. Returns the response within the caller's limits. */
  async validate(request: Request, limits: CallLimits): Promise<Response> {
    if (!this.#batching) return await this.#calls.make(rpc.validateSession, request, limits);
    if (this.#underWay === 0 && this.#queue.length === 0) {
      this.#underWay += 1;
      try {
        return await this.#calls.make(rpc.validateSession, request, limits);
      } finally {
        this.#ended();
      }
    }
    const bytes = sizeOf(request);
    if (bytes > MAX_ITEM_BYTES) {
      return await this.#calls.make(rpc.validateSession, request, limits);
    }
    if (this.#calls.limiter.closed) throw clientClosed();
    limits.signal?.throwIfAborted();
    const deadline = performance.now() + limits.timeoutMs;
    const waiter = new Waiter(request, bytes, limits, deadline, this.#expire);
    this.#enqueue(waiter, limits.timeoutMs);
    return await waiter.promise;
  }

  #enqueue(waiter: Waiter, timeoutMs: number): void {
    this.#queue.push(waiter);
    if (this.#due === undefined && !this.#waitsForSlot) {
      const timer = setTimeout(this.#send, Math.min(MAX_WAIT_MS, timeoutMs * MAX_WAIT_SHARE));
      this.#due = {
        cancel: () => {
          clearTimeout(timer);
        },
      };
    }
    const full = this.#queue.length === SECOND_BATCH_WAITERS && this.#underWay < 2;
    if (full && this.#due !== undefined) this.#sendSoon();
  }

  /**
   * Sends the next batch as soon as the callers that were just answered have run. If they validate
   * again, their validations are in the batch.
   */
  #sendSoon(): void {
    this.#due?.cancel();
    const soon = setImmediate(this.#send);
    this.#due = {
      cancel: () => {
        clearImmediate(soon);
      },
    };
  }

  readonly #expire = (waiter: Waiter): void => {
    const withoutSlot = this.#waitsForSlot && this.#queue.includes(waiter);
    waiter.fail(withoutSlot ? this.#calls.limiter.timedOut() : tooLate());
  };

  #ended(): void {
    this.#underWay -= 1;
    if (this.#queue.length > 0 && this.#underWay === 0) this.#sendSoon();
  }

  readonly #send = (): void => {
    this.#due?.cancel();
    this.#due = undefined;
    while (this.#queue.length > 0 && !this.#waitsForSlot) {
      this.#waitsForSlot = true;
      if (!this.#calls.limiter.acquireOrQueue(this.#granted)) return;
      if (!this.#granted()) this.#calls.limiter.release();
    }
  };

  /**
   * Sends a batch in the slot that was granted. The callers that are queued by now go into it.
   * Returns false if the slot was not needed, or if the limiter was closed.
   */
  readonly #granted = (closed?: SessionAuthorityError): boolean => {
    this.#waitsForSlot = false;
    if (closed !== undefined) {
      this.#failQueue(closed);
      return false;
    }
    const waiters = this.#takeBatch();
    if (waiters.length === 0) return false;
    this.#underWay += 1;
    void this.#sendBatch(waiters);
    if (this.#queue.length > 0 && this.#due === undefined) this.#sendSoon();
    return true;
  };

  /** Removes the next batch from the queue, and the callers that have given up. */
  #takeBatch(): Waiter[] {
    const batch: Waiter[] = [];
    let [bytes, passed] = [0, 0];
    for (const waiter of this.#queue) {
      if (!waiter.done) {
        if (batch.length === MAX_BATCH_ITEMS || bytes + waiter.bytes > MAX_BATCH_BYTES) break;
        batch.push(waiter);
        bytes += waiter.bytes;
      }
      passed += 1;
    }
    this.#queue = this.#queue.slice(passed);
    return batch;
  }

  async #sendBatch(waiters: readonly Waiter[]): Promise<void> {
    // The timeout of a batch is the longest of its callers' timeouts. The others leave earlier.
    const deadline = Math.max(...waiters.map((waiter) => waiter.deadline));
    const limits = { timeoutMs: deadline - performance.now(), signal: undefined };
    const [first] = waiters;
    try {
      if (waiters.length === 1 && first !== undefined) {
        first.settle(await this.#calls.makeInSlot(rpc.validateSession, first.request, limits));
        return;
      }
      const requests = waiters.map((waiter) => waiter.request);
      const message = create(pb.BatchValidateSessionsRequestSchema, { requests });
      const response = await this.#calls.makeInSlot(rpc.batchValidateSessions, message, limits);
      settle(waiters, response);
    } catch (error) {
      fail(waiters, error);
    } finally {
      this.#ended();
    }
  }

  /** Fails all queued callers. Close the calls of the client first, so that no batch is sent. */
  close(): void {
    this.#due?.cancel();
    this.#due = undefined;
    this.#failQueue(clientClosed());
  }

  #failQueue(error: SessionAuthorityError): void {
    const queue = this.#queue;
    this.#queue = [];
    fail(queue, error);
  }
}

function sizeOf(request: Request): number {
  // UTF-8 needs at most three bytes for one unit of UTF-16. With this bound, most requests need
  // not be encoded only to learn their size.
  if (request.client === undefined) {
    const letters = request.accessToken.length + request.deviceId.length;
    if (letters * 3 < MAX_ITEM_BYTES / 2) return letters + 16;
  }
  return toBinary(pb.ValidateSessionRequestSchema, request).length;
}

/** Gives each caller its own part of the response. */
function settle(
  waiters: readonly Waiter[],
  { results }: pb.BatchValidateSessionsResponse,
): void {
  if (results.length !== waiters.length) {
    fail(waiters, internalError("the answer is not one for each request"));
    return;
  }
  waiters.forEach((waiter, index) => {
    const result = results[index];
    if (result === undefined) return;
    const found = validationMessage(result);
    if (found instanceof Error) waiter.fail(found);
    else waiter.settle(found);
  });
}

/** Fails each caller with its own copy of the error: a caller may change the error. */
function fail(waiters: readonly Waiter[], error: unknown): void {
  for (const waiter of waiters) waiter.fail(copyOf(error));
}
