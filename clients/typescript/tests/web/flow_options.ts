/** Converts options of the middleware, and headers, from the form in `clients/vectors`. */

import type { FlowOptions, SameSite } from "../../src/web/public.js";
import type { VectorSettings } from "../vectors.js";

const RULES: Readonly<Record<string, SameSite>> = { strict: "Strict", lax: "Lax" };

/** Returns the options of the middleware for the settings of a file. */
export function optionsOf(settings: VectorSettings): FlowOptions {
  const rule = (name: unknown) => RULES[name as string] ?? (name as SameSite);
  const s = settings as any;
  return {
    cookies: {
      token: s.token_cookie,
      device: s.device_cookie,
      sameSite: rule(s.same_site),
      ...(s.device_same_site === null ? {} : { deviceSameSite: rule(s.device_same_site) }),
      insecure: s.insecure_cookies,
    },
    deviceHeader: s.device_header,
    bearer: s.bearer,
    checkOrigin: s.check_origin,
    trustedOrigins: s.trusted_origins,
    trustedProxies: s.trusted_proxies,
    returnPaths: s.return_paths,
    passivePaths: s.passive_paths,
    ...(s.sign_in_url === null ? {} : { signInUrl: s.sign_in_url }),
    log: { error: () => undefined, warn: () => undefined, info: () => undefined },
  };
}

/** Returns the headers in the form of the middleware, from pairs in the order of arrival. */
export function headerLists(pairs: readonly (readonly [string, string])[]) {
  const lists: Record<string, string[]> = {};
  for (const [name, value] of pairs) (lists[name] ??= []).push(value);
  return lists;
}
