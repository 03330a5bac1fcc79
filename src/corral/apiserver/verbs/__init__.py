"""The verbs of the API, one file each. They know nothing of HTTP and nothing of any particular kind."""
