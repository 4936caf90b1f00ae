/** Exports the public API of the package. */

export { type CacheStats, type DroppedCounts, NearCache, type NearCacheOptions } from "./cache.js";
export { DEFAULT_TIMEOUT_MS, SessionAuthority } from "./client.js";
export type { Clocks } from "./clocks.js";
export {
  type ErrorFacts,
  type ErrorKind,
  type FieldViolation,
  isUnavailable,
  SessionAuthorityError,
  type StatusCode,
} from "./errors.js";
export { grpcTransport } from "./grpc_transport.js";
export type * from "./options.js";
export {
  type AttemptOptions,
  type CallerToken,
  type StatusDetail,
  type Tls,
  type Transport,
  TransportError,
  type TransportFactory,
  type TransportSettings,
} from "./transport.js";
export type * from "./types.js";
export { verifyWebhook, type WebhookHeaders, type WebhookRequest } from "./webhooks.js";
