"""Whose JetStream is meant: the connection's own, or the hub's through the leaf node."""

from nats.aio.client import Client

from services.chassis.prefix import DomainClient, api_of, bucket_prefix_of, prefix_of


def test_a_connection_means_its_own_jetstream_unless_it_was_made_for_a_domain() -> None:
    assert prefix_of(Client()) == api_of("") == "$JS.API"
    assert prefix_of(DomainClient("hub")) == api_of("hub") == "$JS.hub.API"


def test_a_write_to_a_bucket_bears_the_prefix_of_another_domain_alone() -> None:
    assert bucket_prefix_of(Client()) == ""
    assert bucket_prefix_of(DomainClient("hub")) == "$JS.hub.API."
