"""Built-in controllers, one package per kind."""
