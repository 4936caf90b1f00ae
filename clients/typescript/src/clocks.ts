/**
 * Owns the clocks of the near cache: one that nobody sets and that goes on while the machine
 * sleeps, and the wall clock.
 */

import { uptime } from "node:os";

/** Two clocks, in milliseconds. */
export interface Clocks {
  /**
   * Never goes back. Passes while the machine sleeps, too, where the machine can tell. A caller
   * that has just read the wall clock gives its reading: to read a clock is most of a hit's cost.
   */
  now(wall?: number): number;
  /** The time of day since 1970, which may be set. */
  wall(): number;
}

/** The clocks that a machine has, in milliseconds. */
export interface MachineClocks {
  /** Is never set, and may stand still while the machine sleeps. */
  readonly steady: () => number;
  readonly wall: () => number;
  /** Since the machine started, its sleep included. To read it costs a read of a file. */
  readonly boot: () => number;
}

// The clock since the start is read only when the wall clock has moved by more than this beside the
// steady clock: then the machine has slept, or the wall clock was set. It is exact to 10 ms only,
// so less than this is no sleep.
const MOVED_MS = 250;

/** The clocks of this machine. */
export function machineClocks(): Clocks {
  return clocksOf({ steady: () => performance.now(), wall: Date.now, boot });
}

/** The two clocks of a near cache, by those of a machine. */
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
    return performance.now(); // a machine that can't tell
  }
}
