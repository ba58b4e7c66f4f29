"""What is taken for an outage of a part of the world, from answers and failures alone."""

import pytest

from k2.lake.reachable import AbsentError
from k2.model.errors import StoreError, WorldError
from k2_operator.reconcile.world import AwayError, World, WorldPart, of_the_world


@pytest.fixture
def world():
    """Each part has answered once."""
    known = World()
    for part in WorldPart:
        assert not known.answered(part)
    return known


@pytest.mark.parametrize("part", WorldPart)
def test_two_questions_in_a_row_that_are_not_answered_are_an_outage_and_one_is_not(world, part):
    assert not world.failed(part, WorldError("one"))
    assert world.away(part) is None
    assert world.doubtful(part)
    assert world.failed(part, WorldError("two"))
    assert str(world.away(part)) == "two"
    assert not world.doubtful(part)


def test_an_answer_between_two_failures_makes_them_two_single_ones(world):
    for _ in range(3):
        assert not world.failed(WorldPart.KAFKA, WorldError("no"))
        assert not world.answered(WorldPart.KAFKA)


def test_an_outage_begins_and_ends_once_and_its_words_stay(world):
    turns = [world.failed(WorldPart.REGISTRY, WorldError(f"failure {number}")) for number in range(5)]
    assert turns == [False, True, False, False, False]
    assert str(world.away(WorldPart.REGISTRY)) == "failure 1"
    assert [world.answered(WorldPart.REGISTRY), world.answered(WorldPart.REGISTRY)] == [True, False]
    assert world.away(*WorldPart) is None


def test_who_needs_several_parts_is_told_of_the_first_that_is_away(world):
    for part in (WorldPart.STORE, WorldPart.KAFKA):
        world.failed(part, WorldError(f"no {part}"))
        world.failed(part, WorldError(f"no {part}"))
    world.require(WorldPart.REGISTRY, WorldPart.CATALOG)
    with pytest.raises(AwayError, match="no store") as away:
        world.require(WorldPart.CATALOG, WorldPart.STORE, WorldPart.KAFKA)
    assert away.value.part is WorldPart.STORE


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (WorldPart.STORE, WorldError("no leave to look")),
        (WorldPart.CATALOG, AbsentError("no file")),
        (WorldPart.STORE, AbsentError("")),
    ],
)
def test_what_has_never_been_seen_there_is_not_away(part, error):
    world = World()
    assert not any(world.failed(part, error) for _ in range(5))
    world.require(part)
    world.answered(part)
    assert [world.failed(part, error) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("part", [WorldPart.KAFKA, WorldPart.REGISTRY, WorldPart.CATALOG])
def test_what_has_not_answered_since_the_start_is_away(part):
    world = World()
    assert [world.failed(part, WorldError("refused")) for _ in range(2)] == [False, True]


def test_what_drivers_raise_is_the_stores_or_the_catalogs_and_never_a_mistake_in_a_resource():
    assert isinstance(of_the_world(OSError("curl 7")), StoreError)
    told = of_the_world(ValueError("who knows"))
    assert type(told) is WorldError
    assert "(ValueError): who knows" in str(told)
    assert of_the_world(same := WorldError("as it was")) is same


def test_a_store_is_not_blamed_for_its_catalog(world):
    world.failed(WorldPart.CATALOG, WorldError("no catalog"))
    assert not any(world.failed(WorldPart.STORE, WorldError("no catalog")) for _ in range(5))
    world.failed(WorldPart.CATALOG, WorldError("no catalog"))
    assert not any(world.failed(WorldPart.STORE, WorldError("no catalog")) for _ in range(5))
    world.answered(WorldPart.CATALOG)
    assert [world.failed(WorldPart.STORE, WorldError("no store")) for _ in range(2)] == [False, True]


def test_where_nothing_is_left_to_ask_for_nothing_is_away(world):
    world.failed(WorldPart.STORE, WorldError("no"))
    world.failed(WorldPart.STORE, WorldError("no"))
    assert world.untold(WorldPart.STORE)
    assert world.away(WorldPart.STORE) is None
    assert not world.untold(WorldPart.STORE)
