/** Tests webhooks beyond the shared vectors, such as options of a receiver that are no numbers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { verifyWebhook } from "../src/index.js";
import { webhookHeaders } from "../src/testing.js";

const secret = `whsec_${Buffer.from("a secret of 24 bytes ...").toString("base64")}`;
const body = "{}";

test("with a tolerance that is no number, an old webhook is refused", () => {
  const headers = webhookHeaders(secret, "msg_1", body, new Date(0));
  assert.equal(verifyWebhook({ secret, headers, body, now: new Date(0) }), true);
  for (const toleranceMs of [NaN, Number("five minutes"), "five minutes" as unknown as number]) {
    assert.equal(verifyWebhook({ secret, headers, body, toleranceMs }), false);
  }
});

test("with an invalid date as the time, a webhook is refused", () => {
  const headers = webhookHeaders(secret, "msg_1", body);
  assert.equal(verifyWebhook({ secret, headers, body, now: new Date(NaN) }), false);
});

test("the headers of a fetch that is not Node's own are read", () => {
  const sent = new Map(Object.entries(webhookHeaders(secret, "msg_1", body)));
  const headers = { get: (name: string) => sent.get(name) ?? null };
  assert.equal(verifyWebhook({ secret, headers, body }), true);
  assert.equal(verifyWebhook({ secret, headers: { get: () => null }, body }), false);
});
