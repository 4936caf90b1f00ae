/**
 * Owns the signatures of webhooks (Standard Webhooks): checks that a request came from the service,
 * and that it is recent. The receiver parses the body.
 */

import { createHmac, timingSafeEqual } from "node:crypto";

const PREFIX = "whsec_";
const TOLERANCE_MS = 5 * 60_000;

/** The headers of a request, as Node, Express and Fastify have them, or as `fetch` has them. */
export type WebhookHeaders =
  | { get(name: string): string | null | undefined }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** A request that may be a webhook. */
export interface WebhookRequest {
  /** The secret of the endpoint, `whsec_...`. Pass several secrets while you exchange them. */
  readonly secret: string | readonly string[];
  readonly headers: WebhookHeaders;
  /** The raw body, before any parsing. */
  readonly body: string | Uint8Array;
  /**
   * How far the timestamp of the request may be from `now`, in milliseconds. Default: 300,000.
   */
  readonly toleranceMs?: number | undefined;
  /** The present time. Tests pass their own. Default: the time of the machine. */
  readonly now?: Date | undefined;
}

/**
 * Returns true if a request was signed with a secret of the endpoint, and recently. Trust its body
 * only then. The same event may come twice: remember the values of the header `webhook-id`.
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
  // This is not written with `>`: if the tolerance is NaN, the request must be refused, and no
  // comparison with NaN is true.
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
 * Returns the headers with which the service would sign a webhook, for the tests of receivers.
 * Throws RangeError for a malformed secret.
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
  // The check looks for the method and not for the class `Headers`, because a `fetch` from a
  // package has its own class.
  if (typeof headers.get === "function") return headers.get(name) ?? "";
  const value = (headers as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : "";
}
