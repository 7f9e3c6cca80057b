"""The A2A facade: plans as tasks, for any A2A client (docs/adr/0029).

The one place in the gateway that reads an event's `data`. Streams are the gateway's own cursors over its log;
everything else about a plan is asked of the plans service.
"""
