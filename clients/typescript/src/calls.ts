/**
 * Makes the calls of a client. Every call except a watch has a deadline, a slot and retries. A
 * failure of the service or of the connection becomes a `SessionAuthorityError`.
 *
 * The service limits the number of calls that a connection carries at once. Calls above this limit
 * would wait inside gRPC. So this module gives a call to gRPC only when the call has a slot. The
 * deadline of a call includes the wait for its slot.
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

// The client itself fails a call that the transport has not ended this long after the call's
// deadline.
const LOST_AFTER_MS = 2_000;
// A watch has no deadline. This limit keeps a watch from waiting for ever for the caller's token.
export const MAX_TOKEN_WAIT_MS = 15_000;

/** The limits of a call: its timeout, and the signal that can end the call earlier. */
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

  /**
   * Waits for a slot, and makes a call in it. Returns the response. Throws if the call fails. Also
   * throws when the timeout is over or the signal aborts, even if the call still waits for a slot.
   */
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

  /** Makes a call in a slot that was acquired before. Releases the slot when the call ends. */
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
   * Returns the headers of a call. If the caller's token comes from a function, this method waits
   * for the function. The timeout, the signal and `close` end this wait.
   */
  async #headers(
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Readonly<Record<string, string>>> {
    const headers = callHeaders(this.#token);
    if (typeof this.#token !== "function") return await headers;
    return await within(within(headers, timeoutMs, signal), timeoutMs, this.#closing.signal);
  }

  /** Opens a watch, and yields its messages. A watch needs no slot. */
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

  /** Ends all calls that are under way or wait for a slot, and refuses new calls. */
  close(): void {
    this.limiter.close();
    this.#closing.abort();
    this.#transport.close();
  }

  /**
   * Waits `ms` milliseconds before the next attempt. `close` ends the wait earlier. Throws the
   * signal's reason if the signal aborts.
   */
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

  /**
   * Waits for a slot. Throws `unavailable` after the timeout or if the client is closed, and the
   * signal's reason if the signal aborts.
   */
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
 * Returns the result of `work`, or throws its error. If `work` is not settled after the timeout,
 * throws an `unavailable` error. If the signal aborts first, throws the signal's reason.
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
