"""The access log: who talked to what, a line of JSON for each connection and each instance concerned."""
