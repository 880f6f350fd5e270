"""One federation for all scenarios, and folders for agents that stand alone."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scenario_agents import Agent, free_hosts
from scenario_federation import Federation


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    found = Federation(tmp_path_factory.mktemp("federation"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Return a function that starts `serai agent` with given words; all are stopped at the end."""
    started: list[Agent] = []
    hosts = free_hosts()

    def start(*words: str, host: str = "") -> Agent:
        agent = Agent(tmp_path, host or next(hosts), *words)
        started.append(agent)
        return agent

    try:
        yield start
    finally:
        for agent in started:
            agent.stop()
