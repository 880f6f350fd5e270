"""Lists: pages, prefixes, filters; and a search."""

from stories import datacenter, leader, register, until_running

WORLD = datacenter(1, 2)
for name in ("alpha", "beta", "beta-2", "gamma"):
    register(WORLD, ID=name, Name=name, count=1)
    until_running(WORLD, 1, name)


def ids(method: str = "Job.List", **params: object) -> list[str]:
    answer = WORLD.ask(leader(WORLD), method, params=params)
    assert not answer.is_error, answer
    return [row["ID"] for row in answer.body]


def test_pages_follow_each_other_without_gap() -> None:
    seen: list[str] = []
    token = ""
    for _ in range(10):
        answer = WORLD.ask(leader(WORLD), "Job.List", params={"per_page": "3", "next_token": token})
        seen += [row["ID"] for row in answer.body]
        token = answer.next_token
        if not token:
            break
    assert seen == ["alpha", "beta", "beta-2", "gamma"]


def test_reverse_and_prefix() -> None:
    assert ids(reverse="true") == ["gamma", "beta-2", "beta", "alpha"]
    assert ids(prefix="beta") == ["beta", "beta-2"]


def test_filters_read_the_job_and_not_its_stub() -> None:
    assert ids(filter='TaskGroups.Tasks.Driver == "raw_exec" and ID matches "^b"') == [
        "beta", "beta-2",
    ]  # fmt: skip


def test_allocations_are_found_by_a_short_prefix() -> None:
    full = ids("Alloc.List")
    assert ids("Alloc.List", prefix=full[0][:8]) == [full[0]]
    answer = WORLD.ask(leader(WORLD), "Alloc.Get", params={"alloc_id": full[0][:8]})
    assert answer.body["ID"] == full[0] and answer.body["Resources"]["CPU"] == 100


def test_search_by_prefix_and_by_part() -> None:
    body = {"Prefix": "be", "Context": "jobs"}
    answer = WORLD.ask(leader(WORLD), "Search.Prefix", body=body)
    assert answer.body["Matches"] == {"jobs": ["beta", "beta-2"]}
    fuzzy = WORLD.ask(leader(WORLD), "Search.Fuzzy", body={"Text": "amm", "Context": "jobs"})
    assert fuzzy.body["Matches"]["jobs"] == [{"ID": "gamma", "Scope": ["default", "gamma"]}]


def test_nodes_hide_their_secret() -> None:
    node_id = ids("Node.List")[0]
    node = WORLD.ask(leader(WORLD), "Node.Get", params={"node_id": node_id}).body
    assert node["SecretID"] == "" and node["Drain"] is False
    allocs = WORLD.ask(leader(WORLD), "Node.AllocationsOf", params={"node_id": node_id}).body
    assert all(alloc["Job"]["ID"] == alloc["JobID"] for alloc in allocs)
