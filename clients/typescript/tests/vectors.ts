/**
 * Runs the cases that all clients share: one test for each case of a file of `clients/vectors`. The
 * cases that this client skips are in `vectors.skip.json`, each with its reason.
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** One case. The types of its parts differ from file to file. */
export interface Vector<Given = any> {
  readonly id: string;
  readonly given: Given;
  readonly expected: any;
}

/** The settings of an app, with the names that the files use. */
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

/** Returns the cases that this client skips, with the reasons. */
export function skips(): Readonly<Record<string, string>> {
  return read(join(CLIENT, "vectors.skip.json")) as Record<string, string>;
}

/** Returns true if there is a file of vectors with this name. */
export function isFile(name: string): boolean {
  return existsSync(join(VECTORS, `${name}.json`));
}

/** Options for running the cases of a file. */
export interface VectorOptions {
  /** The way in which the cases are run. It is part of the names of the tests. */
  readonly over?: string;
  /** Returns true for a case that is run in another way, and not here. */
  readonly leavesOut?: (vector: Vector) => boolean;
}

/**
 * Makes one test of each case of a file. A skip must name an existing case, and have a reason.
 */
export function testVectors<Given = any>(
  file: string,
  run: (vector: Vector<Given>, settings: VectorSettings) => unknown,
  { over, leavesOut = () => false }: VectorOptions = {},
): void {
  const { cases, settings = {} } = read(join(VECTORS, `${file}.json`)) as {
    cases: Vector<Given>[];
    settings?: VectorSettings;
  };
  const reasons = skips();
  const ids = new Set(cases.map(({ id }) => `${file}/${id}`));
  test(`${file}: each skip has a reason, and is one of its cases`, () => {
    assert.ok(ids.size > 0);
    for (const [id, reason] of Object.entries(reasons)) {
      if (!id.startsWith(`${file}/`)) continue;
      assert.ok(ids.has(id), `${id} is no case`);
      assert.notEqual(reason.trim(), "", `${id} has no reason`);
    }
  });
  for (const vector of cases) {
    if (leavesOut(vector)) continue;
    const id = `${file}/${vector.id}`;
    const reason = reasons[id];
    test(
      over === undefined ? id : `${id} over ${over}`,
      reason === undefined ? {} : { skip: reason },
      async () => {
        const given = (vector.given as { settings?: VectorSettings }).settings ?? {};
        const found = await run(vector, { ...settings, ...given });
        // JSON drops the fields that are undefined, and the prototypes.
        assert.deepEqual(JSON.parse(JSON.stringify(found)), vector.expected);
      },
    );
  }
}
