"""Rules by name become links between agents."""

import pytest

from core.devcluster.links import Endpoint, Links, UnknownName


def endpoint(name: str, region: str, datacenter: str = "dc1") -> Endpoint:
    return Endpoint(name, region, datacenter, "", "", (), ())


EU1, EU2, US1 = endpoint("eu-1", "eu"), endpoint("eu-2", "eu", "dc2"), endpoint("us-1", "us")


@pytest.fixture
def links() -> Links:
    return Links([EU1, EU2, US1])


def is_cut(links: Links, sender: Endpoint, receiver: Endpoint) -> bool:
    return links.between(sender, receiver).is_cut


def test_regions_are_cut_in_both_directions_and_stay_whole_inside(links: Links) -> None:
    links.cut("eu", "us")
    assert is_cut(links, EU1, US1)
    assert is_cut(links, US1, EU2)
    assert not is_cut(links, EU1, EU2)


def test_a_rule_changes_links_that_are_in_use(links: Links) -> None:
    link = links.between(EU1, US1)
    links.cut("eu", "us")
    assert link.is_cut
    links.heal()
    assert not link.is_cut


def test_one_name_is_cut_off_from_all_others(links: Links) -> None:
    links.cut("eu/dc2")
    assert is_cut(links, EU2, EU1)
    assert is_cut(links, US1, EU2)
    assert not is_cut(links, EU1, US1)


def test_a_one_way_cut_leaves_the_way_back(links: Links) -> None:
    links.cut("eu-1", "us", is_one_way=True)
    assert is_cut(links, EU1, US1)
    assert not is_cut(links, US1, EU1)


def test_the_slowest_rule_counts_and_a_new_word_replaces_the_old(links: Links) -> None:
    links.slow("eu", "us", 0.1)
    links.slow("eu-1", "us", 0.2)
    assert links.between(EU1, US1).delay_s == 0.2
    assert links.between(EU2, US1).delay_s == 0.1
    links.slow("us", "eu", 0.4)
    assert links.between(EU1, US1).delay_s == 0.4
    assert len(links.rules) == 2


def test_heal_drops_what_it_names_and_no_more(links: Links) -> None:
    links.cut("eu", "us")
    links.cut("eu-1", "eu-2")
    assert [str(rule) for rule in links.heal("us", "eu")] == ["eu <-> us: cut"]
    assert not is_cut(links, EU1, US1)
    assert is_cut(links, EU1, EU2)


def test_an_unknown_name_is_refused_with_the_known_ones(links: Links) -> None:
    with pytest.raises(UnknownName, match=r'"asia".*eu, eu/dc1, eu/dc2, us'):
        links.cut("eu", "asia")


def test_a_caller_that_is_no_agent_is_never_cut(links: Links) -> None:
    links.cut("eu")
    assert not links.between(None, EU1).is_cut
