/**
 * Makes every call of a client, with its deadline, its slot and its retries. Failures of the
 * service and of the connection become errors of one class.
 *
 * A connection carries a limited number of calls at once. Further calls would wait inside gRPC. So
 * calls wait here for a slot, within their own deadline.
 */

import type { DescMessage, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";

import { SessionAuthorityError } from "./errors.js";
import { clientClosed, codeOf, errorOfStatus, tooLate } from "./failures.js";
import {
  SessionAuthorityService,
  type WatchEventsRequest,
  type WatchEventsResponse,
} from "./gen/session_authority/v1/session_authority_pb.js";
import { Limiter } from "./limiter.js";
import { Retries, RetryThrottle } from "./retries.js";
import { callHeaders, type CallerToken, type Transport, TransportError } from "./transport.js";

// If the transport has not ended a call this long after its deadline, the call is ended here.
const LOST_AFTER_MS = 2_000;
// A watch has no deadline. This limit keeps it from waiting for ever for the caller's token.
export const MAX_TOKEN_WAIT_MS = 15_000;

/** The timeout of a call, and the signal that ends the call earlier. */
export interface CallLimits {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Makes the calls of one client. */
export class Calls {
  readonly limiter: Limiter;
  readonly #transport: Transport;
  readonly #token: CallerToken | undefined;
  readonly #throttle = new RetryThrottle();
  readonly #closing = new AbortController();

  constructor(open: () => Transport, token: CallerToken | undefined, maxInFlight: number) {
    this.limiter = new Limiter(maxInFlight);
    this.#transport = open();
    this.#token = token;
  }

  /** Waits for a slot and makes a call. Returns the response, or throws, within the limits. */
  async make<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { timeoutMs, signal }: CallLimits,
  ): Promise<MessageShape<O>> {
    if (this.limiter.closed) throw clientClosed();
    signal?.throwIfAborted();
    const deadline = performance.now() + timeoutMs;
    if (!this.limiter.tryAcquire()) await this.#slot(timeoutMs, signal);
    return await this.makeInSlot(method, request, {
      timeoutMs: deadline - performance.now(),
      signal,
    });
  }

  /** Makes a call in a slot that was acquired before, and releases the slot. */
  async makeInSlot<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { timeoutMs, signal }: CallLimits,
  ): Promise<MessageShape<O>> {
    const deadline = performance.now() + timeoutMs;
    const retries = new Retries(this.#throttle);
    try {
      for (;;) {
        try {
          const left = deadline - performance.now();
          const response = await this.#attempt(method, request, left, signal);
          this.#throttle.succeeded();
          return response;
        } catch (error) {
          signal?.throwIfAborted();
          if (this.limiter.closed) throw clientClosed();
          if (!(error instanceof TransportError)) throw error;
          const pause = retries.pauseMs(error.code);
          if (pause === undefined || performance.now() + pause >= deadline) throw failure(error);
          await this.#pause(pause, signal);
        }
      }
    } finally {
      this.limiter.release();
    }
  }

  async #attempt<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<MessageShape<O>> {
    if (this.limiter.closed) throw clientClosed();
    if (timeoutMs <= 0) throw tooLate();
    const headers = await this.#headers(timeoutMs, signal);
    const call = this.#transport.unary(method, request, { headers, signal, timeoutMs });
    return await within(call, timeoutMs + LOST_AFTER_MS, undefined);
  }

  /**
   * Returns the headers of a call. If `token` is a function, it may wait for any length of time:
   * the timeout, the signal and `close` end that wait.
   */
  async #headers(
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Readonly<Record<string, string>>> {
    const headers = callHeaders(this.#token);
    if (typeof this.#token !== "function") return await headers;
    return await within(within(headers, timeoutMs, signal), timeoutMs, this.#closing.signal);
  }

  /** Yields the messages of a watch. A watch needs no slot. */
  async *watch(
    request: WatchEventsRequest,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<WatchEventsResponse, void> {
    if (this.limiter.closed) throw clientClosed();
    signal?.throwIfAborted();
    try {
      const headers = await this.#headers(MAX_TOKEN_WAIT_MS, signal);
      const method = SessionAuthorityService.method.watchEvents;
      yield* this.#transport.stream(method, request, { headers, signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (this.limiter.closed) throw clientClosed();
      throw error instanceof TransportError ? failure(error) : error;
    }
    if (this.limiter.closed) throw clientClosed();
  }

  /** Ends all calls that are under way or wait for a slot, and refuses new ones. */
  close(): void {
    this.limiter.close();
    this.#closing.abort();
    this.#transport.close();
  }

  /** Waits before the next attempt. */
  async #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", wake);
        this.#closing.signal.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      signal?.addEventListener("abort", wake);
      this.#closing.signal.addEventListener("abort", wake);
    });
    signal?.throwIfAborted();
  }

  /** Waits for a slot. */
  async #slot(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      let waits = true;
      const settle = (act: () => void): boolean => {
        if (!waits) return false;
        waits = false;
        clearTimeout(expiry);
        signal?.removeEventListener("abort", abort);
        act();
        return true;
      };
      const granted = (error?: SessionAuthorityError) =>
        settle(() => {
          if (error === undefined) resolve();
          else reject(error);
        });
      const giveUp = (error: unknown) => {
        this.limiter.withdraw(granted);
        settle(() => {
          reject(error);
        });
      };
      const abort = () => {
        giveUp(signal?.reason);
      };
      const expiry = setTimeout(() => {
        giveUp(this.limiter.timedOut());
      }, timeoutMs);
      signal?.addEventListener("abort", abort);
      if (this.limiter.acquireOrQueue(granted)) granted();
    });
  }
}

/**
 * Settles as `work` does. Rejects earlier with an `unavailable` error after the timeout, and with
 * the signal's reason if the signal aborts.
 */
export async function within<T>(
  work: Promise<T>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const settled = () => {
      clearTimeout(expiry);
      signal?.removeEventListener("abort", abort);
    };
    const abort = () => {
      settled();
      reject(signal?.reason as Error);
    };
    const expiry = setTimeout(() => {
      settled();
      reject(tooLate());
    }, timeoutMs);
    signal?.addEventListener("abort", abort);
    work.then(
      (value) => {
        settled();
        resolve(value);
      },
      (error: unknown) => {
        settled();
        reject(error);
      },
    );
  });
}

function failure(error: TransportError): SessionAuthorityError {
  return errorOfStatus(codeOf(error.code), error.message, error.details);
}
