"""One job over two regions: each index runs once, wherever, and everywhere it ends.

Processes are counted in /proc, by what their environment says, not by our own API.
"""

from collections import Counter

import pytest
from scenario_federation import EU_MIB, Federation, a_job
from scenario_processes import until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation")]

SPILLS = 'region = "eu"\nfederation {\n spillover {\n regions = ["us"]\n }\n }'
EACH_MIB = 64
EU_HOLDS = EU_MIB // EACH_MIB


def placed(federation: Federation) -> Counter[tuple[str, int]]:
    """Return how often each (region, index) of `wide` runs."""
    environments = federation.processes("wide").values()
    return Counter((one["NOMAD_REGION"], int(one["NOMAD_ALLOC_INDEX"])) for one in environments)


def until_placed(federation: Federation, count: int, in_eu: int) -> None:
    """Wait until every index below `count` runs exactly once, so many of them in eu."""

    def is_so() -> bool:
        found = placed(federation)
        indices = sorted(index for _, index in found.elements())
        eu = sum(region == "eu" for region, _ in found)
        return indices == list(range(count)) and eu == in_eu

    until(is_so, f"{count} instances, {in_eu} of them in eu", 60)


def until_rolled_out(federation: Federation) -> None:
    """Wait until no deployment of `wide` runs: until then it can't be scaled."""

    def is_so() -> bool:
        found = federation.get("job/wide/deployments")
        return all(one["Status"] != "running" for one in found)

    until(is_so, "the rollout's end", 60)


def test_a_job_that_its_region_can_t_hold_runs_in_two(federation: Federation) -> None:
    wide = a_job("wide", count=EU_HOLDS + 3, memory_mib=EACH_MIB, extra=SPILLS)
    done = federation.run(wide)
    assert done.code == 0, done.error
    until_placed(federation, EU_HOLDS + 3, EU_HOLDS)
    status = federation.serai("job", "status", "wide", at="us-dc1-server-1")
    rows = {line.split()[0]: line.split() for line in status.out.splitlines() if "/dc1" in line}
    assert rows["eu/dc1"][1:4] == ["(home)", str(EU_HOLDS), str(EU_HOLDS)], status.out
    assert rows["us/dc1"][1] == "3", status.out
    refused = federation.serai("job", "stop", "-detach", "wide", at="us-dc1-server-1")
    assert refused.code == 1 and "region eu" in refused.error
    until_rolled_out(federation)
    scaled = federation.serai("job", "scale", "-detach", "wide", "2")
    assert scaled.code == 0, scaled.error
    until_placed(federation, 2, 2)
    until_rolled_out(federation)
    scaled = federation.serai("job", "scale", "-detach", "wide", str(EU_HOLDS + 1))
    assert scaled.code == 0, scaled.error
    until_placed(federation, EU_HOLDS + 1, EU_HOLDS)
    federation.stop_job("wide")
