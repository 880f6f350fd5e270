"""Puts the modules beside it into reach: tests here say `from nodes import node`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
