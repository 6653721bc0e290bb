"""A make-believe outside: Forge, hero_compute, web gateways, machines and the overlay between them, on loopback.

All behaviour lives in plain objects (`World`, `Forge`, `Compute`, `Machine`, `FrontDoor`) that know no socket; thin
servers above them speak real HTTP, SSH and SOCKS5. It imports nothing of the controller: it stands in for what the
controller cannot see into.
"""
