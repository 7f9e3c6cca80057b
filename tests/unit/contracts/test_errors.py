import pytest

from contracts.errors import CloseCode, ContractError, ErrorCode, Problem, Refused
from contracts.principal import Principal


def test_every_code_has_a_name_of_its_own() -> None:
    assert len({code.wire for code in ErrorCode}) == len(ErrorCode)
    assert all(code.wire == code.name.lower() for code in ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_status_of_an_error_and_a_sentence(code: ErrorCode) -> None:
    assert 400 <= code.status < 600
    assert code.message.endswith(".")


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_codes_hundreds_say_what_the_client_does(code: CloseCode) -> None:
    assert code // 100 in (40, 41, 42)
    assert code.reason == code.name.lower()
    assert len(code.reason.encode()) <= 123


def test_a_problem_tells_its_codes_message_unless_it_has_its_own() -> None:
    assert Problem(ErrorCode.FORBIDDEN).text == ErrorCode.FORBIDDEN.message
    assert Problem(ErrorCode.FORBIDDEN, "not you").text == "not you"


def test_a_problem_may_be_final_where_its_code_is_not() -> None:
    assert Problem(ErrorCode.REPLAY_UNAVAILABLE).may_retry
    assert not Problem(ErrorCode.REPLAY_UNAVAILABLE, retryable=False).may_retry


def test_a_problem_over_http_is_an_rfc_9457_object() -> None:
    assert Problem(ErrorCode.CURSOR_AHEAD, "too far", details={"to": "M.1.2"}).as_http() == {
        "type": "urn:a2a:problem:cursor_ahead",
        "title": ErrorCode.CURSOR_AHEAD.message,
        "status": 409,
        "detail": "too far",
        "code": "cursor_ahead",
        "message": "too far",
        "retryable": False,
        "details": {"to": "M.1.2"},
    }


def test_a_refusal_is_a_contract_error_that_bears_its_problem() -> None:
    problem = Problem(ErrorCode.REVOKED)
    refused = Refused(problem)
    assert isinstance(refused, ContractError)
    assert (refused.problem, str(refused)) == (problem, problem.text)


@pytest.mark.parametrize(
    ("claim", "covered"),
    [
        (None, True),
        ([], False),
        (["order:o1"], True),
        (["order:*"], True),
        (["order:o2"], False),
        (["plan:*"], False),
        (["*"], False),
    ],
)
def test_a_channels_claim_covers_exact_names_and_whole_kinds(claim: list[str] | None, covered: bool) -> None:
    narrowed = None if claim is None else frozenset(claim)
    assert Principal("ada", "buyer", 0.0, narrowed).covers("order:o1") is covered
