"""Campaigns of whole runs: clients of all kinds play while one fault is made again and again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from itertools import count
from math import inf
from pathlib import Path
from random import Random

from tests.faults.campaigns.campaign import Order, Run, Tally
from tests.faults.checker import judge
from tests.faults.play import Script, play
from tests.faults.stage import Stage
from tests.faults.troubles import Trouble, named

OpenStage = Callable[[Path], AbstractAsyncContextManager[Stage]]
# The clients are few: if a call is slow or fails, the cause should be the fault and not the load.
_SCRIPT = Script(0, inf, {}, users=8, pause=0.3, trouble_pause=0.4)
# For faults that last for many seconds. Clients with longer pauses still make hundreds of calls
# during each of these faults.
LONG_FAULTS = replace(_SCRIPT, pause=0.6)
_ROUND = 10
# The number of seeds for the runs of one campaign. Each run needs its own seed, because the names
# of its users contain the seed.
_SEEDS = 1_000


def playing(
    open_stage: OpenStage,
    *troubles: Trouble,
    each_round: int = _ROUND,
    script: Script = _SCRIPT,
    stages: int = 1,
) -> Run:
    """The campaign that makes these faults, each as a trial.

    Args:
        open_stage: Opens a stage.
        troubles: The faults.
        each_round: The number of faults in a run, at the most.
        script: The load during the faults. The campaign sets its seed and its troubles.
        stages: How many stages are used at the same time: more than one if a fault mostly waits.
    """
    script = replace(script, troubles=named(*troubles))

    async def run(folder: Path, order: Order, tally: Tally) -> None:
        seeds = count(order.seed * _SEEDS + 1)
        under_way = 0

        async def play_on(stage: Stage) -> None:
            nonlocal under_way
            while most := order.left(tally, each_round, under_way):
                under_way += most
                played = replace(script, seed=next(seeds), most_troubles=most)
                history = await play(stage, played)
                # A thread judges the run. Else the clients of other stages would have to wait.
                report = await asyncio.to_thread(judge, history)
                tally.add(history, report)
                under_way -= most
                tally.trials += len(history.faults)
                for fault in history.faults:
                    tally.counts[f"ms of {fault.name}"] += round(
                        1000 * (fault.ended - fault.started)
                    )

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for number in range(stages):
                own = folder / f"stage-{number}"
                own.mkdir()
                stage = await stack.enter_async_context(open_stage(own))
                group.create_task(play_on(stage))

    return run


async def store_stopped_for_long(stage: Stage, random: Random) -> None:
    """The store hangs for 0.1 to 30 s, rarely for long, and goes on."""
    seconds = random.choices((0.1, 0.4, 1.1, 3, 10, 30), (30, 30, 25, 10, 3, 2))[0]
    process = stage.store.process_id
    os.kill(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(process, signal.SIGCONT)


async def store_flaps(stage: Stage, random: Random) -> None:
    """The store hangs and goes on, and a server's connections break, many times in a second."""
    process = stage.store.process_id
    for _ in range(random.randint(5, 15)):
        os.kill(process, signal.SIGSTOP)
        try:
            await asyncio.sleep(random.uniform(0, 0.15))
        finally:
            os.kill(process, signal.SIGCONT)
        if random.random() < 0.5:
            await random.choice(stage.wires).cut()
        await asyncio.sleep(random.uniform(0, 0.1))
