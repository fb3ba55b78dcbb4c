"""Servers on loopback that check requests as the providers publish them, and answer like them, errors included."""
