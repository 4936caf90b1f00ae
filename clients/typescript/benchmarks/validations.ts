/**
 * Measures the client with a real service on the same machine. PID is the process of the service:
 *
 *     npx tsc && node build/benchmarks/validations.js ADDRESS PID
 *
 * Rounds of batched validations and of single calls take turns within one run, with 64 callers at
 * once. The CPU time of the service is that of its process with all threads.
 */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

import { NearCache, SessionAuthority } from "../src/index.js";

const AT_ONCE = 64;
const ROUNDS = 5;
const ROUND_MS = 1_500;
const HITS = 200_000;

const [address = "127.0.0.1:50051", pid = ""] = process.argv.slice(2);
const TICKS_PER_SECOND = Number(execFileSync("getconf", ["CLK_TCK"]).toString());

function cpuMs(): number {
  if (pid === "") return NaN;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1000;
}

function median(values: number[]): number {
  return values.sort((one, other) => one - other)[Math.floor(values.length / 2)] ?? NaN;
}

interface Figures {
  rate: number;
  cpuUs: number;
  ms: number;
}

async function round(client: SessionAuthority, tokens: [string, string][]): Promise<Figures> {
  const [began, cpu] = [performance.now(), cpuMs()];
  const latencies: number[] = [];
  const ask = async (index: number) => {
    while (performance.now() - began < ROUND_MS) {
      const [token, device] = tokens[index % tokens.length] ?? ["", ""];
      const started = performance.now();
      const { active } = await client.validateSession(token, device);
      if (!active) throw new Error("the session is not active");
      latencies.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => ask(index)));
  const count = latencies.length;
  return {
    rate: (count / (performance.now() - began)) * 1000,
    cpuUs: ((cpuMs() - cpu) * 1000) / count,
    ms: median(latencies),
  };
}

async function compareBatching(tokens: [string, string][]): Promise<void> {
  const options = { timeoutMs: 20_000 };
  const batched = new SessionAuthority(address, options);
  const single = new SessionAuthority(address, { ...options, batching: false });
  await round(batched, tokens);
  await round(single, tokens);
  const found: { batched: Figures; single: Figures }[] = [];
  for (let index = 0; index < ROUNDS; index += 1) {
    found.push({ single: await round(single, tokens), batched: await round(batched, tokens) });
  }
  batched.close();
  single.close();
  const of = (choose: (one: (typeof found)[number]) => number) => median(found.map(choose));
  console.log("64 at once, medians of", ROUNDS, "rounds");
  for (const kind of ["batched", "single"] as const) {
    const rate = of((one) => one[kind].rate).toFixed(0);
    const cpu = of((one) => one[kind].cpuUs).toFixed(0);
    const ms = of((one) => one[kind].ms).toFixed(1);
    console.log(`  ${kind}: ${rate} validations/s, ${cpu} us of the service's CPU, ${ms} ms`);
  }
  const rates = found.map((one) => one.batched.rate / one.single.rate);
  const cpus = found.map((one) => one.batched.cpuUs / one.single.cpuUs);
  console.log("  rate:", ratios(rates), "x; the service's CPU:", ratios(cpus), "x");
}

function ratios(values: number[]): string {
  const sorted = [...values].sort((one, other) => one - other);
  const [least, most] = [sorted[0] ?? NaN, sorted.at(-1) ?? NaN];
  return `${median(values).toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
}

async function timeHits([token, device]: [string, string]): Promise<void> {
  const cache = new NearCache();
  const client = new SessionAuthority(address, { timeoutMs: 20_000, cache });
  while ((await client.validateSession(token, device), cache.stats().hits < 1)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const [clocks, gets, validations]: number[][] = [[], [], []];
  for (let index = 0; index < ROUNDS; index += 1) {
    clocks?.push(nanoseconds(() => performance.now()));
    gets?.push(nanoseconds(() => cache.get(token, device)));
    const began = performance.now();
    for (let hit = 0; hit < HITS; hit += 1) await client.validateSession(token, device);
    validations?.push(((performance.now() - began) * 1e6) / HITS);
  }
  client.close();
  const [clock, get, validation] = [clocks, gets, validations].map((all) => median(all ?? []));
  console.log(`a hit: ${ns(get)} in the cache, ${ns(validation)} with its promise`);
  console.log(`to read a clock: ${ns(clock)}`);
}

function ns(value: number | undefined): string {
  return `${(value ?? NaN).toFixed(0)} ns`;
}

function nanoseconds(work: () => unknown): number {
  const began = performance.now();
  for (let index = 0; index < HITS; index += 1) work();
  return ((performance.now() - began) * 1e6) / HITS;
}

const setup = new SessionAuthority(address, { timeoutMs: 20_000 });
const tokens: [string, string][] = [];
for (let index = 0; index < AT_ONCE; index += 1) {
  const issued = await setup.issueDevice(`bench-${String(index)}`);
  tokens.push([issued.accessToken, issued.device.deviceId]);
}
setup.close();
await compareBatching(tokens);
const [first] = tokens;
if (first !== undefined) await timeHits(first);
