"""Access control: the first token, and what is left to those without one."""

from harness import World
from stories import datacenter, follower, leader


def guarded() -> World:
    return datacenter(3, 0, acl_enabled=True)


def test_the_anonymous_is_denied_what_is_not_public() -> None:
    world = guarded()
    for method in ("Job.List", "Node.List", "Agent.Self", "System.GC", "ACL.Token.List"):
        answer = world.ask(leader(world), method)
        assert (answer.status, answer.error) == (403, "Permission denied"), method
    for method in ("Status.Leader", "Region.List", "Agent.Health"):
        assert not world.ask(leader(world), method).is_error, method


def test_bootstrap_works_once_and_its_token_opens_all() -> None:
    world = guarded()
    token = world.ask(follower(world), "ACL.Bootstrap").body
    assert token["Type"] == "management" and token["Name"] == "Bootstrap Token"
    assert not world.ask(leader(world), "Job.List", token=token["SecretID"]).is_error
    again = world.ask(leader(world), "ACL.Bootstrap")
    assert again.status == 400 and "already done" in again.error


def test_an_unknown_token_is_told_so() -> None:
    world = guarded()
    answer = world.ask(leader(world), "Job.List", token="not-there")
    assert (answer.status, answer.error) == (403, "ACL token not found")


def test_tokens_are_created_updated_listed_and_deleted() -> None:
    world = guarded()
    root = world.ask(leader(world), "ACL.Bootstrap").body["SecretID"]
    made = world.ask(
        leader(world), "ACL.Token.Create", token=root, body={"Name": "ci", "Type": "management"}
    ).body
    assert not world.ask(leader(world), "Job.List", token=made["SecretID"]).is_error
    path = {"accessor_id": made["AccessorID"]}
    changed = world.ask(
        leader(world), "ACL.Token.Update", token=root, params=path, body={"Name": "ci2"}
    ).body
    assert (changed["Name"], changed["SecretID"]) == ("ci2", made["SecretID"])
    rows = world.ask(leader(world), "ACL.Token.List", token=root).body
    assert len(rows) == 2 and all("SecretID" not in row for row in rows)
    assert not world.ask(leader(world), "ACL.Token.Delete", token=root, params=path).is_error
    gone = world.ask(leader(world), "Job.List", token=made["SecretID"])
    assert gone.error == "ACL token not found"


def test_a_client_token_without_policies_may_only_look_at_itself() -> None:
    world = guarded()
    root = world.ask(leader(world), "ACL.Bootstrap").body["SecretID"]
    weak = world.ask(leader(world), "ACL.Token.Create", token=root, body={"Name": "x"}).body
    assert world.ask(leader(world), "Job.List", token=weak["SecretID"]).status == 403
    own = world.ask(leader(world), "ACL.Token.Self", token=weak["SecretID"]).body
    assert own["AccessorID"] == weak["AccessorID"]


def test_without_access_control_tokens_are_refused_in_words() -> None:
    world = datacenter(1, 0)
    answer = world.ask(leader(world), "ACL.Bootstrap")
    assert (answer.status, answer.error) == (400, "ACL support disabled")
