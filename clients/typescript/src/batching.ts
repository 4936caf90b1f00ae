/**
 * Sends validations in batches when there are many. If no validation is under way, a new validation
 * is sent at once. Validations that arrive while a call is under way are queued. When the call
 * ends, or after at most 50 milliseconds, the queued validations are sent together, as one batch.
 *
 * No validation waits for a batch to become full. At low load, each validation is a call of its
 * own, as without batching. Each caller keeps its own deadline, signal and errors.
 */

import { create, toBinary } from "@bufbuild/protobuf";

import type { CallLimits, Calls } from "./calls.js";
import type { SessionAuthorityError } from "./errors.js";
import { clientClosed, copyOf, internalError, tooLate } from "./failures.js";
import * as pb from "./gen/session_authority/v1/session_authority_pb.js";
import { validationMessage } from "./items.js";

const { method: rpc } = pb.SessionAuthorityService;

// The service accepts at most 500 requests in a batch, and a message of at most 4 MiB.
const MAX_BATCH_ITEMS = 500;
const MAX_BATCH_BYTES = 3 * 1024 * 1024;
// A good request is smaller than this limit. A larger request is sent in a call of its own, because
// the service may refuse it. If the request were in a batch, the refusal would fail all callers of
// the batch. The service refuses a single validation of more than 64 KiB.
const MAX_ITEM_BYTES = 8 * 1024;
// If a call is under way, the first caller in the queue waits at most this time, and at most this
// share of its timeout. After this wait the queue is sent, even if the call is still under way.
const MAX_WAIT_MS = 50;
const MAX_WAIT_SHARE = 0.25;
// When this many callers are queued and one call is under way, the queue is sent at once. The
// service can read the second call while it answers the first call.
const SECOND_BATCH_WAITERS = 32;

type Request = pb.ValidateSessionRequest;
type Response = pb.ValidateSessionResponse;

/**
 * A caller that waits in the queue for the answer to its request. `deadline` is a time of
 * `performance.now()`.
 */
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

/** Queues the validations of one client, and sends them in batches. */
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

  /**
   * Sends a validation, alone or in a batch. Returns the response to this validation. Throws if the
   * call fails, if the caller's timeout is over, or if the caller's signal aborts.
   */
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
   * Sends the next batch as soon as the callers that just got their answers have run. If these
   * callers validate again, the batch contains their new validations, too.
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
   * Sends a batch with the callers that are queued now, in the slot that the limiter granted. If
   * `closed` is given, the limiter was closed: fails the queued callers with this error. Returns
   * true if the slot is used.
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

  /**
   * Removes the next batch from the queue, and returns it. Also removes callers that already have a
   * result or an error.
   */
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
    // The deadline of a batch is the latest deadline of its callers. A caller with an earlier
    // deadline gets a timeout error at its own deadline.
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

  /**
   * Fails all queued callers. Call this method after `Calls.close`, so that no further batch is
   * sent.
   */
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
  // UTF-8 needs at most three bytes for one UTF-16 unit. With this upper bound, most requests prove
  // to be small enough without being encoded.
  if (request.client === undefined) {
    const letters = request.accessToken.length + request.deviceId.length;
    if (letters * 3 < MAX_ITEM_BYTES / 2) return letters + 16;
  }
  return toBinary(pb.ValidateSessionRequestSchema, request).length;
}

/** Gives each caller its own item of the batch's response. */
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

/** Fails each caller with its own copy of the error, because a caller may change its error. */
function fail(waiters: readonly Waiter[], error: unknown): void {
  for (const waiter of waiters) waiter.fail(copyOf(error));
}
