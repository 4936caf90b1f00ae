/**
 * Runs the commands that the tests of tests/polyglot send. The commands use the TypeScript client.
 * A command is a line of JSON on stdin. Its reply is a line of JSON on stdout, with the command's
 * ID.
 */

import { createInterface } from "node:readline";

import { Clients, COMMANDS, errorLine, type Note } from "./commands.js";
import { BadCommand, isObject, type Line } from "./fields.js";

const clients = new Clients();

function write(line: Line): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function run(line: Line, note: Note): Promise<Line> {
  const { command } = line;
  if (command === "connect") return clients.connect(line);
  const found = COMMANDS.get(String(command));
  if (found === undefined) throw new BadCommand("command: is not known");
  return await found(clients.of(line), line, note);
}

async function reply(line: Line): Promise<void> {
  const { id, command } = line;
  const note: Note = (text) => {
    write({ id, note: text });
  };
  try {
    write({ id, ok: await run(line, note) });
  } catch (error) {
    const { message } = error as Error;
    const known = command === "connect" || COMMANDS.has(String(command));
    if (!known) write({ id, error: { kind: "unknown_command", message } });
    else if (error instanceof BadCommand) write({ id, error: { kind: "bad_command", message } });
    else write({ id, error: errorLine(error) });
  }
}

function read(text: string): Line | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return isObject(line) ? line : undefined;
  } catch {
    return undefined;
  }
}

write({ ready: "typescript", commands: ["connect", ...COMMANDS.keys()] });
const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
lines.on("line", (text) => {
  const line = read(text);
  if (line !== undefined) void reply(line);
  else write({ id: null, error: { kind: "bad_command", message: "no JSON object" } });
});
lines.on("close", () => {
  clients.closeAll();
  // The process ends now, so commands that are still under way get no reply.
  setImmediate(() => process.exit(0));
});
