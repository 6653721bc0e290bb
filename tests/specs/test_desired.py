"""From what an admin writes to the explicit desired state: defaults, merging, ownership of settings, exact round trip."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from specs.catalogue import catalogue
from specs.desired import DesiredSetting, DesiredTester, desire, digest, needs_of_secret
from specs.errors import Refused
from specs.fleet import DEMO_SET, Fleet
from specs.loading import Loaded
from specs.merging import effective
from specs.ownership import GATE_SETTINGS
from specs.references import SecretRef
from specs.tester import Tester

Make = Callable[..., Tester]
MakeFleet = Callable[..., Fleet]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMCYJWIBAZJ2xDR4Ap4o1MNV/+IHNBnWsyXMaApUwOeS"


def desired(tester: Tester, fleet: Fleet) -> DesiredTester:
    return desire(tester, fleet, catalogue())


def setting(state: DesiredTester, key: str) -> DesiredSetting:
    (found,) = (each for each in state.settings if each.key == key)
    return found


def test_the_shortest_tester_gets_everything_from_defaults(make_tester: Make, fleet: Fleet) -> None:
    state = desired(make_tester(), fleet)
    assert tuple(each.name for each in state.components) == DEMO_SET
    assert state.account.name == "dora"
    assert state.account.when_removed == "disable"
    assert state.allowlist == ("dora", "mik", "sara")
    assert (state.machine.memory_mb, state.machine.cpu, state.machine.disk_gb) == (8192, 4, 50)
    assert state.machine.keep_after_removal == timedelta(hours=24)
    assert state.machine.placement is None
    assert state.ssh_keys == tuple(key for admin in fleet.spec.admins for key in admin.ssh_keys)
    assert state.welcome.send


def test_json_round_trip_is_exact(example: Loaded) -> None:
    for each in example.testers.values():
        again = DesiredTester.model_validate_json(each.desired.model_dump_json())
        assert again == each.desired
        assert digest(again) == digest(each.desired) == each.digest
        assert all(isinstance(one.secret, SecretRef) for one in again.settings if one.secret)


def test_a_digest_changes_with_the_content_only(make_tester: Make, fleet: Fleet) -> None:
    plain = digest(desired(make_tester(), fleet))
    assert digest(desired(make_tester(machine={"memory": "8192MiB"}), fleet)) == plain
    assert digest(desired(make_tester(machine={"memory": "9GiB"}), fleet)) != plain


def test_values_are_frozen(make_tester: Make, fleet: Fleet) -> None:
    state = desired(make_tester(), fleet)
    with pytest.raises(ValidationError):
        state.machine.cpu = 9  # type: ignore[misc]


def test_the_allowlist_holds_nobody_twice_whatever_the_case(make_tester: Make, fleet: Fleet) -> None:
    state = desired(make_tester({"account": "Dora-D"}, allowlist=["bob", "MIK", "dora-d", "Bob", "eve"]), fleet)
    assert state.allowlist == ("Dora-D", "mik", "sara", "bob", "eve")


def test_an_adopted_account_is_always_kept(make_tester: Make, fleet: Fleet) -> None:
    assert desired(make_tester({"existing": True}), fleet).account.when_removed == "keep"


def test_ssh_keys(make_tester: Make, fleet: Fleet) -> None:
    admins = tuple(key for admin in fleet.spec.admins for key in admin.ssh_keys)
    state = desired(make_tester(keys={"ssh": [f"{KEY} one", f"{KEY} two", admins[0]]}), fleet)
    assert state.ssh_keys == (*admins, f"{KEY} one")
    assert not state.ssh_key_required
    state = desired(make_tester(keys={"ssh": "required"}), fleet)
    assert state.ssh_keys == admins
    assert state.ssh_key_required


def test_providers(make_tester: Make, fleet: Fleet) -> None:
    choices = {"openrouter": "default", "groq": "own", "sambanova": {"secret": "dora/sambanova"}}
    state = desired(make_tester(keys={"providers": choices}), fleet)
    assert setting(state, "OPENROUTER_API_KEY").secret == "env:DEMO_OPENROUTER_KEY"
    assert setting(state, "SAMBANOVA_API_KEY").secret == "dora/sambanova"
    assert setting(state, "SAMBANOVA_API_KEY").origin == "provider sambanova"
    assert setting(state, "SAMBANOVA_API_KEY").readers == ("hero_cockpit", "hero_agent")
    assert state.foreign_settings == (("cockpit", "GROQ_API_KEY"),)
    assert needs_of_secret(state) == ("env:DEMO_OPENROUTER_KEY", "dora/sambanova")


def test_settings_know_their_context_readers_and_origin(make_tester: Make, fleet: Fleet) -> None:
    values = {"BOOKS_ZOO": "z", "BOOKS_LIBRARIES": "$(touch x)'\";|&\n", "BOOKS_THEME": {"secret": "env:THEME"}}
    state = desired(make_tester(components={"settings": {"hero_books": values}}), fleet)
    books = setting(state, "BOOKS_LIBRARIES")
    assert (books.context, books.readers, books.origin) == ("books", ("hero_books",), "component hero_books")
    assert books.value == values["BOOKS_LIBRARIES"]
    assert setting(state, "BOOKS_THEME").secret == "env:THEME"
    assert setting(state, "HERO_EMBEDDER_URL").value == "http://[400:1::1]:9100"
    assert setting(state, "HERO_EMBEDDER_URL").readers == ("hero_cockpit", "hero_indexer")
    assert [each.token_setting for each in state.engines] == ["SHARED_EMBEDDER_TOKEN"]
    assert [(each.context, each.key) for each in state.settings] == sorted((s.context, s.key) for s in state.settings)


def test_who_says_nothing_about_libraries_gets_the_catalogues(make_tester: Make, make_fleet: MakeFleet) -> None:
    """Of a tester without settings; the Fleet's default and the tester's own word win; who has no Books gets none."""
    books = setting(desired(make_tester(), make_fleet()), "BOOKS_LIBRARIES")
    assert (books.context, books.value, books.readers) == ("books", "hero", ("hero_books",))
    fleetwide = make_fleet(defaults={"components": {"settings": {"hero_books": {"BOOKS_LIBRARIES": "ours"}}}})
    assert setting(desired(make_tester(), fleetwide), "BOOKS_LIBRARIES").value == "ours"
    own = make_tester(components={"settings": {"hero_books": {"BOOKS_LIBRARIES": "mine"}}})
    assert setting(desired(own, fleetwide), "BOOKS_LIBRARIES").value == "mine"
    without = desired(make_tester(components={"remove": ["hero_books"]}), make_fleet())
    assert [each for each in without.settings if each.key == "BOOKS_LIBRARIES"] == []


def test_a_service_reads_a_setting_in_its_own_context_only(make_tester: Make, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(providers={"groq": {"setting": "GROQ_API_KEY", "context": "elsewhere", "default": "env:GROQ"}})
    state = desired(make_tester(keys={"providers": {"groq": "default"}}), fleet)
    assert (setting(state, "GROQ_API_KEY").context, setting(state, "GROQ_API_KEY").readers) == ("elsewhere", ())


def test_what_the_gate_keeps_is_never_among_the_settings(example: Loaded) -> None:
    for each in example.testers.values():
        assert GATE_SETTINGS.isdisjoint((one.context, one.key) for one in each.desired.settings)


def test_a_setting_has_a_value_or_a_secret() -> None:
    for both in ({}, {"value": "x", "secret": "env:X"}):
        with pytest.raises(ValidationError):
            DesiredSetting.model_validate({"context": "core", "key": "A", "readers": [], "origin": "x", **both})


def test_defaults_are_merged_by_key_and_lists_replaced(make_tester: Make, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(
        defaults={
            "allowlist": ["eve"],
            "machine": {"memory": "16GiB", "cpu": 8},
            "keys": {"providers": {"openrouter": "default", "groq": "own"}},
            "components": {"settings": {"hero_books": {"BOOKS_A": "fleet", "BOOKS_B": "fleet"}}},
            "version": {"pin": {"hero_books": "v1"}},
            "welcomeEmail": {"send": True, "resend": 3},
        }
    )
    tester = make_tester(
        allowlist=["bob"],
        machine={"cpu": 2},
        keys={"providers": {"openrouter": "none"}},
        components={"settings": {"hero_books": {"BOOKS_B": "dora"}}},
        version={"pin": {"hero_slides": "v2"}},
        welcomeEmail=False,
    )
    spec = effective(tester.spec, fleet)
    assert spec.allowlist == ("bob",)
    assert (spec.machine.memory, spec.machine.cpu) == (16384, 2)
    assert spec.keys.providers == {"openrouter": "none", "groq": "own"}
    assert spec.components.settings == {"hero_books": {"BOOKS_A": "fleet", "BOOKS_B": "dora"}}
    assert spec.version.pin == {"hero_books": "v1", "hero_slides": "v2"}
    assert spec.welcome_email is False
    assert desired(make_tester(), fleet).welcome.resend == 3
    assert tester.spec.machine.memory == 8192


def test_a_testers_choice_of_components_answers_the_defaults(make_tester: Make, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(defaults={"components": {"add": ["hero_memory"], "remove": ["hero_biz"]}})
    plain = {each.name for each in desired(make_tester(), fleet).components}
    assert "hero_memory" in plain
    assert "hero_biz" not in plain
    more = effective(make_tester(components={"add": ["hero_biz"]}).spec, fleet).components
    assert (more.add, more.remove) == (("hero_biz",), ())
    less = effective(make_tester(components={"remove": ["hero_memory"]}).spec, fleet).components
    assert (less.add, less.remove) == ((), ("hero_memory",))
    added = {each.name for each in desired(make_tester(components={"add": ["hero_biz"]}), fleet).components}
    assert "hero_biz" in added
    assert "hero_memory" not in added, "lists are replaced"
    removed = {each.name for each in desired(make_tester(components={"remove": ["hero_memory"]}), fleet).components}
    assert "hero_memory" not in removed


def test_defaults_for_a_component_that_is_not_there_are_passed_over(make_tester: Make, make_fleet: MakeFleet) -> None:
    defaults = {
        "components": {"settings": {"hero_biz": {"BIZ_A": "x"}}, "publicPaths": ["/hero_biz/share/"]},
        "version": {"pin": {"hero_biz": "v1"}},
    }
    state = desired(make_tester(components={"remove": ["hero_biz"]}), make_fleet(defaults=defaults))
    assert [each.key for each in state.settings] == ["BOOKS_LIBRARIES", "HERO_EMBEDDER_URL"]
    assert state.public_paths == ()
    assert "v1" not in [each.version for each in state.components]


def test_core_components_are_in_every_set(make_tester: Make, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(componentSets={"demo": ["hero_books"]})
    names = [each.name for each in desired(make_tester(), fleet).components]
    assert names == ["hero_proc", "hero_router", "hero_proxy", "hero_cockpit", "hero_books"]


def test_an_engine_that_runs_shared_is_not_installed(make_tester: Make, fleet: Fleet, make_fleet: MakeFleet) -> None:
    tester = make_tester(components={"add": ["hero_embedder"]})
    assert "hero_embedder" not in [each.name for each in desired(tester, fleet).components]
    with pytest.raises(Refused, match="runs shared"):
        desired(tester, make_fleet(engines=[]))


def test_two_components_must_agree_about_a_setting_they_share(make_tester: Make, fleet: Fleet) -> None:
    same = {"hero_proxy": {"CORE_X": "a"}, "hero_router": {"CORE_X": "a"}}
    assert setting(desired(make_tester(components={"settings": same}), fleet), "CORE_X").value == "a"
    other = {"hero_proxy": {"CORE_X": "a"}, "hero_router": {"CORE_X": "b"}}
    with pytest.raises(Refused, match="disagree"):
        desired(make_tester(components={"settings": other}), fleet)


def test_a_broken_rule_is_refused_with_every_finding(make_tester: Make, fleet: Fleet) -> None:
    with pytest.raises(Refused) as refused:
        desired(make_tester(components={"add": ["hero_office"], "remove": ["hero_proc"]}), fleet)
    assert [each.path[2] for each in refused.value.findings] == ["add", "remove"]


def test_new_engine_tokens_are_asked_for_by_a_counter(make_tester: Make, make_fleet: MakeFleet) -> None:
    assert desired(make_tester(), make_fleet()).engine_rotation == 0
    fleet = make_fleet(defaults={"keys": {"rotateEngineTokens": 2}})
    assert desired(make_tester(), fleet).engine_rotation == 2, "one line of the Fleet rotates everybody's"
    assert desired(make_tester(keys={"rotateEngineTokens": 3}), fleet).engine_rotation == 3


def test_where_tokens_are_registered_changes_nothing_on_a_testers_machine(make_tester: Make, fleet: Fleet) -> None:
    raw = fleet.model_dump(mode="json", by_alias=True, exclude_unset=True)
    raw["spec"]["engines"][0]["registry"]["host"] = "400:2::2"
    moved = Fleet.model_validate(raw)
    assert digest(desired(make_tester(), moved)) == digest(desired(make_tester(), fleet))


@pytest.mark.parametrize(("mail", "sent"), [(None, True), ({}, True), ({"send": False}, False)])
def test_the_fleet_can_turn_the_welcome_mail_off(
    mail: dict[str, bool] | None, sent: bool, make_tester: Make, make_fleet: MakeFleet
) -> None:
    fleet = make_fleet(mail=None if mail is None else {"from": "hero@example.org", **mail})
    welcome = desired(make_tester(welcomeEmail={"send": True, "resend": 3}), fleet).welcome
    assert (welcome.send, welcome.resend) == (sent, 3)
    assert not desired(make_tester(welcomeEmail=False), fleet).welcome.send


def test_updates_are_applied_or_only_told(make_tester: Make, fleet: Fleet) -> None:
    assert desired(make_tester(), fleet).updates == "apply"
    assert desired(make_tester(version={"updates": "notify"}), fleet).updates == "notify"


def test_a_mail_servers_password_is_a_secret_of_the_fleet_and_goes_to_no_machine(
    make_tester: Make, make_fleet: MakeFleet
) -> None:
    smtp = {"host": "mail.example.org", "user": "hero", "password": "env:SMTP"}
    fleet = make_fleet(mail={"from": "hero@example.org", "smtp": smtp})
    assert "env:SMTP" in fleet.spec.secrets()
    with pytest.raises(Refused, match="secret of the controller itself"):
        desired(make_tester(keys={"providers": {"groq": {"secret": "env:SMTP"}}}), fleet)


def test_what_time_and_safety_default_to(make_fleet: MakeFleet) -> None:
    spec = make_fleet(timing={}, safety={}).spec
    assert (spec.timing.releases_every, spec.timing.capacity_lag) == (timedelta(minutes=15), timedelta(seconds=120))
    assert (spec.timing.expiry_warning, spec.safety.max_rebuilds) == (timedelta(days=7), 2)


def test_a_chosen_node(make_tester: Make, fleet: Fleet) -> None:
    assert desired(make_tester(machine={"node": "gent/0001"}), fleet).machine.placement == ("gent", "0001")


def test_dates_and_pause_arrive(make_tester: Make, fleet: Fleet) -> None:
    state = desired(make_tester(expires="2030-01-02", paused={"reason": "demo", "by": "mik"}), fleet)
    assert state.expires == date(2030, 1, 2)
    assert state.paused is not None
    assert state.paused.reason == "demo"


@pytest.mark.parametrize(
    ("written", "total", "allowed"),
    [(0, 10, 0), (3, 10, 3), ("20%", 10, 2), ("20%", 3, 1), ("0%", 10, 0), ("100%", 7, 7), ("20%", 0, 1)],
)
def test_how_many_may_go_at_once(written: int | str, total: int, allowed: int, make_fleet: MakeFleet) -> None:
    assert make_fleet(safety={"maxRemovals": written}).spec.safety.removals_of(total) == allowed


def test_where_lab_comes_from(fleet: Fleet, make_fleet: MakeFleet) -> None:
    assert fleet.spec.lab_url == "https://forge.example.org/lhumina_code/lab/releases/download/latest/lab-linux-x86_64"
    assert make_fleet(machineAccess={"labUrl": "https://x.org/lab"}).spec.lab_url == "https://x.org/lab"


def test_the_fleets_own_secrets(fleet: Fleet) -> None:
    assert [str(each) for each in fleet.spec.secrets()] == [
        "env:DEMO_INSTALLER_KEY",
        "env:DEMO_FORGE_TOKEN",
        "env:DEMO_COMPUTE_SECRET",
        "env:DEMO_RESEND_KEY",
        "env:DEMO_OPENROUTER_KEY",
    ]
    assert fleet.spec.daemon("gent").nodes[0].grid_node == "2"
    with pytest.raises(KeyError):
        fleet.spec.daemon("ghent")
