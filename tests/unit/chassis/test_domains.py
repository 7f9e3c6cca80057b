"""Domains named in `A2A_DOMAINS`."""

import sys
from types import ModuleType

import pytest

from contracts.domain import MARKET_DOMAIN, Domain
from services.chassis import domains
from services.chassis.settings import ServiceSettings, load


@pytest.fixture
def parcels(monkeypatch: pytest.MonkeyPatch) -> Domain:
    module = ModuleType("parcels_domain")
    found = Domain("parcels", roles=frozenset({"carrier"}))
    monkeypatch.setattr(module, "DOMAIN", found, raising=False)
    monkeypatch.setitem(sys.modules, "parcels_domain", module)
    return found


def test_without_any_named_there_is_the_market(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2A_DOMAINS", raising=False)
    assert load(ServiceSettings).domains is MARKET_DOMAIN


def test_a_module_named_in_the_environment_joins_the_market(monkeypatch: pytest.MonkeyPatch, parcels: Domain) -> None:
    monkeypatch.setenv("A2A_DOMAINS", " parcels_domain, ")
    found = load(ServiceSettings).domains
    assert found.roles == MARKET_DOMAIN.roles | parcels.roles
    assert found.streams == MARKET_DOMAIN.streams


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("no_such_module", "no_such_module cannot be imported"),
        ("json", "json has no DOMAIN"),
        ("parcels_domain,services.chassis", "services.chassis has no DOMAIN"),
    ],
)
@pytest.mark.usefixtures("parcels")
def test_a_module_that_does_not_fit_ends_the_process_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str, told: str
) -> None:
    monkeypatch.setenv("A2A_DOMAINS", named)
    with pytest.raises(SystemExit) as ended:
        load(ServiceSettings)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: A2A_DOMAINS: ")
    assert told in line


def test_domains_that_do_not_go_together_are_refused(parcels: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["parcels_domain"], "DOMAIN", Domain("parcels", streams=MARKET_DOMAIN.streams))
    with pytest.raises(ValueError, match="MARKET is declared twice"):
        domains.load(["parcels_domain"])
