"""The component catalogue, and the order in which components start."""

import re
from random import Random

import pytest

from specs.catalogue import Component, catalogue, owner_of, start_order
from specs.fleet import DEMO_SET
from specs.ownership import GATE_KEYS

OTHERS = [
    "hero_memory",
    "hero_voice",
    "hero_collab",
    "hero_foundry",
    "hero_archipelagos",
    "hero_assistance",
    "hero_kimi",
    "hero_os",
    "hero_embedder",
    "hero_aibroker",
    "hero_office",
]


def test_every_component_of_the_field_is_there() -> None:
    assert set(catalogue()) == {*DEMO_SET, *OTHERS}
    assert {name for name, each in catalogue().items() if each.core} == {*DEMO_SET[:4]}


def test_what_the_sandbox_refuses_says_why() -> None:
    refused = {name: each.refusal for name, each in catalogue().items() if not each.allowed}
    assert list(refused) == ["hero_office"]
    assert refused["hero_office"]


@pytest.mark.parametrize("component", catalogue().values(), ids=lambda each: each.name)
def test_a_component_fits_the_others(component: Component) -> None:
    services = {service for each in catalogue().values() for service in each.services}
    assert re.fullmatch(r"hero_[a-z]+", component.name)
    assert component.title
    assert set(component.needs) <= set(catalogue())
    assert component.name not in component.needs
    assert component.health is None or component.health in component.services
    assert "hero_aibroker" not in component.needs
    for key, setting in component.settings.items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", key)
        assert key not in GATE_KEYS
        assert set(setting.readers) <= services
        assert setting.description


def test_core_and_demo_components_need_nothing_that_may_be_taken_out_of_the_core() -> None:
    for each in catalogue().values():
        if each.core:
            assert all(catalogue()[need].core for need in each.needs)


@pytest.mark.parametrize("seed", range(20))
def test_needs_come_first_and_the_order_is_always_the_same(seed: int) -> None:
    random = Random(seed)
    names = random.sample(list(catalogue()), random.randint(1, len(catalogue())))
    order = start_order(names)
    assert sorted(order) == sorted(names)
    for index, name in enumerate(order):
        assert {need for need in catalogue()[name].needs if need in names} <= set(order[:index])
    random.shuffle(names)
    assert start_order(names) == order


def test_the_demo_set_starts_in_its_own_order() -> None:
    assert start_order(reversed(DEMO_SET)) == DEMO_SET


def test_needs_beat_the_catalogues_order() -> None:
    def component(name: str, *needs: str) -> Component:
        return Component(name=name, title=name, services=(name,), health=name, context=name, needs=needs)

    among = {each.name: each for each in (component("a", "c"), component("b"), component("c"))}
    assert start_order(["a", "b", "c"], among) == ("b", "c", "a")


def test_an_unknown_name_is_no_component() -> None:
    with pytest.raises(KeyError):
        start_order(["hero_boks"])


def test_a_functional_check_is_a_request_to_a_service_of_the_component() -> None:
    checks = {name: each.sends for name, each in catalogue().items() if each.sends}
    assert {"hero_cockpit", "hero_books", "hero_agent"} <= set(checks)
    assert all(path.split("/")[1] in catalogue()[name].services for name, path in checks.items())
    assert not catalogue()["hero_cockpit"].assumed, (
        "its address is the link that testers get: not to know it is a fault"
    )


def test_a_service_belongs_to_the_component_that_names_it() -> None:
    assert owner_of("hero_books") == "hero_books"
    assert owner_of("a_stranger") == "a_stranger"
