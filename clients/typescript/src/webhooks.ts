/**
 * Owns the signatures of webhooks (Standard Webhooks): whether a request came from the service, and
 * came just now. What is in the body is the reader's concern.
 */

import { createHmac, timingSafeEqual } from "node:crypto";

const PREFIX = "whsec_";
const TOLERANCE_MS = 5 * 60_000;

/** Headers as Node, Express and Fastify have them, or as any `fetch` has them. */
export type WebhookHeaders =
  | { get(name: string): string | null | undefined }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** A request that may be a webhook. */
export interface WebhookRequest {
  /** The secret of the endpoint, `whsec_...`; several while secrets are exchanged. */
  readonly secret: string | readonly string[];
  readonly headers: WebhookHeaders;
  /** The body as it came, before anything has parsed it. */
  readonly body: string | Uint8Array;
  /** How far the sender's clock may be off, in milliseconds. 300,000 if not given. */
  readonly toleranceMs?: number | undefined;
  /** For tests. */
  readonly now?: Date | undefined;
}

/**
 * Returns true if a request was signed with the secret, and lately. Only then may its body be
 * believed. The same event may come twice: remember the header `webhook-id`.
 *
 * Throws RangeError if a secret is none.
 */
export function verifyWebhook(request: WebhookRequest): boolean {
  const { secret, headers, body, toleranceMs = TOLERANCE_MS, now = new Date() } = request;
  const keys = (typeof secret === "string" ? [secret] : secret).map(keyOf);
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  if (id === "" || !/^\d{1,15}$/.test(timestamp)) return false;
  // Not `>`: a tolerance that is no number must refuse, and NaN is not larger than anything.
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
 * The headers with which the service signs a webhook, for the tests of receivers. Throws RangeError
 * if a secret is none.
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
  // By its method, as a `fetch` from a package has a class of its own.
  if (typeof headers.get === "function") return headers.get(name) ?? "";
  const value = (headers as Readonly<Record<string, unknown>>)[name];
  return typeof value === "string" ? value : "";
}
