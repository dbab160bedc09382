"""The host's own interfaces, one kernel or system interface a module."""
