"""The firewall in nftables: what its tables hold, and the one writer of them."""
