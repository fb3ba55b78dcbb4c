"""Procedural parts on a line: surfaces, light, variation, and defects whose place and kind are known."""
