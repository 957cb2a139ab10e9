"""What admins do over REST, and nobody else: one file a resource."""
