"""The edge gateway: a stateless replica that brings each connection from its cursor to live."""
