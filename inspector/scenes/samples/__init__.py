"""An endless stream of varied parts and surfaces for training: small, fast, with exact defect masks."""
