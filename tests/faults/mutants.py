"""Services that are broken on purpose, each in one way: the rig must find every one of them.

python -m tests.faults.mutants [NAME ...]

An edit is made in a copy of the code. The copy then plays runs, or makes the trials of a campaign,
until the first violation. A mutant is found if one of the checks that are named with it finds a
violation, or if its campaign does. Otherwise it survives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.campaigns.mutants import OF_CAMPAIGNS
from tests.faults.mutant import Edit, Mutant, edited

ROOT = Path(__file__).parents[2]
_COPIED = ("session_authority", "tests", "clients/python")
_MINUTES = "2"  # The time for all runs of one mutant, at the most.
_STORE, _DOMAIN = "session_authority/store/", "session_authority/domain/"
_READ_SESSION = 'raw = await self._read(RecordKind.SESSION, user_id, "HGET", name, key)\n'


def _mutant(
    name: str, found_by: str, *edits: Edit, troubles: str = "", seconds: int = 12
) -> Mutant:
    return Mutant(name, edits, frozenset(found_by.split()), troubles, seconds)


MUTANTS = (
    _mutant(
        "validations are answered from memory for two seconds",
        "active_after_end",
        Edit(
            _STORE + "session_store.py",
            _READ_SESSION,
            "memory, clock = self.__dict__.setdefault('memory', {}), asyncio.get_running_loop()\n"
            "        read_at, raw = memory.get((user_id, key), (0.0, None))\n"
            "        if raw is None or clock.time() - read_at > 2:\n"
            "            "
            + _READ_SESSION
            + "            memory[user_id, key] = clock.time(), raw\n",
        ),
    ),
    _mutant(
        "kept answers are given without a look at the store",
        "active_after_end",
        Edit(
            "session_authority/authority/kept_answers.py",
            "if kept is None or await self._store.ask(kept.question) != kept.steadiness.raw:",
            "if kept is None:",
        ),
        Edit(
            "session_authority/authority/kept_answers.py",
            "            elif raw == one.steadiness.raw:\n",
            "            else:\n",
        ),
    ),
    _mutant(
        "a revocation answers before it is committed",
        "active_after_end wrong_list",
        Edit(
            _STORE + "session_store.py",
            "removed, confirmed = await self._run(self._revoke, keys, args, durable=True)\n",
            'found = await self._read(RecordKind.SESSION, user_id, "HGETALL", keys[0])\n'
            "        removed, confirmed = [*fields_of(found).values()], False\n"
            "        revoke = lambda: self._run(self._revoke, keys, args, durable=True)\n"
            "        asyncio.get_running_loop().call_later(\n"
            "            0.2, lambda: asyncio.ensure_future(revoke())\n"
            "        )\n",
        ),
    ),
    _mutant(
        "marks of use are written blindly, and raise the dead",
        # A mark of the session before overwrites the record of a new sign-in.
        "active_after_end wrong_list wrong_refusal",
        Edit(
            _STORE + "scripts/commit.lua",
            "if there ~= expected then",
            "if false then",
        ),
        troubles="wire delays",  # So that a mark is on its way for longer.
    ),
    _mutant(
        "a store that is away means that nobody is signed in",
        "wrong_refusal",
        Edit(
            _STORE + "session_store.py",
            _READ_SESSION,
            "try:\n            " + _READ_SESSION + "        except Exception:\n"
            "            raw = None\n",
        ),
        troubles="store stopped,store refuses",
    ),
    _mutant(
        "a connection goes on after a time-out, one reply behind",
        "wrong_refusal foreign_answer wrong_error wrong_list",
        Edit(
            _STORE + "driver/read_line.py",
            "return not (self._transport.is_closing() or self._poll.poll(0))",
            "return not self._transport.is_closing()",
        ),
        Edit(
            _STORE + "driver/read_line.py",
            'self.hang_up(Disconnected("it said something unasked"))',
            "reader.feed(data)",
        ),
        Edit(
            _STORE + "driver/read_line.py",
            "if missing < 0 or (missing == 0 and reader.has_data()):",
            "if False:",
        ),
        Edit(
            _STORE + "driver/read_line.py",
            "elif missing:",
            "elif missing > 0:",
        ),
        Edit(
            _STORE + "driver/read_line.py",
            "            self.batch, self._replies = None, []\n"
            "            self._answered(self, batch, replies)\n",
            "            self.batch, self._replies = None, replies[batch.size :]\n"
            "            self._answered(self, batch, replies[: batch.size])\n",
        ),
        Edit(
            _STORE + "driver/read_lines.py",
            '            line.hang_up(TimedOut("no reply"))\n',
            "            self._busy.discard(line)\n"
            "            line.batch.fail(TimedOut())\n"
            "            line.batch = None\n"
            "            self._idle.append(line)\n",
        ),
        Edit(
            _STORE + "driver/read_lines.py",
            "        for line in [*self._idle, *self._busy]:\n"
            "            line.hang_up(PrimaryReplaced())\n",
            "",
        ),
        troubles="store stopped,replies stall",
    ),
    _mutant(
        "replies of a batch are given to the callers before them",
        "wrong_refusal foreign_answer wrong_error wrong_list",
        Edit(
            _STORE + "driver/questions.py",
            "reply = replies[at]\n",
            "reply = replies[at - 1]\n",
        ),
    ),
    _mutant(
        "each retry of a renewal makes another generation",
        "foreign_answer",
        Edit(
            _DOMAIN + "renewals.py",
            "return Renewal(verdict, record=copy_again(current, limits, now), hand_out=True)",
            "return Renewal(verdict, record=_rotate(current, token, limits, now), hand_out=True)",
        ),
        seconds=20,
    ),
    _mutant(
        "no replay is ever found",
        "missed_replay",
        Edit(
            _DOMAIN + "verdicts.py",
            "    return Verdict(SessionStatus.REPLAYED, cause=ReplayCause.SUPERSEDED_TOKEN)\n",
            "    return Verdict(SessionStatus.SUPERSEDED)\n",
        ),
        seconds=45,
    ),
    _mutant(
        "a token is good on every device",
        "elsewhere",
        Edit(_DOMAIN + "verdicts.py", "if presented_key != token.device_key:", "if False:"),
    ),
    _mutant(
        "a token that left its device is denied quietly",
        "missed_replay",
        Edit(
            _DOMAIN + "verdicts.py",
            "if is_live and not assigned and verdict.cause",
            "if False and not assigned and verdict.cause",
        ),
    ),
    _mutant(
        "a replaced session raises the alarm at once",
        "wrong_refusal false_alarm",
        Edit(
            _DOMAIN + "verdicts.py",
            "            crossed\n            or record.first_seen_at is None\n",
            "            False\n",
        ),
        Edit(
            _DOMAIN + "verdicts.py",
            "            or now - record.first_seen_at < limits.alarm_after\n        ):\n"
            "            return Verdict(SessionStatus.SUPERSEDED)\n",
            "        ):\n            return Verdict(SessionStatus.SUPERSEDED)\n",
        ),
        troubles="server killed,server restarted,replies lost",
    ),
    _mutant(
        "a request_id is forgotten, so that a retry signs in anew",
        "wrong_sign_in",
        Edit(
            "session_authority/authority/sign_in.py",
            "if request.request_id is None:\n            return None",
            "if request.request_id is not None:\n            return None",
        ),
        troubles="replies lost",
    ),
    _mutant(
        "events are written after the records, in a call of their own",
        "wrong_sign_in missing_event",
        Edit(
            _STORE + "session_store.py",
            "            *map(self._event, commit.events),\n        ]\n",
            "        ]\n",
        ),
        Edit(
            _STORE + "session_store.py",
            "        if code == 0:\n            return Changed()\n",
            "        if code == 0:\n            return Changed()\n"
            "        for told in commit.events if code > 0 else ():\n"
            "            entry = ('XADD', keys[2], '*', 'event', self._event(told))\n"
            "            run = self._client.execute_command\n"
            "            await self._writes.run(lambda entry=entry: run(*entry))\n",
        ),
        troubles="replies lost,store killed,server killed",
    ),
    _mutant(
        "a watch that resumes skips what it missed",
        "untold",
        Edit(
            "session_authority/events/feed.py",
            "behind = {n: entries[n] for n in wanted.partitions if entries[n] != tip.entries[n]}\n",
            "behind: dict[int, EntryId] = {}\n",
        ),
        troubles="server killed,server restarted",
    ),
    *OF_CAMPAIGNS,
)


def copy_of(mutant: Mutant, folder: Path) -> None:
    """Puts the broken service and the rig into a folder."""
    for name in _COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for edit in mutant.edits:
        path = folder / edit.path
        path.write_text(edited(path.read_text(), edit))


def checks_that_find(mutant: Mutant, seed: int) -> set[str]:
    """Plays runs of a mutant until a violation is found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of(mutant, folder)
        found = folder / "found.json"
        if mutant.campaign:
            command = [sys.executable, "-m", "tests.faults.campaigns", mutant.campaign]
        else:
            command = [sys.executable, "-m", "tests.faults.soak"]
            command += ["--each", str(mutant.seconds), "--troubles", mutant.troubles]
        command += ["--until-broken", "--minutes", _MINUTES, "--seed", str(seed)]
        command += ["--json", str(found)]
        path = os.pathsep.join((name, str(folder / "clients/python")))
        environment = {**os.environ, "PYTHONPATH": path}
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if not found.exists():
            raise RuntimeError(f"the rig itself failed:\n{ended.stderr}")
        return set(json.loads(found.read_text()))


def main() -> None:
    """Exits with 1 if a mutant survives."""
    wanted = sys.argv[1:]
    survivors = 0
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.name for word in wanted):
            continue
        found = checks_that_find(mutant, int(os.environ.get("FAULT_SEED", "1")))
        caught = bool(found & mutant.found_by)
        survivors += not caught
        by = ", ".join(sorted(found)) or "nothing"
        print(f"{'caught  ' if caught else 'SURVIVED'} {mutant.name}: {by}", flush=True)
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
