/**
 * Asks the service if the near cache has no answer. Callers that validate the same token from the
 * same device share one request.
 *
 * A caller that joins a request gets an answer that may be as old as the request. So a caller joins
 * only while the cache is live, and only if no event of any user came since the request was sent.
 * A caller that comes after the event of a revocation never joins a request from before the event.
 */

import type { BatchQueue } from "./batching.js";
import type { NearCache, Ticket } from "./cache.js";
import { type CallLimits, within } from "./calls.js";
import * as convert from "./convert.js";
import { SessionAuthorityError } from "./errors.js";
import { copyOf } from "./failures.js";
import type { ValidateSessionRequest } from "./gen/session_authority/v1/session_authority_pb.js";
import type { Validation } from "./types.js";

/** Makes the validations that the cache could not answer. */
export class Coalescer {
  readonly #cache: NearCache;
  readonly #queue: BatchQueue;
  readonly #flights = new Map<string, Promise<Validation>>();

  constructor(cache: NearCache, queue: BatchQueue) {
    this.#cache = cache;
    this.#queue = queue;
  }

  /** Returns the service's answer within the limits of the caller. */
  async validate(request: ValidateSessionRequest, limits: CallLimits): Promise<Validation> {
    const { signal } = limits;
    const deadline = performance.now() + limits.timeoutMs;
    for (;;) {
      signal?.throwIfAborted();
      const timeoutMs = deadline - performance.now();
      const ticket = this.#cache.ticket();
      if (ticket === undefined) {
        return convert.validation(await this.#queue.validate(request, { timeoutMs, signal }));
      }
      const key = flightKey(request, ticket);
      const known = this.#flights.get(key);
      const flight = known ?? this.#begin(key, ticket, request, timeoutMs);
      try {
        return await within(flight, timeoutMs, signal);
      } catch (error) {
        // A caller with a longer timeout than the first caller sends a request of its own.
        const again = known !== undefined && hadTooLittleTime(error);
        if (again && performance.now() < deadline) continue;
        throw copyOf(error);
      }
    }
  }

  /** Starts a request that callers share. The signal of one caller does not end it. */
  #begin(
    key: string,
    ticket: Ticket,
    request: ValidateSessionRequest,
    timeoutMs: number,
  ): Promise<Validation> {
    const flight = this.#askAndStore(ticket, request, timeoutMs).finally(() => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#flights.set(key, flight);
    flight.catch(() => undefined); // all callers may have given up
    return flight;
  }

  async #askAndStore(
    ticket: Ticket,
    request: ValidateSessionRequest,
    timeoutMs: number,
  ): Promise<Validation> {
    const limits = { timeoutMs, signal: undefined };
    const answer = convert.validation(await this.#queue.validate(request, limits));
    this.#cache.store(ticket, request.accessToken, request.deviceId, answer);
    return answer;
  }
}

/** Returns the key of a shared request. Later callers have another key after the next event. */
function flightKey({ accessToken, deviceId }: ValidateSessionRequest, ticket: Ticket): string {
  return JSON.stringify([accessToken, deviceId, ticket.watch, ticket.events]);
}

/**
 * Returns true if a call failed only because it had too little time. Then a caller with a longer
 * timeout may try again. The service refuses a call that it can't answer in time, with the reason
 * `DEADLINE_TOO_SHORT`.
 */
function hadTooLittleTime(error: unknown): boolean {
  return (
    error instanceof SessionAuthorityError &&
    error.unavailable &&
    (error.code === "DEADLINE_EXCEEDED" || error.reason === "DEADLINE_TOO_SHORT")
  );
}
