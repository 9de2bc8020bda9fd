#!/usr/bin/env python3
"""Convert a Hugging Face checkpoint to `NAME.m` beside this script.

usage: convert-hf.py FOLDER|hf://OWNER/NAME q40|q80|f16|f32 NAME [--low-memory] [--output PATH] [--force] [--json]
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from dllama_glm.convert import main  # noqa: E402 - the package lies beside this folder, wherever that is

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], default_folder=HERE))
