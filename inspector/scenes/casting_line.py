"""stub"""
from inspector.scenes.board_line import BoardProduct as CastingProduct
