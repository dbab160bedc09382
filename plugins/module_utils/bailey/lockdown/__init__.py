"""What a host and its kernel are told to refuse to tenants beyond their limits."""
