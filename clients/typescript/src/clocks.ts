/**
 * Owns the two clocks of the near cache: the wall clock, and a clock that nobody sets and that goes
 * on while the machine sleeps.
 */

import { uptime } from "node:os";

/** The two clocks that a near cache reads, in milliseconds. */
export interface Clocks {
  /**
   * Returns a time that never goes back. The time of the machine's sleep is included, if the
   * machine can measure its sleep. If you have just read the wall clock, pass the reading as
   * `wall`. This saves time, because a cache hit spends most of its time on reading clocks.
   */
  now(wall?: number): number;
  /** Returns the time of the wall clock since 1970. A person or NTP may set the wall clock. */
  wall(): number;
}

/** The three clocks of a machine, in milliseconds. */
export interface MachineClocks {
  /** A clock that nobody sets. This clock may stand still while the machine sleeps. */
  readonly steady: () => number;
  /** The wall clock, which a person or NTP may set. */
  readonly wall: () => number;
  /**
   * The time since the machine started, including its sleep. Each reading of this clock reads a
   * file.
   */
  readonly boot: () => number;
}

// The boot clock is read only when the difference between the wall clock and the steady clock has
// changed by more than `MOVED_MS`. If the difference has changed, the machine has slept, or
// somebody set the wall clock. The boot clock is exact only to 10 ms. So a sleep of less than
// 250 ms is ignored.
const MOVED_MS = 250;

/** Makes the two clocks of a near cache from the clocks of this machine. */
export function machineClocks(): Clocks {
  return clocksOf({ steady: () => performance.now(), wall: Date.now, boot });
}

/** Makes the two clocks of a near cache from the given clocks of a machine. */
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
