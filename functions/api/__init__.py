"""The REST door and its console: one file a resource, and `app` brings them together."""
