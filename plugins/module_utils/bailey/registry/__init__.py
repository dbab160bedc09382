"""The private image registry: its authority, accounts and configuration."""
