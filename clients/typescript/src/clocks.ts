/**
 * Owns the clocks of the near cache: one that nobody sets and that goes on while the machine
 * sleeps, and the wall clock.
 */

import { uptime } from "node:os";

/** Two clocks, in milliseconds. */
export interface Clocks {
  /**
   * Never goes back. Passes while the machine sleeps, too, where the machine can tell. A caller that
   * has just read the wall clock gives its reading: to read a clock is most of what a hit costs.
   */
  now(wall?: number): number;
  /** The time of day since 1970, which may be set. */
  wall(): number;
}

// Node's clock stands still while the machine sleeps, and the clock that does not costs a read of a
// file. So that one is read only when the wall clock has moved by more than this beside Node's:
// then the machine has slept, or the wall clock was set.
const MOVED_MS = 250;

/** The clocks of this machine. */
export function machineClocks(): Clocks {
  let sleptMs = 0;
  let beside = Date.now() - performance.now();
  const baseMs = bootMs() - performance.now();
  return {
    now(wall = Date.now()) {
      const now = performance.now();
      const moved = wall - now - beside;
      if (moved > MOVED_MS || moved < -MOVED_MS) {
        beside += moved;
        const passed = bootMs() - performance.now() - baseMs;
        // The file is exact to 10 ms only: less than the limit is no sleep.
        if (passed - sleptMs > MOVED_MS) sleptMs = passed;
      }
      return now + sleptMs;
    },
    wall: Date.now,
  };
}

function bootMs(): number {
  try {
    return uptime() * 1000;
  } catch {
    return performance.now(); // a machine that can't tell
  }
}
