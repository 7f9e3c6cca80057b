"""What tests share: tokens, events, a service in this process, awaited conditions. Fixtures live in conftest files."""
