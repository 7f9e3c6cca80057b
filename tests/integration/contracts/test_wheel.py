"""The wheel `a2a-contracts`: built, installed where nothing else of this repository is, and published with.

Offline: the packages it names, and those it stands on, are taken from this environment, and no others are.
"""

import asyncio
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import nats
import pytest
from packaging.requirements import Requirement

from contracts.publishing import read
from contracts.topology import streams
from services.chassis import jetstream
from services.local.embedded import EmbeddedNats

ROOT = Path(__file__).resolve().parents[3]
_MIB = 1024**2


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT / "contracts", check=True, timeout=60, capture_output=True)
    (found,) = folder.glob("a2a_contracts-*.whl")
    return found


def requirements(wheel: Path) -> list[str]:
    """What the wheel says it needs."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        return re.findall(r"^Requires-Dist: (.+)$", archive.read(name).decode(), re.MULTILINE)


def with_what_they_stand_on(names: list[str]) -> set[str]:
    """These distributions and their own requirements, as this environment has them."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        if wanted.name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found.add(wanted.name)
            waiting += map(Requirement, importlib.metadata.requires(wanted.name) or ())
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel, what it needs, and nats-py."""
    place = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in with_what_they_stand_on([*requirements(wheel), "nats-py"]):
        distribution = importlib.metadata.distribution(name)
        for part in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if not (packages / part).exists():
                (packages / part).symlink_to(str(distribution.locate_file(part)))
    return place / "bin" / "python"


def run(python: Path, *arguments: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        [str(python), "-W", "error", *arguments], cwd=folder, env=environment, timeout=60, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_needs_pydantic_and_msgspec_and_nothing_else(wheel: Path) -> None:
    assert {Requirement(one).name for one in requirements(wheel)} == {"msgspec", "pydantic"}


def test_it_holds_the_schemas_the_types_and_the_licence_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "contracts").rglob("*.py")}
    there |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "contracts" / "schemas").glob("*.json")}
    assert there <= names
    assert {"contracts/py.typed", "contracts/LICENSE"} <= names
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"contracts"}


def test_every_module_of_it_imports_alone(python: Path, tmp_path: Path) -> None:
    code = (
        "import contracts, importlib, pkgutil, sys\n"
        "for found in pkgutil.walk_packages(contracts.__path__, 'contracts.'): importlib.import_module(found.name)\n"
        "print(contracts.__file__, 'services' in sys.modules)"
    )
    file, services = run(python, "-c", code, folder=tmp_path).split()
    assert (Path(file).is_relative_to(python.parent.parent), services) == (True, "False")


async def test_the_code_of_its_readme_publishes_with_nats_py_alone(
    python: Path, tmp_path: Path, fresh_nats: EmbeddedNats
) -> None:
    client = await nats.connect(fresh_nats.url)
    try:
        await jetstream.ensure(client, streams(market_max_bytes=64 * _MIB))
        (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "contracts" / "README.md").read_text(), re.DOTALL)
        (tmp_path / "publisher.py").write_text(code)
        told = await asyncio.to_thread(run, python, "publisher.py", fresh_nats.url, folder=tmp_path)
        assert told == "MARKET 1\n"
        stored = await client.jetstream().get_msg("MARKET", 1)
        assert stored.data is not None
        event = read(stored.data)
        assert (event.contract.type, stored.subject) == ("ORDER_CONFIRMED", event.envelope.subject)
        assert stored.headers == {
            "Nats-Msg-Id": json.loads(stored.data)["id"],
            "Nats-Expected-Stream": "MARKET",
        }
    finally:
        await client.close()
