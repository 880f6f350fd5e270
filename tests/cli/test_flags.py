"""Flags in Nomad's manner."""

import click
import pytest

from core.cli.flags import Command, command, option


@command()
@click.argument("words", nargs=-1)
@option("-region", default="")
@option("-var", "variables", multiple=True)
@option("-detach", is_flag=True)
@option("-f", "follow", is_flag=True)
@option("-n", "count", type=int, default=0)
def sample(**given: object) -> dict[str, object]:
    return given


def parse(*args: str) -> dict[str, object]:
    assert isinstance(sample, Command)
    result = sample.main(list(args), standalone_mode=False)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    "args", [["-region", "us"], ["-region=us"], ["--region", "us"], ["--region=us"]]
)
def test_one_dash_or_two_space_or_equals(args: list[str]) -> None:
    assert parse(*args, "web")["region"] == "us"
    assert parse("web", *args)["region"] == "us"
    assert parse("web", *args)["words"] == ("web",)


def test_a_value_may_hold_dashes_and_equal_signs() -> None:
    given = parse("-var", "a=b=c", "-var=d=-e", "-region", "-odd", "x")
    assert given["variables"] == ("a=b=c", "d=-e")
    assert given["region"] == "-odd"


@pytest.mark.parametrize(
    ("word", "value"),
    [("-detach", True), ("-detach=true", True), ("--detach=1", True), ("-detach=false", False)],
)
def test_booleans_may_carry_their_value(word: str, value: bool) -> None:
    assert parse(word)["detach"] is value


def test_a_boolean_with_another_value_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="true or false"):
        parse("-detach=perhaps")


def test_an_unknown_flag_is_named_whole_with_the_nearest() -> None:
    # click alone would read it as -f -o -l ...
    with pytest.raises(click.NoSuchOption) as caught:
        parse("-folow")
    assert caught.value.option_name == "-folow"
    with pytest.raises(click.NoSuchOption) as caught:
        parse("-regoin=us")
    assert "-region" in (caught.value.possibilities or [])


def test_a_dash_alone_and_what_follows_two_dashes_are_arguments() -> None:
    assert parse("-", "-f")["words"] == ("-",)
    assert parse("--", "-f")["words"] == ("-f",)
