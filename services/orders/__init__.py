"""Orders: what accepted negotiations become, until they are paid and confirmed or cancelled. Money and order agree."""
