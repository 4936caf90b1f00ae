/**
 * Checks and makes the signatures of webhooks, as Standard Webhooks defines them. A good signature
 * proves that a request came from the service and is recent. This module does not parse the body of
 * a request.
 */

import { createHmac, timingSafeEqual } from "node:crypto";

const PREFIX = "whsec_";
const TOLERANCE_MS = 5 * 60_000;

/**
 * The headers of a request: an object as Node, Express and Fastify have it, or the `Headers` of
 * `fetch`.
 */
export type WebhookHeaders =
  | { get(name: string): string | null | undefined }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** A request that may be a webhook. */
export interface WebhookRequest {
  /**
   * The secret of the endpoint, `whsec_...`. While you replace a secret by a new one, pass both
   * secrets.
   */
  readonly secret: string | readonly string[];
  readonly headers: WebhookHeaders;
  /** The raw body of the request, before any parsing. */
  readonly body: string | Uint8Array;
  /**
   * How far the timestamp of the request may be from `now`, in milliseconds. Default: 300,000.
   */
  readonly toleranceMs?: number | undefined;
  /** The present time. Tests pass a time of their own. Default: the time of the machine. */
  readonly now?: Date | undefined;
}

/**
 * Returns true if the request has a signature made with a secret of the endpoint, and its timestamp
 * is within the tolerance. Don't trust the body if the result is false. The same event may come
 * twice, with the same value of the header `webhook-id`. Store the values of this header to detect
 * an event that came before.
 *
 * Throws RangeError for a malformed secret.
 */
export function verifyWebhook(request: WebhookRequest): boolean {
  const { secret, headers, body, toleranceMs = TOLERANCE_MS, now = new Date() } = request;
  const keys = (typeof secret === "string" ? [secret] : secret).map(keyOf);
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  if (id === "" || !/^\d{1,15}$/.test(timestamp)) return false;
  // The condition is `!(x <= y)` and not `x > y`: every comparison with NaN is false, so `x > y`
  // would accept the request if the tolerance is NaN.
  if (!(Math.abs(now.getTime() - Number(timestamp) * 1000) <= toleranceMs)) return false;
  const presented = signatures
    .split(" ")
    .filter((signature) => signature.startsWith("v1,"))
    .map((signature) => Buffer.from(signature.slice(3)));
  return keys.some((key) => {
    const expected = Buffer.from(sign(key, id, timestamp, body));
    return presented.some(
      (signature) => signature.length === expected.length && timingSafeEqual(signature, expected),
    );
  });
}

/**
 * Returns the headers that the service would send with this webhook, so that a receiver can be
 * tested. Throws RangeError for a malformed secret.
 */
export function webhookHeaders(
  secret: string | readonly string[],
  id: string,
  body: string | Uint8Array,
  now: Date = new Date(),
): Record<"webhook-id" | "webhook-timestamp" | "webhook-signature", string> {
  const keys = (typeof secret === "string" ? [secret] : secret).map(keyOf);
  const timestamp = String(Math.floor(now.getTime() / 1000));
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": keys.map((key) => `v1,${sign(key, id, timestamp, body)}`).join(" "),
  };
}

function sign(key: Buffer, id: string, timestamp: string, body: string | Uint8Array): string {
  return createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
}

function keyOf(secret: string): Buffer {
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret;
  const key = Buffer.from(text, "base64");
  if (key.length === 0 || key.toString("base64").replace(/=+$/, "") !== text.replace(/=+$/, "")) {
    throw new RangeError("secret: whsec_ and base64");
  }
  return key;
}

function header(headers: WebhookHeaders, name: string): string {
  // The next line checks for the method `get` and not for the class `Headers`, because a package
  // that provides `fetch` may have a `Headers` class of its own.
  if (typeof headers.get === "function") return headers.get(name) ?? "";
  const value = (headers as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : "";
}
