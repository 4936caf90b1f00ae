/**
 * Owns the two clocks of the near cache: the wall clock, and a clock that nobody sets and that goes
 * on while the machine sleeps.
 */

import { uptime } from "node:os";

/** Two clocks, in milliseconds. */
export interface Clocks {
  /**
   * Returns a time that never goes back. It also passes while the machine sleeps, if the machine
   * can measure its sleep. A caller that has just read the wall clock passes the reading as `wall`:
   * most of the cost of a cache hit is the reading of clocks.
   */
  now(wall?: number): number;
  /** Returns the wall clock's time since 1970. The wall clock may be set. */
  wall(): number;
}

/** The clocks of a machine, in milliseconds. */
export interface MachineClocks {
  /** A clock that is never set. It may stand still while the machine sleeps. */
  readonly steady: () => number;
  /** The wall clock, which may be set. */
  readonly wall: () => number;
  /** The time since the machine started, with its sleep. Each reading reads a file. */
  readonly boot: () => number;
}

// The boot clock is read only when the wall clock has moved by more than this against the steady
// clock: then the machine has slept, or the wall clock was set. The boot clock is exact only to
// 10 ms. So only more than 250 ms counts as sleep.
const MOVED_MS = 250;

/** Returns the two clocks of a near cache that read the clocks of this machine. */
export function machineClocks(): Clocks {
  return clocksOf({ steady: () => performance.now(), wall: Date.now, boot });
}

/** Returns the two clocks of a near cache that read the given clocks of a machine. */
export function clocksOf({ steady, wall, boot }: MachineClocks): Clocks {
  let sleptMs = 0;
  let besideMs = wall() - steady();
  const awakeMs = boot() - steady();
  return {
    now(wallMs = wall()) {
      const now = steady();
      const movedMs = wallMs - now - besideMs;
      if (movedMs > MOVED_MS || movedMs < -MOVED_MS) {
        besideMs += movedMs;
        const asleepMs = boot() - steady() - awakeMs;
        if (asleepMs - sleptMs > MOVED_MS) sleptMs = asleepMs;
      }
      return now + sleptMs;
    },
    wall,
  };
}

function boot(): number {
  try {
    return uptime() * 1000;
  } catch {
    return performance.now(); // this machine can't measure its sleep
  }
}
