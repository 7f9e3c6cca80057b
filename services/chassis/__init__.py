"""Not a service: what each service stands on. Its modules are strangers to each other."""
