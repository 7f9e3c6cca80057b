"""How settings are read, and how a wrong one is told."""

import os
from typing import Never

import pytest
from pydantic import Field, ValidationError, model_validator

from services.chassis.settings import (
    CommaList,
    HttpUrl,
    ServiceSettings,
    TokenSettings,
    described,
    load,
    refuse,
    require_one_of,
)


class Example(TokenSettings):
    needed: int = Field(description="something without a default")
    origins: CommaList = Field(default=(), description="a list")
    page: HttpUrl | None = None


class Crossed(ServiceSettings):
    @model_validator(mode="after")
    def refuse(self) -> Never:
        raise ValueError("these two do\nnot go together")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("A2A_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("A2A_NEEDED", "7")
    return monkeypatch


def test_defaults_hold_where_nothing_is_set() -> None:
    found = load(Example)
    assert (found.needed, found.nats_url, found.http_port, found.declare) == (7, "nats://127.0.0.1:4222", 0, True)
    assert found.jwks_url is None


def test_the_environment_is_read_under_its_prefix(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("A2A_NATS_URL", "tls://nats.example:4222")
    environment.setenv("A2A_DECLARE", "false")
    environment.setenv("A2A_ORIGINS", " https://a.example , ,https://b.example")
    environment.setenv("HTTP_PORT", "99999")
    found = load(Example)
    assert (found.nats_url, found.declare) == ("tls://nats.example:4222", False)
    assert found.origins == ("https://a.example", "https://b.example")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load(Example).needed = 8


WRONG = {
    "A2A_NEEDED": "seven",
    "A2A_NATS_URL": "127.0.0.1:4222",
    "A2A_HTTP_PORT": "70000",
    "A2A_HTTP_FD": "1",
    "A2A_REGION": "EU West",
    "A2A_DECLARE": "perhaps",
    "A2A_MARKET_MAX_BYTES": "0",
    "A2A_STREAM_REPLICAS": "9",
    "A2A_LOG_LEVEL": "loud",
    "A2A_JWKS_URL": "issuer.example/keys",
    "A2A_PAGE": "ftp://x",
    "A2A_JWT_HS256_SECRET": "",
    "A2A_JWT_AUDIENCE": "",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items(), ids=WRONG)
def test_a_wrong_setting_is_one_line_that_names_it_and_exit_code_2(
    name: str, value: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(Example)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {name}: ")
    assert told.err.count("\n") == 1


def test_a_missing_setting_is_named_too(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("A2A_NEEDED")
    with pytest.raises(SystemExit):
        load(Example)
    assert capsys.readouterr().err == "error: A2A_NEEDED: Field required\n"


def test_an_address_that_is_none_is_told_what_it_must_be(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("A2A_PAGE", "localhost:80")
    with pytest.raises(SystemExit):
        load(Example)
    assert capsys.readouterr().err == "error: A2A_PAGE: must be an http:// or https:// address\n"


def test_settings_that_do_not_go_together_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(Crossed)
    assert capsys.readouterr().err == "error: these two do not go together\n"


def test_a_secret_is_not_told_with_what_is_wrong(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("A2A_JWKS_URL", "hunter2")
    with pytest.raises(SystemExit):
        load(Example)
    assert "hunter2" not in capsys.readouterr().err


def test_one_of_several_settings_is_enough_and_none_is_refused_by_all_their_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    require_one_of((None, "given"), ("JWKS_URL", "JWT_PUBLIC_KEY"))
    with pytest.raises(SystemExit) as ended:
        require_one_of((None, None), ("JWKS_URL", "JWT_PUBLIC_KEY"))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: set one of A2A_JWKS_URL, A2A_JWT_PUBLIC_KEY\n"


def test_a_refusal_is_always_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        refuse("first\n  second")
    assert capsys.readouterr().err == "error: first second\n"


def test_the_help_lists_each_setting_with_its_default() -> None:
    lines = described(Example).splitlines()
    assert len(lines) == len(Example.model_fields)
    assert any("A2A_NEEDED" in line and line.endswith("something without a default (required)") for line in lines)
    assert any("A2A_REGION" in line and line.endswith("(default local)") for line in lines)
    assert any("A2A_JWKS_URL" in line and "default" not in line for line in lines)
    assert any("A2A_ORIGINS" in line and line.endswith("a list") for line in lines), "nothing is no default to tell"
