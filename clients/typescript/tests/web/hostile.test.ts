/** Tests that hostile requests, which are made to cost much CPU time, are read quickly. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { readHints } from "../../src/web/client_hints.js";
import { routeOf } from "../../src/web/devices/routes.js";
import { wantsPage } from "../../src/web/navigation.js";

// A regular expression took seconds for the 16 KiB of headers that Node accepts. These tests use
// more, so that slow code differs clearly from a busy machine.
const MANY = 60_000;
const AT_MOST_MS = 2000;
const BLANKS = " ".repeat(MANY);

const READERS: Readonly<Record<string, () => unknown>> = {
  "blanks in Accept": () => wantsPage("GET", { accept: [`text/html${BLANKS}x`] }),
  "blanks in a client hint": () => readHints({ "sec-ch-ua-model": [`"a"${BLANKS}x`] }),
  "blanks in the mobile hint": () => readHints({ "sec-ch-ua-mobile": [`?1${BLANKS}x`] }),
  "slashes below the page of devices": () =>
    routeOf("/devices", "GET", `/devices${"/".repeat(MANY)}x`),
};

for (const [name, read] of Object.entries(READERS)) {
  test(`a costly request is read quickly: ${name}`, () => {
    const startedAt = performance.now();
    read();
    assert.ok(performance.now() - startedAt < AT_MOST_MS);
  });
}

test("slashes at the end of a path below the page of devices don't count", () => {
  assert.equal(routeOf("/devices", "GET", "/devices///").action, "page");
  assert.equal(routeOf("/devices", "GET", "/devices/api/devices//").action, "list");
  assert.equal(routeOf("/devices", "GET", "/devices//api/devices").action, undefined);
});
