/**
 * Runs the cases that all clients share: one test for each case of a file of `clients/vectors`. The
 * cases that this client skips are in `vectors.skip.json`, each with its reason.
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

const VECTORS = new URL("../../../vectors/", import.meta.url);
const SKIPS = new URL("../../vectors.skip.json", import.meta.url);

/** A case of a file. */
export interface VectorCase<Given, Expected> {
  readonly id: string;
  readonly given: Given;
  readonly expected: Expected;
}

/** A file of cases. */
export interface VectorFile<Given, Expected> {
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly cases: readonly VectorCase<Given, Expected>[];
}

/** The cases that this client skips, with the reasons. */
export function skips(): Readonly<Record<string, string>> {
  return JSON.parse(readFileSync(SKIPS, "utf8")) as Record<string, string>;
}

/** Whether there is a file of that name. */
export function isFile(name: string): boolean {
  return existsSync(new URL(`${name}.json`, VECTORS));
}

/** Makes a test of each case of a file: what comes of it must be what the file expects. */
export function runVectors<Given, Expected>(
  name: string,
  decide: (given: Given, file: VectorFile<Given, Expected>) => unknown,
): void {
  const text = readFileSync(new URL(`${name}.json`, VECTORS), "utf8");
  const file = JSON.parse(text) as VectorFile<Given, Expected>;
  const skipped = skips();
  for (const { id, given, expected } of file.cases) {
    const reason = skipped[`${name}/${id}`];
    test(`${name}/${id}`, { skip: reason ?? false }, async () => {
      assert.deepEqual(await decide(given, file), expected);
    });
  }
  test(`the skips of ${name} are cases, and have reasons`, () => {
    const ids = new Set(file.cases.map(({ id }) => `${name}/${id}`));
    for (const [id, reason] of Object.entries(skipped)) {
      if (!id.startsWith(`${name}/`)) continue;
      assert(ids.has(id), `${id} is no case`);
      assert(reason.trim() !== "", `${id} has no reason`);
    }
  });
}
