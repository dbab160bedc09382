"""The bench's third part: what the tenants' network costs, at the gate and for each packet."""
