"""The documents name what there is: every setting, files that exist, and no more words than promised."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
ADRS = sorted(ROOT.glob("docs/adr/[0-9]*.md"))
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def settings_of_services() -> set[str]:
    found = set()
    for path in ROOT.glob("services/*/settings.py"):
        module = import_module(f"services.{path.parent.name}.settings")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, BaseSettings):
                found |= {f"A2A_{name.upper()}" for name in kind.model_fields}
    return found


def test_the_readme_lists_every_setting_and_no_other() -> None:
    listed = set(re.findall(r"`(A2A_[A-Z0-9_]+)`", (ROOT / "README.md").read_text()))
    assert listed == settings_of_services()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_exist(document: Path) -> None:
    targets = _LINK.findall(document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_a_document_lead_to_its_headings(document: Path) -> None:
    text = document.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", text) if anchor not in headings] == []


@pytest.mark.parametrize("document", ADRS, ids=lambda path: path.stem)
def test_a_decision_is_short_says_why_and_is_listed(document: Path) -> None:
    text = document.read_text()
    assert len(text.splitlines()) <= 60
    for part in ("Status: ", "## Context", "## Decision", "## Consequences", "## Alternatives", "## Enforced by"):
        assert part in text
    assert document.name in (ROOT / "docs" / "README.md").read_text()


def test_the_readmes_python_is_python() -> None:
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        compile(code, "README.md", "exec")
