"""NATS subjects as nats-server matches them, written apart from the code under test."""


def matches(pattern: str, subject: str) -> bool:
    """Whether the filter `pattern` takes `subject`: `*` is one token, `>` at the end one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">" and index == len(wanted) - 1:
            return len(given) > index
        if index >= len(given) or (token not in ("*", given[index])):
            return False
    return len(wanted) == len(given)
