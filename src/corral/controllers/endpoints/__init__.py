"""The pods behind a Service: its EndpointSlices, and the Endpoints that older programs read."""
