"""Domains named in `A2A_DOMAINS`."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from contracts.contract import Contract
from contracts.domain import MARKET_DOMAIN, Domain
from contracts.schemas.__main__ import main as write_schemas
from services.chassis import domains
from services.chassis.settings import ServiceSettings, load
from tests.domains.shipment import DOMAIN as SHIPMENT


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


def test_a_module_that_fails_is_a_wrong_setting_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_domain.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="broken_domain cannot be imported: ZeroDivisionError: division by zero"):
        domains.load(["broken_domain"])


CREATED = SHIPMENT.events[0]
UNFIT: dict[str, tuple[Contract, str]] = {
    "a version that no upcaster leads to": (replace(CREATED, version=2), "has no upcaster to version 2"),
    "a type of the market's": (replace(CREATED, type="ORDER_CREATED"), "ORDER_CREATED version 1 is declared twice"),
    "an example that does not fit": (
        replace(CREATED, type="SHIPMENT_LOST", example={**CREATED.example, "due_at": "soon"}),
        "SHIPMENT_LOST version 1: the example does not fit: /data/due_at: ",
    ),
    "an example without a key": (
        replace(CREATED, type="SHIPMENT_LOST", example={}),
        "SHIPMENT_LOST version 1: the example lacks 'order_id'",
    ),
    "an example whose key is no id": (
        replace(CREATED, type="SHIPMENT_LOST", example={**CREATED.example, "order_id": "a.b"}),
        "SHIPMENT_LOST version 1: the example does not fit: ",
    ),
}


@pytest.mark.parametrize("named", UNFIT)
def test_events_that_do_not_fit_are_refused_by_every_service_and_by_the_schemas_command(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    further, told = UNFIT[named]
    module = ModuleType("parcels_domain")
    monkeypatch.setattr(module, "DOMAIN", replace(SHIPMENT, events=(*SHIPMENT.events, further)), raising=False)
    monkeypatch.setitem(sys.modules, "parcels_domain", module)
    with pytest.raises(ValueError, match=r"^market\+shipment: ") as refused:
        domains.load(["parcels_domain"])
    assert told in str(refused.value)
    assert write_schemas(["--domain", "parcels_domain", "--folder", str(tmp_path)]) == 1
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_events_beside_the_markets_are_taken() -> None:
    assert domains.load(["tests.domains.shipment"]).events == SHIPMENT.events


@pytest.mark.parametrize("module", ["no_such_module", "json"])
def test_the_schemas_command_tells_in_one_line_of_a_module_that_is_no_domain(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        write_schemas(["--domain", module, "--folder", str(tmp_path)])
    assert ended.value.code == 2
    assert f"error: --domain {module}: " in capsys.readouterr().err.splitlines()[-1]
