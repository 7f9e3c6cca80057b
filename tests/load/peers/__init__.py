"""What is measured: the gateway and those it is measured beside, each started afresh for every run."""
