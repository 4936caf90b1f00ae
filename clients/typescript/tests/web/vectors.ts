/** Loads the cases that all clients share, and the list of those that this client skips. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import type { FlowOptions, SameSite } from "../../src/web/public.js";

/** One case. Its parts differ from file to file. */
export interface Vector {
  readonly id: string;
  readonly given: any;
  readonly expected: any;
}

/** The settings of an app, as the files name them. */
export type VectorSettings = Readonly<Record<string, unknown>>;

/** The folder of the client, above the compiled tests. */
export const CLIENT = upTo("package.json");
const VECTORS = join(CLIENT, "..", "vectors");

function upTo(name: string): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    if (existsSync(join(at, name))) return at;
    if (at === dirname(at)) throw new Error(`no ${name} above the tests`);
  }
}

function read(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** How the cases of a file are run. */
export interface VectorOptions {
  /** The way in which they are run, for the names of the tests. */
  readonly over?: string;
  /** Cases that another way runs. */
  readonly leavesOut?: (vector: Vector) => boolean;
}

/**
 * Makes one test of each case of a file. Cases are skipped only with a reason, and if they exist.
 */
export function testVectors(
  file: string,
  run: (vector: Vector, settings: VectorSettings) => unknown,
  { over, leavesOut = () => false }: VectorOptions = {},
): void {
  const { cases, settings = {} } = read(join(VECTORS, `${file}.json`)) as {
    cases: Vector[];
    settings?: VectorSettings;
  };
  const skips = read(join(CLIENT, "vectors.skip.json")) as Record<string, string>;
  const ids = new Set(cases.map(({ id }) => `${file}/${id}`));
  test(`${file}: each skip has a reason, and is one of its cases`, () => {
    assert.ok(ids.size > 0);
    for (const [id, reason] of Object.entries(skips)) {
      if (!id.startsWith(`${file}/`)) continue;
      assert.ok(ids.has(id), `${id} is no case`);
      assert.notEqual(reason.trim(), "", `${id} has no reason`);
    }
  });
  for (const vector of cases) {
    if (leavesOut(vector)) continue;
    const id = `${file}/${vector.id}`;
    const reason = skips[id];
    test(
      over === undefined ? id : `${id} over ${over}`,
      reason === undefined ? {} : { skip: reason },
      async () => {
        const given = (vector.given as { settings?: VectorSettings }).settings ?? {};
        const found = await run(vector, { ...settings, ...given });
        // As JSON has it: without what is undefined, and without prototypes.
        assert.deepEqual(JSON.parse(JSON.stringify(found)), vector.expected);
      },
    );
  }
}

const RULES: Readonly<Record<string, SameSite>> = { strict: "Strict", lax: "Lax" };

/** The options of the middleware for the settings of a file. */
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

/** Headers as the middleware has them, of pairs in the order of arrival. */
export function headerLists(pairs: readonly (readonly [string, string])[]) {
  const lists: Record<string, string[]> = {};
  for (const [name, value] of pairs) (lists[name] ??= []).push(value);
  return lists;
}
