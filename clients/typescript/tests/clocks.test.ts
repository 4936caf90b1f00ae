/** Tests that the clock of the near cache also runs while the machine sleeps. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { clocksOf } from "../src/clocks.js";

/** A machine with three clocks that a test moves. */
class Machine {
  steadyMs = 1_000;
  wallMs = 1_800_000_000_000;
  bootMs = 500_000;
  bootReads = 0;
  readonly clocks = clocksOf({
    steady: () => this.steadyMs,
    wall: () => this.wallMs,
    boot: () => {
      this.bootReads += 1;
      return this.bootMs;
    },
  });

  runs(ms: number): void {
    this.steadyMs += ms;
    this.wallMs += ms;
    this.bootMs += ms;
  }

  sleeps(ms: number): void {
    this.wallMs += ms;
    this.bootMs += ms;
  }
}

test("the clock runs with the machine, without a read of the boot clock", () => {
  const machine = new Machine();
  const [before, reads] = [machine.clocks.now(), machine.bootReads];
  machine.runs(10_000);
  assert.equal(machine.clocks.now() - before, 10_000);
  assert.equal(machine.bootReads, reads);
});

test("the clock also runs while the machine sleeps", () => {
  const machine = new Machine();
  const before = machine.clocks.now();
  machine.runs(1_000);
  machine.sleeps(3_600_000);
  machine.runs(1_000);
  assert.equal(machine.clocks.now() - before, 3_602_000);
  machine.sleeps(60_000);
  assert.equal(machine.clocks.now() - before, 3_662_000);
});

test("setting the wall clock moves the clock neither forward nor back", () => {
  const machine = new Machine();
  const before = machine.clocks.now();
  machine.wallMs += 3_600_000;
  assert.equal(machine.clocks.now() - before, 0);
  machine.wallMs -= 7_200_000;
  machine.runs(1_000);
  assert.equal(machine.clocks.now() - before, 1_000);
});
