"""Bailey's core: everything a host needs to hold tenants behind their limits.

Nothing here imports Ansible. Who may import whom is drawn in docs/architecture.md.
"""
