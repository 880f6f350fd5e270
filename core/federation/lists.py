"""Which lists several datacenters answer together, and which of them.

region          datacenter     who answers
own ("")        none           every datacenter of the region; virtual index once it had two
own             one            that one: it has an index of its own
"*"             none           every datacenter of every region
"*"             one            each of that name in any region
"""

from typing import TYPE_CHECKING, Final

from core.federation.claims import open_claims
from core.federation.floors import is_spanned
from core.federation.where import Everywhere, Here, Refused, Where
from core.model.query import Answer, Query

if TYPE_CHECKING:
    from core.state.state import State

ANY: Final = "*"

# Parameters that name one record by an id whose last group is its datacenter's.
ROUTED_IDS: Final = ("alloc_id", "eval_id", "deployment_id", "node_id")

# Lists that several datacenters answer together.
GATHERED: Final = frozenset(
    {
        "Job.List", "Alloc.List", "Eval.List", "Eval.Count", "Deployment.List", "Node.List",
        "Service.List", "Service.Get", "NodePool.List", "NodePool.Nodes", "NodePool.Jobs",
        "Scaling.ListPolicies", "Search.Prefix", "Search.Fuzzy",
    }
)  # fmt: skip


def who_lists(
    query: Query, state: "State", region: str, known: dict[str, tuple[str, str]]
) -> Where:
    """Say who answers a query about a list.

    Args:
        region: The own one.
        known: Datacenter id -> (region, name) of all that gossip knows.
    """
    asked = query.region or region
    wanted = tuple(one for one, (name, _) in known.items() if asked in (ANY, name))
    if query.datacenter and asked != ANY:
        return Here()  # the router brings it to that one
    if query.datacenter:
        named = tuple(one for one in wanted if query.datacenter in (one, known[one][1]))
        return Everywhere(named) if named else Refused(_unknown(query.datacenter, known))
    guests: tuple[str, ...] = ()
    if query.method == "Job.List" and asked != ANY:
        # What was submitted here and runs elsewhere: its name is of this region.
        homes = (claim.home for claim in open_claims(state))
        guests = tuple(sorted({home for home in homes if home in known} - set(wanted)))
    if len(wanted) > 1 or guests or asked == ANY or is_spanned(state):
        return Everywhere(wanted, guests)
    return Here()


def _unknown(datacenter: str, known: dict[str, tuple[str, str]]) -> Answer:
    names = ", ".join(sorted({"/".join(one) for one in known.values()}))
    return Answer(status=500, error=f"No path to datacenter {datacenter!r}; known are {names}")
