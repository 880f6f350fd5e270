"""Judges a node once its servers answer and nothing more happens: what it was told, it has done."""

from core.model.allocation import ClientStatus
from sim.client.lives import AllocLife, Phase
from sim.client.registry import TROUBLE_US, look_at_services
from sim.client.watch import FINAL, Watch
from sim.client.world import World
from sim.seeds import Violation

STEP_US = 1_000_000
STEPS = 25  # a last report may have to wait for a call that got no answer


def judge_rest(world: World, watch: Watch) -> int:
    """Let time pass until all has converged. Return how many allocations the servers know right.

    Raises:
        Violation: It has not in time.
    """
    problem: Violation | None = None
    for _ in range(STEPS):
        world.run(STEP_US)
        problem = next(iter(_problems(world, watch)), None)
        if problem is None:
            look_at_services(watch, world.now_us)
            return sum(alloc_id in watch.lives for alloc_id in world.servers.reports)
    assert problem is not None
    raise problem


def _problems(world: World, watch: Watch) -> list[Violation]:
    found: list[Violation] = []
    for alloc_id, life in watch.lives.items():
        if alloc_id not in world.servers.allocs:
            found += _of_forgotten(world, watch, life)
        elif alloc_id not in watch.destroyed:
            found += _of_known(world, watch, life)
    for alloc_id, alloc in world.servers.allocs.items():
        if alloc_id not in watch.lives and alloc_id not in world.servers.reports:
            text = f"{alloc_id}: {alloc.desired_status} never reached the node"
            found.append(Violation("not begun", text))
    return found + _of_disk(world, watch)


def _of_forgotten(world: World, watch: Watch, life: AllocLife) -> list[Violation]:
    alive = world.alive(life.alloc.id)
    if alive:
        return [life.fault("forgotten", "", f"the servers forgot it, and {alive[0]} lives")]
    if life.alloc.id not in watch.destroyed and not life.is_loose:
        return [life.fault("forgotten", "", "the servers forgot it, and it is kept")]
    return []


def _of_known(world: World, watch: Watch, life: AllocLife) -> list[Violation]:
    report = world.servers.reports.get(life.alloc.id)
    if report is None:
        return [life.fault("reports", "", "the servers were never told of it")]
    status = ClientStatus(report.client_status)
    alive = {key[1] for key in world.alive(life.alloc.id)}
    wanted = world.servers.allocs[life.alloc.id].desired_status == "run"
    if life.is_loose:
        if alive and status in FINAL:
            return [life.fault("terminal", "", f"{status.name} is known and {alive} live")]
        if alive and not wanted:
            return [life.fault("at rest", "", f"it is to be stopped and {sorted(alive)} live")]
        return []
    if (status in FINAL) != life.is_dead:
        return [life.fault("reports", "", f"{status.name} is known, dead: {life.is_dead}")]
    left = [task for task in life.tasks.values() if task.phase is not Phase.DEAD]
    waits = all(task.stage == "poststop" and task.phase is Phase.PAUSED for task in left)
    if not wanted and not waits:
        return [life.fault("at rest", "", "it is to be stopped and has not ended")]
    known = {task.name for task in life.tasks.values() if task.phase is Phase.ALIVE}
    if not alive >= known:  # who was just asked for may already live
        return [life.fault("at rest", "", f"{sorted(alive)} live, not {sorted(known)}")]
    is_lasting = not life.ending and all(task.is_running for task in life.mains)
    if is_lasting and status is not ClientStatus.RUNNING:
        return [life.fault("reports", "", f"{status.name} is known and its main tasks run")]
    states = report.task_states or {}
    for task in life.tasks.values():
        state = states[task.name]
        if life.is_dead and (state.state != "dead" or state.failed != task.failed):
            text = f"known as {state.state}, failed={state.failed}; it is {task.failed}"
            return [life.fault("reports", task.name, text)]
    return _of_verdict(world, watch, life)


def _of_verdict(world: World, watch: Watch, life: AllocLife) -> list[Violation]:
    report = world.servers.reports[life.alloc.id]
    said = report.deployment_status
    missing = watch.offers[life.alloc.id].missing_verdict(world.now_us - TROUBLE_US)
    if missing and (said is None or said.healthy is None):
        return [life.fault("no verdict", "", missing)]
    return []


def _of_disk(world: World, watch: Watch) -> list[Violation]:
    """Nothing is kept of what was destroyed, and of what has ended no more than may be."""
    kept = [
        alloc_id
        for alloc_id, life in watch.lives.items()
        if life.is_dead and not life.is_loose and alloc_id not in watch.destroyed
    ]
    most = world.config.max_terminal_allocs
    if len(kept) > most:
        return [Violation("kept", f"{len(kept)} finished allocations are kept, not {most}")]
    alive = {life.alloc.job_id for a, life in watch.lives.items() if a not in watch.destroyed}
    for key in sorted(world.disk):
        kind, _, rest = key.partition("/")
        if kind in ("alloc", "task") and rest.partition("/")[0] in watch.destroyed:
            return [Violation("kept", f"{key} is still saved")]
        if kind == "job" and rest.split("/")[1] not in alive:
            return [Violation("kept", f"{key} is still saved and nobody needs it")]
    return []
