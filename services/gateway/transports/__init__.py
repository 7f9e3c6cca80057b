"""The client side: what turns sockets and requests into the core's connections, and back into bytes."""
