"""The container engine of a host: its configuration, whose it is, and what it leaves behind."""
