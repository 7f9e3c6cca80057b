"""Control messages of a push consumer."""

from services.gateway.bus.control import Control, read_control


def test_a_heartbeat_tells_what_was_delivered_and_asks_for_nothing() -> None:
    headers = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\nNats-Last-Stream: 9\r\n\r\n"
    assert read_control(b"", headers) == Control((), 7)


def test_a_flow_control_request_is_answered_where_it_asks() -> None:
    assert read_control(b"$JS.FC.x", b"NATS/1.0 100 FlowControl Request\r\n\r\n") == Control(("$JS.FC.x",), None)


def test_a_stalled_consumer_is_answered_too() -> None:
    headers = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Consumer-Stalled: $JS.FC.y\r\n\r\n"
    assert read_control(b"", headers) == Control(("$JS.FC.y",), 1)
